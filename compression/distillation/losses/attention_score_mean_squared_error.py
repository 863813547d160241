"""Squared distance between raw attention scores."""

import torch
from torch.nn import functional

from compression.distillation.losses.averaging import Average, Form, average_tokens, check_shapes

_RELEASED_THRESHOLD = -1e2  # scores up to here are taken for padding by TinyBERT's released code


def attention_score_mean_squared_error(
    student_scores: torch.Tensor,
    teacher_scores: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    *,
    average: Average = "examples",
    form: Form = "paper",
) -> torch.Tensor:
    r"""Mean squared error between attention scores before the softmax.

    .. math:: L_{attn} = \frac{1}{h} \sum_{i=1}^{h} MSE(A^S_i, A^T_i), \quad A = Q K^\top / \sqrt{d_k}

    The mean runs over heads and over pairs of a real query and a real key: padding counts neither as key nor as query.
    `attention_distribution_divergence` compares the attention after the softmax instead.

    Source: TinyBERT, arXiv:1909.10351, eq. 7. Its released code adds the mask to the scores, sets every score up to
    -100 to 0 in student and teacher and averages over all pairs, padding included, so that padded keys count as 0 and
    padded queries as what they are (`form="released"`).

    Args:
        student_scores: [b, h, l, l], query by key, before mask and softmax.
        teacher_scores: [b, h, l, l]; no gradient flows to it. `average_groups` evens out numbers of heads.
        attention_mask: [b, l], 1 for real word pieces and 0 for padding; None when all are real.
        average: whether examples or word pieces (as queries) weigh the same.
        form: `released` for TinyBERT's released code.

    Returns:
        Scalar, in fp32.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> student, teacher = torch.zeros(1, 1, 2, 2), torch.tensor([[[[3.0, 9.0], [9.0, 9.0]]]])
        >>> attention_score_mean_squared_error(student, teacher, torch.tensor([[1, 0]])).item()
        9.0
    """
    check_shapes(student_scores, teacher_scores, "attention scores")
    student, teacher = student_scores.float(), teacher_scores.detach().float()
    padded = None if attention_mask is None else ~attention_mask.bool()
    if form == "released":
        return functional.mse_loss(_thresholded(student, padded), _thresholded(teacher, padded))
    errors = functional.mse_loss(student, teacher, reduction="none").mean(dim=1)
    if padded is None:
        return errors.mean()
    keys = (~padded).sum(dim=1, keepdim=True).clamp(min=1)
    by_query = errors.masked_fill(padded[:, None, :], 0.0).sum(dim=-1) / keys
    return average_tokens(by_query, attention_mask, average)


def _thresholded(scores: torch.Tensor, padded: torch.Tensor | None) -> torch.Tensor:
    ignored = scores <= _RELEASED_THRESHOLD
    if padded is not None:
        ignored = ignored | padded[:, None, None, :]
    return scores.masked_fill(ignored, 0.0)
