"""Cross-entropy to a teacher's softened distribution."""

import torch
from torch.nn import functional

from compression.distillation.losses.averaging import Form, check_shapes


def soft_cross_entropy(
    student_logits: torch.Tensor, teacher_logits: torch.Tensor, temperature: float = 1.0, form: Form = "paper"
) -> torch.Tensor:
    r"""Soft cross-entropy, averaged over examples.

    .. math:: L = -\frac{T^2}{b} \sum_{n=1}^{b} \sum_{c=1}^{k} p_T(n, c) \log p_S(n, c), \quad p = softmax(z / T)

    Its gradient is that of :math:`T^2 KL(p_T || p_S)` (`kl_divergence`), from which it differs by the teacher's
    entropy. The factor :math:`T^2` keeps the size of the gradient when T changes.

    Source: Hinton et al. 2015, arXiv:1503.02531, section 2; TinyBERT, arXiv:1909.10351, eq. 10. TinyBERT's released
    code averages over classes too, and so divides by k, and has no factor :math:`T^2`.

    Args:
        student_logits: [b, k].
        teacher_logits: [b, k]; no gradient flows to it.
        temperature: T, positive.
        form: `released` for TinyBERT's released code, `paper` for the equation.

    Returns:
        Scalar, in fp32.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> soft_cross_entropy(torch.zeros(2, 4), torch.zeros(2, 4)).item()  # log(4)
        1.3862943649291992
        >>> soft_cross_entropy(torch.zeros(2, 4), torch.zeros(2, 4), form="released").item()
        0.3465735912322998
    """
    check_shapes(student_logits, teacher_logits, "logits")
    targets = functional.softmax(teacher_logits.detach().float() / temperature, dim=-1)
    log_probabilities = functional.log_softmax(student_logits.float() / temperature, dim=-1)
    by_class = -targets * log_probabilities
    return by_class.mean() if form == "released" else by_class.sum(dim=-1).mean() * temperature**2
