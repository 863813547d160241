"""Squared distance between embedding outputs, through a learned projection."""

import torch
from torch import nn

from compression.distillation.losses.averaging import Average, Form
from compression.distillation.losses.hidden_mean_squared_error import hidden_mean_squared_error


def embedding_mean_squared_error(
    student_embeddings: torch.Tensor,
    teacher_embeddings: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    projection: nn.Module | None = None,
    *,
    average: Average = "examples",
    form: Form = "paper",
) -> torch.Tensor:
    r"""Mean squared error between a student's projected embeddings and its teacher's.

    .. math:: L_{embd} = MSE(E^S W_e, E^T), \quad W_e \in R^{d' \times d}

    E is what the first layer reads: the normalised sum of word, position and token-type embeddings, number 0 of the
    hidden states. The maths is that of `hidden_mean_squared_error`, with a projection :math:`W_e` of its own.

    Source: TinyBERT, arXiv:1909.10351, eq. 9. Its released code shares one projection with bias between the embeddings
    and all layers (`Projections`), and includes padding positions in the mean (`form="released"`).

    Args:
        student_embeddings: [b, l, d'].
        teacher_embeddings: [b, l, d]; no gradient flows to it.
        attention_mask: [b, l], 1 for real word pieces and 0 for padding; None when all are real.
        projection: map [b, l, d'] -> [b, l, d]; None compares as it is, which needs d' = d.
        average: whether examples or word pieces weigh the same.
        form: `released` for TinyBERT's released code, where the mask has no effect.

    Returns:
        Scalar, in fp32.

    Raises:
        ValueError: the shapes differ after projection.

    Example:
        >>> embedding_mean_squared_error(torch.zeros(1, 2, 3), torch.full((1, 2, 3), 2.0)).item()
        4.0
    """
    return hidden_mean_squared_error(
        student_embeddings, teacher_embeddings, attention_mask, projection, average=average, form=form
    )
