"""From one number a word piece to one number a batch, padding left out."""

from typing import Literal

import torch

Average = Literal["examples", "tokens"]
Form = Literal["paper", "released"]


def average_tokens(
    values: torch.Tensor, attention_mask: torch.Tensor | None, average: Average = "examples"
) -> torch.Tensor:
    r"""Mean of a loss over real word pieces.

    .. math:: \frac{1}{b} \sum_n \frac{1}{l_n} \sum_{i \le l_n} v_{ni} \quad\text{(examples)},
              \qquad \frac{\sum_n \sum_{i \le l_n} v_{ni}}{\sum_n l_n} \quad\text{(tokens)}

    Averaged over examples, a batch that is split into micro-batches gives the gradient of the whole batch, and a long
    text weighs no more than a short one. Averaged over tokens, every word piece of a batch weighs the same.

    Args:
        values: [b, l] loss of each word piece.
        attention_mask: [b, l], 1 for real word pieces and 0 for padding; None when all are real.
        average: what has the same weight.

    Returns:
        Scalar of the values' type. An example without real word pieces counts as 0.

    Example:
        >>> values, mask = torch.tensor([[1.0, 3.0], [8.0, 9.0]]), torch.tensor([[1, 1], [1, 0]])
        >>> average_tokens(values, mask).item(), average_tokens(values, mask, "tokens").item()
        (5.0, 4.0)
    """
    if attention_mask is None:
        return values.mean()
    real = attention_mask.bool()
    kept = values.masked_fill(~real, 0.0)
    if average == "tokens":
        return kept.sum() / real.sum().clamp(min=1)
    return (kept.sum(dim=1) / real.sum(dim=1).clamp(min=1)).mean()


def check_shapes(student: torch.Tensor, teacher: torch.Tensor, what: str) -> None:
    """Refuse tensors of different shapes, which torch would broadcast against each other.

    Args:
        student: the student's tensor.
        teacher: the teacher's.
        what: name of both in the message.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> check_shapes(torch.zeros(2, 3), torch.zeros(2, 3), "logits")
    """
    if student.shape != teacher.shape:
        raise ValueError(f"student {what} {tuple(student.shape)}, teacher's {tuple(teacher.shape)}")
