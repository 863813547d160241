"""Divergence between relations of value vectors."""

import math

import torch

from compression.distillation.heads import average_groups
from compression.distillation.losses.attention_distribution_divergence import attention_distribution_divergence
from compression.distillation.losses.averaging import Average


def value_relation_divergence(
    student_values: torch.Tensor,
    teacher_values: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    average: Average = "examples",
    groups: tuple[int, int] = (1, 1),
) -> torch.Tensor:
    r"""Kullback-Leibler divergence of value relations, averaged over heads and real word pieces.

    .. math:: L_{VR} = \frac{1}{A_h |x|} \sum_{a=1}^{A_h} \sum_{t=1}^{|x|} KL(VR^T_{a,t} || VR^S_{a,t}), \quad
              VR = softmax(V V^\top / \sqrt{d_k})

    Relations have the shape of attention whatever the width of the heads, so student and teacher may differ in width
    and need no projection. MiniLM adds it to `attention_distribution_divergence`, both at the last layers.

    Source: MiniLM, arXiv:2002.10957, section 3.2 (:math:`L_{VR}`).

    Args:
        student_values: [b, h, l, d'] value vectors by head.
        teacher_values: [b, h, l, d]; no gradient flows to it.
        attention_mask: [b, l], 1 for real word pieces and 0 for padding; None when all are real.
        average: whether examples or word pieces weigh the same.
        groups: heads of student and teacher whose products are averaged before the softmax, see `head_groups`.

    Returns:
        Scalar, in fp32.

    Raises:
        ValueError: batch, heads (after averaging) or lengths differ.

    Example:
        >>> values = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]])
        >>> value_relation_divergence(-values, values).item()  # products of pairs are the same
        0.0
    """
    student = average_groups(value_relations(student_values), groups[0])
    teacher = average_groups(value_relations(teacher_values.detach()), groups[1])
    return attention_distribution_divergence(student, teacher, attention_mask, average)


def value_relations(values: torch.Tensor) -> torch.Tensor:
    """Scaled products of all pairs of value vectors of a head.

    Args:
        values: [b, h, l, d].

    Returns:
        [b, h, l, l], before the softmax.

    Example:
        >>> value_relations(torch.full((1, 1, 2, 4), 1.0))
        tensor([[[[2., 2.],
                  [2., 2.]]]])
    """
    return values @ values.transpose(-1, -2) / math.sqrt(values.shape[-1])
