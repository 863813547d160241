"""Cross-entropy to a teacher's probabilities of labels of which several may hold."""

import torch
from torch.nn import functional

from compression.distillation.losses.averaging import check_shapes


def soft_binary_cross_entropy(
    student_logits: torch.Tensor, teacher_logits: torch.Tensor, temperature: float = 1.0
) -> torch.Tensor:
    r"""Soft binary cross-entropy, averaged over examples and labels.

    .. math:: L = -\frac{T^2}{b k} \sum_{n=1}^{b} \sum_{c=1}^{k} q_T \log q_S + (1 - q_T) \log (1 - q_S), \quad
              q = \sigma(z / T)

    `soft_cross_entropy` for labels that do not exclude each other: each is a distribution of its own. Its mean over
    labels is that of the loss against gold labels.

    Source: Hinton et al. 2015, arXiv:1503.02531, section 2, for two classes with logits z and 0.

    Args:
        student_logits: [b, k].
        teacher_logits: [b, k]; no gradient flows to it.
        temperature: T, positive.

    Returns:
        Scalar, in fp32.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> soft_binary_cross_entropy(torch.zeros(2, 3), torch.zeros(2, 3)).item()  # log(2)
        0.6931471824645996
    """
    check_shapes(student_logits, teacher_logits, "logits")
    targets = torch.sigmoid(teacher_logits.detach().float() / temperature)
    loss = functional.binary_cross_entropy_with_logits(student_logits.float() / temperature, targets)
    return loss * temperature**2
