"""Cross-entropy to a teacher's softened distribution."""

import torch
from torch.nn import functional


def soft_cross_entropy(
    student_logits: torch.Tensor, teacher_logits: torch.Tensor, temperature: float = 1.0
) -> torch.Tensor:
    r"""Soft cross-entropy, averaged over examples.

    .. math:: L = -\frac{T^2}{b} \sum_{n=1}^{b} \sum_{c=1}^{k} p_T(n, c) \log p_S(n, c), \quad p = softmax(z / T)

    Its gradient is that of :math:`T^2 KL(p_T || p_S)`, from which it differs by the teacher's entropy. The factor
    :math:`T^2` keeps the size of the gradient when T changes.

    Source: Hinton et al. 2015, arXiv:1503.02531, section 2; TinyBERT, arXiv:1909.10351, eq. 10. TinyBERT's released
    code averages over classes too and so divides by k.

    Args:
        student_logits: [b, k].
        teacher_logits: [b, k]; no gradient flows to it.
        temperature: T, positive.

    Returns:
        Scalar, in fp32.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> soft_cross_entropy(torch.zeros(2, 4), torch.zeros(2, 4)).item()  # log(4)
        1.3862943649291992
    """
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(f"student logits {tuple(student_logits.shape)}, teacher's {tuple(teacher_logits.shape)}")
    targets = functional.softmax(teacher_logits.detach().float() / temperature, dim=-1)
    log_probabilities = functional.log_softmax(student_logits.float() / temperature, dim=-1)
    return -(targets * log_probabilities).sum(dim=-1).mean() * temperature**2
