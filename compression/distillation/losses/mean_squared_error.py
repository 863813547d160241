"""Squared distance to a teacher's outputs."""

import torch
from torch.nn import functional

from compression.distillation.losses.averaging import check_shapes


def mean_squared_error(student_outputs: torch.Tensor, teacher_outputs: torch.Tensor) -> torch.Tensor:
    """Mean squared error over all elements: how a regression task is distilled.

    Args:
        student_outputs: any shape.
        teacher_outputs: the same shape; no gradient flows to it.

    Returns:
        Scalar, in fp32.

    Raises:
        ValueError: the shapes differ; torch would broadcast [b, 1] against [b] and compare every pair of rows.

    Example:
        >>> mean_squared_error(torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0], [4.0]])).item()
        2.0
    """
    check_shapes(student_outputs, teacher_outputs, "outputs")
    return functional.mse_loss(student_outputs.float(), teacher_outputs.detach().float())
