"""Best approximation of a matrix by one of lower rank, plain or weighted."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Decomposition:
    """A matrix M with an orthonormal basis of its columns, ordered by what each direction contributes.

    Attributes:
        matrix: (outputs, inputs) M, in double precision.
        basis: (outputs, k) left singular vectors of M·L, L being the weights.
        singular_values: (k,) singular values of M·L, descending.
    """

    matrix: Tensor
    basis: Tensor
    singular_values: Tensor

    def tail(self, rank: int) -> float:
        """What an approximation leaves out, by Eckart and Young (1936).

        Args:
            rank: rank of the approximation.

        Returns:
            √(Σ_{i>rank} σᵢ² / Σ σᵢ²): its relative error in the (weighted) Frobenius norm; 0 of a matrix of zeros.
        """
        squares = self.singular_values.square()
        total = float(squares.sum())
        return float((squares[rank:].sum() / total).sqrt()) if total > 0 else 0.0

    def rank_for(self, energy: float) -> int:
        """The smallest rank, 1 at least, that keeps a share of the squared singular values.

        Args:
            energy: the share, above 0 and at most 1.

        Returns:
            The rank.
        """
        squares = self.singular_values.square()
        left = squares.sum() - squares.cumsum(0)
        # A share of 1 is met where nothing but rounding is left.
        enough = left <= (1 - energy + 1e-12) * squares.sum()
        return int(enough.nonzero()[0]) + 1

    def factors(self, rank: int) -> tuple[Tensor, Tensor]:
        """The factors of the best approximation M ≈ up · down.

        Each singular value is split evenly between both, so that neither learns faster than the other in what training
        follows (Khodak et al. 2021, arXiv:2105.01029, spectral initialisation).

        Args:
            rank: rank of the approximation.

        Returns:
            up (outputs, rank) and down (rank, inputs), in single precision.
        """
        up = self.basis[:, :rank]
        down = up.T @ self.matrix
        root = down.norm(dim=1).sqrt()
        root = torch.where(root > 0, root, torch.ones_like(root))
        return (up * root).float().contiguous(), (down / root[:, None]).float().contiguous()


def decompose(matrix: Tensor, weights: Tensor | None = None) -> Decomposition:
    """Decompose a matrix for approximations that minimise ‖(M − M̂)·L‖ in the Frobenius norm.

    With U the left singular vectors of M·L, the best M̂ of rank r is U_r·U_rᵀ·M: then M̂·L is the truncated singular
    value decomposition of M·L. L may be singular; it is never inverted.

    Args:
        matrix: (outputs, inputs) M.
        weights: L in double precision: (inputs,) a diagonal, or (inputs, k); None for the identity, the plain truncated
            decomposition.

    Returns:
        The decomposition, on the CPU.

    Example:
        >>> found = decompose(torch.tensor([[3.0, 0.0], [0.0, 4.0]]))
        >>> round(found.tail(1), 3)
        0.6
        >>> up, down = found.factors(1)
        >>> torch.allclose(up @ down, torch.tensor([[0.0, 0.0], [0.0, 4.0]]), atol=1e-6)
        True
    """
    weighted = _weighted(matrix, weights)
    if weighted.shape[1] > weighted.shape[0]:
        # A wide matrix has the left singular vectors of its small triangular factor, which is much less work.
        weighted = torch.linalg.qr(weighted.T, mode="r").R.T
    basis, singular_values, _ = torch.linalg.svd(weighted, full_matrices=False)
    return Decomposition(_weighted(matrix, None), basis, singular_values)


def relative_error(matrix: Tensor, approximation: Tensor, weights: Tensor | None = None) -> float:
    """‖(M − M̂)·L‖ / ‖M·L‖ in the Frobenius norm.

    Args:
        matrix: (outputs, inputs) M.
        approximation: M̂, of the same shape.
        weights: L as in `decompose`.

    Returns:
        The relative error; 0 of a matrix of zeros.

    Example:
        >>> relative_error(torch.eye(2), torch.zeros(2, 2))
        1.0
    """
    exact = _weighted(matrix, weights)
    difference = _weighted(matrix.double() - approximation.double(), weights)
    size = float(exact.norm())
    return float(difference.norm()) / size if size > 0 else 0.0


def _weighted(matrix: Tensor, weights: Tensor | None) -> Tensor:
    """M·L in double precision on the CPU."""
    matrix = matrix.detach().to("cpu", torch.float64)
    if weights is None:
        return matrix
    return matrix * weights if weights.dim() == 1 else matrix @ weights
