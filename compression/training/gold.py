"""The loss against gold labels."""

import torch
from torch.nn import functional


def gold_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy for classes, mean squared error for numbers; averaged over examples.

    Args:
        logits: [b, k] outputs; k is 1 for regression.
        labels: [b] class indices (integers), or values (floating point).

    Returns:
        Scalar, in fp32.

    Example:
        >>> gold_loss(torch.tensor([[0.0, 0.0]]), torch.tensor([1])).item()
        0.6931471824645996
        >>> gold_loss(torch.tensor([[1.0], [2.0]]), torch.tensor([1.0, 4.0])).item()
        2.0
    """
    if labels.is_floating_point():
        # Without the reshape [b, 1] - [b] would be a [b, b] table of differences.
        return functional.mse_loss(logits.float().reshape(labels.shape), labels.float())
    return functional.cross_entropy(logits.float(), labels)
