"""Cross-entropy to a teacher's distributions of where an answer starts and ends."""

import torch
from torch.nn import functional

from compression.distillation.losses.averaging import check_shapes


def span_soft_cross_entropy(
    student_logits: torch.Tensor,
    teacher_logits: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    temperature: float = 1.0,
) -> torch.Tensor:
    r"""Soft cross-entropy over the positions of a window, mean of start and end, averaged over windows.

    .. math:: L = -\frac{T^2}{2b} \sum_{n=1}^{b} \sum_{e \in \{start, end\}} \sum_{i} p_T(n, e, i) \log p_S(n, e, i),
              \quad p = softmax_i(z / T)

    `soft_cross_entropy` with word pieces for classes; padding has no probability. Its gradient is that of
    :math:`T^2 (KL_{start} + KL_{end}) / 2`.

    Source: DistilBERT, arXiv:1910.01108, section 4.1, DistilBERT (D); its released code for SQuAD takes the
    divergences, with T = 2 and half the weight each for them and for the gold spans.

    Args:
        student_logits: [b, l, 2] start and end logits.
        teacher_logits: [b, l, 2]; no gradient flows to it.
        attention_mask: [b, l], 1 for real word pieces and 0 for padding; None when all are real.
        temperature: T, positive.

    Returns:
        Scalar, in fp32.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> mask = torch.tensor([[1, 1, 0]])
        >>> span_soft_cross_entropy(torch.zeros(1, 3, 2), torch.zeros(1, 3, 2), mask).item()  # log(2)
        0.6931471824645996
    """
    check_shapes(student_logits, teacher_logits, "logits")
    targets = functional.softmax(_scaled(teacher_logits.detach(), attention_mask, temperature), dim=1)
    log_probabilities = functional.log_softmax(_scaled(student_logits, attention_mask, temperature), dim=1)
    return -(targets * log_probabilities).sum(dim=1).mean() * temperature**2


def _scaled(logits: torch.Tensor, attention_mask: torch.Tensor | None, temperature: float) -> torch.Tensor:
    """Divided before padding is masked: the most negative number over a T below 1 would be minus infinity."""
    scaled = logits.float() / temperature
    if attention_mask is None:
        return scaled
    return scaled.masked_fill(attention_mask[:, :, None] == 0, torch.finfo(torch.float32).min)
