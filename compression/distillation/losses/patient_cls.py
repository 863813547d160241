"""Distance between normalised [CLS] states of several layers."""

import torch
from torch.nn import functional

from compression.distillation.losses.averaging import Form, check_shapes


def patient_cls(student_cls: torch.Tensor, teacher_cls: torch.Tensor, form: Form = "paper") -> torch.Tensor:
    r"""Squared distance of normalised [CLS] states, summed over layers and averaged over examples.

    .. math:: L_{PT} = \frac{1}{b} \sum_{n=1}^{b} \sum_{j=1}^{m}
              \left|\left| \frac{h^S_{n,j}}{||h^S_{n,j}||} - \frac{h^T_{n,I(j)}}{||h^T_{n,I(j)}||} \right|\right|_2^2

    Twice the sum over layers of one minus their cosine (`hidden_cosine` at [CLS]). The first word piece is never
    padding, so there is no mask.

    Source: Patient Knowledge Distillation, arXiv:1908.09355, section 3.2 (:math:`L_{PT}`), which sums
    over examples. Its released code takes the mean over layers and dimensions, too, which divides by m d
    (`form="released"`).

    Args:
        student_cls: [b, m, d] states of the first word piece after m layers.
        teacher_cls: [b, m, d] after the layers mapped to them; no gradient flows to it.
        form: `released` for the mean over layers and dimensions.

    Returns:
        Scalar, in fp32.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> patient_cls(torch.tensor([[[2.0, 0.0]]]), torch.tensor([[[0.0, 3.0]]])).item()
        2.0
    """
    check_shapes(student_cls, teacher_cls, "[CLS] states")
    student = functional.normalize(student_cls.float(), dim=-1)
    teacher = functional.normalize(teacher_cls.detach().float(), dim=-1)
    errors = functional.mse_loss(student, teacher, reduction="none")
    return errors.mean() if form == "released" else errors.sum(dim=(1, 2)).mean()
