"""Evens out the numbers of heads of student and teacher before they are compared."""

import torch


def average_groups(by_head: torch.Tensor, size: int) -> torch.Tensor:
    """Mean of groups of neighbouring heads (the rule `group-mean` of a layer mapping).

    Args:
        by_head: [b, h, ...], such as attention scores or distributions.
        size: heads a group, a divisor of h; `head_groups` finds it.

    Returns:
        [b, h / size, ...]; the tensor itself for groups of one.

    Example:
        >>> average_groups(torch.tensor([[1.0, 3.0, 10.0, 20.0]]), 2)
        tensor([[ 2., 15.]])
    """
    return by_head if size == 1 else torch.unflatten(by_head, 1, (-1, size)).mean(dim=2)
