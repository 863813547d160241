"""Angles between the examples of a batch, as student and teacher see them."""

import torch
from torch.nn import functional

from compression.distillation.losses.relational_distance import check_same_examples


def relational_angle(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    r"""Huber loss between the angles of all triples of examples.

    .. math:: L = mean_{i, j, k} \, l_\delta\left(\cos \angle x^S_i x^S_j x^S_k, \cos \angle x^T_i x^T_j x^T_k\right)

    The triples have three different examples, :math:`l_\delta` is the Huber loss with :math:`\delta = 1`. Widths may
    differ and need no projection. `relational_distance` compares pairs; the paper weighs angles twice as much.

    Examples of one micro-batch are compared with each other: with accumulation there are fewer triples.

    Source: Relational Knowledge Distillation, arXiv:1904.05068, section 3.2.2, which sums over triples of distinct
    examples. Its released code takes the mean over all b^3 triples, those that repeat an example included.

    Args:
        student: [b, d'] one vector an example, such as the [CLS] state.
        teacher: [b, d]; no gradient flows to it.

    Returns:
        Scalar, in fp32; 0 for fewer than three examples.

    Raises:
        ValueError: the numbers of examples differ.

    Example:
        >>> corner = torch.tensor([[0.0, 1.0], [0.0, 0.0], [1.0, 0.0]])
        >>> relational_angle(3 * corner, corner).item() < 1e-9  # the size does not count
        True
    """
    check_same_examples(student, teacher)
    count = len(student)
    if count < 3:
        return 0.0 * student.float().sum()
    total = functional.smooth_l1_loss(_cosines(student), _cosines(teacher.detach()), reduction="sum")
    return total / (count * (count - 1) * (count - 2))  # triples that repeat an example are alike in both: they add 0


def _cosines(points: torch.Tensor) -> torch.Tensor:
    """[j, i, k]: cosine of the angle at example j between i and k."""
    points = points.float()
    directions = functional.normalize(points[None, :, :] - points[:, None, :], dim=-1)
    return directions @ directions.transpose(1, 2)
