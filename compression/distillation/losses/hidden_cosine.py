"""Angle between the hidden states of student and teacher."""

import torch
from torch.nn import functional

from compression.distillation.losses.averaging import Average, average_tokens, check_shapes


def hidden_cosine(
    student_hidden: torch.Tensor,
    teacher_hidden: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    average: Average = "examples",
) -> torch.Tensor:
    r"""One minus the cosine of hidden states, averaged over real word pieces.

    .. math:: L = mean_i \left(1 - \frac{h^S_i \cdot h^T_i}{||h^S_i|| \, ||h^T_i||}\right)

    Compares directions only, where `hidden_mean_squared_error` compares lengths, too. Student and teacher have the
    same width; DistilBERT compares the last layers.

    Source: DistilBERT, arXiv:1910.01108, section 3 (:math:`L_{cos}`); its released code averages over the real tokens
    of a micro-batch (`average="tokens"`).

    Args:
        student_hidden: [b, l, d].
        teacher_hidden: [b, l, d]; no gradient flows to it.
        attention_mask: [b, l], 1 for real word pieces and 0 for padding; None when all are real.
        average: whether examples or word pieces weigh the same.

    Returns:
        Scalar between 0 and 2, in fp32.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> hidden_cosine(torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, 5.0]]])).item()
        1.0
    """
    check_shapes(student_hidden, teacher_hidden, "hidden states")
    cosine = functional.cosine_similarity(student_hidden.float(), teacher_hidden.detach().float(), dim=-1)
    return average_tokens(1.0 - cosine, attention_mask, average)
