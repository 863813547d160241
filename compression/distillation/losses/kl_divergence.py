"""Divergence of a student's softened distribution from its teacher's, token by token."""

import torch
from torch.nn import functional

from compression.distillation.losses.averaging import check_shapes


def kl_divergence(
    student_logits: torch.Tensor,
    teacher_logits: torch.Tensor,
    temperature: float = 1.0,
    selected: torch.Tensor | None = None,
) -> torch.Tensor:
    r"""Kullback-Leibler divergence at a temperature, averaged over the selected rows.

    .. math:: L = \frac{T^2}{|R|} \sum_{r \in R} \sum_{v} p_T(r, v) \log \frac{p_T(r, v)}{p_S(r, v)}, \quad
              p = softmax(z / T)

    DistilBERT's :math:`L_{ce}` over the vocabulary: the rows are the real word pieces of a batch, or only the masked
    ones. It differs from `soft_cross_entropy` by the teacher's entropy: same gradient, and 0 when both agree.

    Source: DistilBERT, arXiv:1910.01108, section 3 (whose sum lacks its minus sign); its released code takes
    `KLDivLoss(reduction="batchmean")` over the selected word pieces, which is this.

    Args:
        student_logits: [..., k].
        teacher_logits: [..., k]; no gradient flows to it.
        temperature: T, positive.
        selected: [...], non-zero where a row counts; None when all rows do.

    Returns:
        Scalar, in fp32; 0 when no row is selected.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> kl_divergence(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 0.0]])).item()
        0.0
    """
    check_shapes(student_logits, teacher_logits, "logits")
    student, teacher = student_logits.flatten(0, -2), teacher_logits.flatten(0, -2)
    if selected is not None:
        rows = selected.flatten().bool()
        student, teacher = student[rows], teacher[rows]
    return kl_by_row(student, teacher, temperature).sum() / max(1, len(student))


def kl_by_row(student_logits: torch.Tensor, teacher_logits: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """The divergence of each row, times T^2.

    Args:
        student_logits: [n, k].
        teacher_logits: [n, k]; no gradient flows to it.
        temperature: T, positive.

    Returns:
        [n], in fp32.

    Example:
        >>> kl_by_row(torch.zeros(2, 3), torch.zeros(2, 3))
        tensor([0., 0.])
    """
    log_student = functional.log_softmax(student_logits.float() / temperature, dim=-1)
    log_teacher = functional.log_softmax(teacher_logits.detach().float() / temperature, dim=-1)
    return functional.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(dim=-1) * temperature**2
