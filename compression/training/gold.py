"""The loss against gold labels."""

import torch
from torch.nn import functional


def gold_loss(logits: torch.Tensor, labels: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
    """Cross-entropy for classes, spans and each of several labels, mean squared error for numbers; means over examples.

    Args:
        logits: [b, k] outputs; k is 1 for regression. [b, l, 2] start and end logits for spans.
        labels: [b] class indices (integers), or values (floating point); [b, k] 0 or 1 (floating point) of several
            labels; [b, 2] first and last word piece of a span (integers).
        attention_mask: [b, l], 1 for real word pieces and 0 for padding, which no span starts or ends on.

    Returns:
        Scalar, in fp32. Of several labels it is the mean over labels, too; of spans over start and end.

    Example:
        >>> gold_loss(torch.tensor([[0.0, 0.0]]), torch.tensor([1])).item()
        0.6931471824645996
        >>> gold_loss(torch.tensor([[1.0], [2.0]]), torch.tensor([1.0, 4.0])).item()
        2.0
        >>> gold_loss(torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 0.0]])).item()
        0.6931471824645996
        >>> gold_loss(torch.zeros(1, 3, 2), torch.tensor([[0, 1]]), torch.tensor([[1, 1, 0]])).item()
        0.6931471824645996
    """
    if logits.dim() == 3:
        return functional.cross_entropy(without_padding(logits, attention_mask), labels)
    if labels.is_floating_point():
        if labels.dim() == 2:
            return functional.binary_cross_entropy_with_logits(logits.float(), labels.float())
        # Without the reshape [b, 1] - [b] would be a [b, b] table of differences.
        return functional.mse_loss(logits.float().reshape(labels.shape), labels.float())
    return functional.cross_entropy(logits.float(), labels)


def without_padding(logits: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
    """Start and end logits in which padding has no probability, whatever else is in the batch.

    Args:
        logits: [b, l, 2] start and end logits.
        attention_mask: [b, l], 1 for real word pieces and 0 for padding; None when all are real.

    Returns:
        [b, l, 2] in fp32, the most negative number on padding.
    """
    logits = logits.float()
    if attention_mask is None:
        return logits
    return logits.masked_fill(attention_mask[:, :, None] == 0, torch.finfo(logits.dtype).min)
