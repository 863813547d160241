"""Squared distance between hidden states, through a learned projection."""

import torch
from torch import nn
from torch.nn import functional

from compression.distillation.losses.averaging import Average, Form, average_tokens, check_shapes


def hidden_mean_squared_error(
    student_hidden: torch.Tensor,
    teacher_hidden: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    projection: nn.Module | None = None,
    *,
    average: Average = "examples",
    form: Form = "paper",
) -> torch.Tensor:
    r"""Mean squared error between a student's projected hidden states and its teacher's.

    .. math:: L_{hidn} = MSE(H^S W_h, H^T), \quad W_h \in R^{d' \times d}

    The mean runs over the real word pieces and the teacher's d dimensions. The projection is learned along with the
    student and thrown away afterwards; `Projections` holds it. `embedding_mean_squared_error` is the same at the
    embeddings, `hidden_cosine` compares directions alone.

    Source: TinyBERT, arXiv:1909.10351, eq. 8. Its released code includes padding positions in the mean
    (`form="released"`).

    Args:
        student_hidden: [b, l, d'].
        teacher_hidden: [b, l, d]; no gradient flows to it.
        attention_mask: [b, l], 1 for real word pieces and 0 for padding; None when all are real.
        projection: map [b, l, d'] -> [b, l, d]; None compares as it is, which needs d' = d.
        average: whether examples or word pieces weigh the same.
        form: `released` for TinyBERT's released code, where the mask has no effect.

    Returns:
        Scalar, in fp32.

    Raises:
        ValueError: the shapes differ after projection.

    Example:
        >>> student, teacher = torch.zeros(1, 2, 3), torch.tensor([[[1.0, 1.0, 1.0], [9.0, 9.0, 9.0]]])
        >>> hidden_mean_squared_error(student, teacher, torch.tensor([[1, 0]])).item()
        1.0
    """
    projected = student_hidden if projection is None else projection(student_hidden)
    check_shapes(projected, teacher_hidden, "hidden states")
    errors = functional.mse_loss(projected.float(), teacher_hidden.detach().float(), reduction="none").mean(dim=-1)
    return average_tokens(errors, None if form == "released" else attention_mask, average)
