"""Distances between the examples of a batch, as student and teacher see them."""

import torch
from torch.nn import functional


def relational_distance(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    r"""Huber loss between normalised distances of all pairs of examples.

    .. math:: L = mean_{i \ne j} \, l_\delta\left(\psi^S_{ij}, \psi^T_{ij}\right), \quad
              \psi_{ij} = \frac{1}{\mu} ||x_i - x_j||_2

    :math:`\mu` is the mean distance of the batch, :math:`l_\delta` the Huber loss with :math:`\delta = 1`. Only
    relations count, so widths may differ and need no projection. `relational_angle` compares triples.

    Examples of one micro-batch are compared with each other: with accumulation there are fewer pairs.

    Source: Relational Knowledge Distillation, arXiv:1904.05068, section 3.2.1, which sums over pairs of distinct
    examples. Its released code counts the distance of an example to itself in the mean, too: (b - 1) / b times this.

    Args:
        student: [b, d'] one vector an example, such as the [CLS] state.
        teacher: [b, d]; no gradient flows to it.

    Returns:
        Scalar, in fp32; 0 for a single example.

    Raises:
        ValueError: the numbers of examples differ.

    Example:
        >>> points = torch.tensor([[0.0], [1.0], [3.0]])
        >>> relational_distance(7 * points, points).item()  # only proportions count
        0.0
    """
    check_same_examples(student, teacher)
    if len(student) == 1:
        return 0.0 * student.float().sum()
    return functional.smooth_l1_loss(_normalised_distances(student), _normalised_distances(teacher.detach()))


def check_same_examples(student: torch.Tensor, teacher: torch.Tensor) -> None:
    """Refuse batches of different sizes.

    Args:
        student: [b, d'].
        teacher: [b, d].

    Raises:
        ValueError: the numbers of examples differ.

    Example:
        >>> check_same_examples(torch.zeros(2, 3), torch.zeros(2, 5))
    """
    if len(student) != len(teacher):
        raise ValueError(f"student has {len(student)} examples, teacher {len(teacher)}")


def _normalised_distances(points: torch.Tensor) -> torch.Tensor:
    distances = torch.pdist(points.float())
    return distances / distances.mean().clamp(min=torch.finfo(torch.float32).tiny)
