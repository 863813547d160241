"""What a factorisation did to each matrix, before any training."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class MatrixReport:
    """One matrix.

    Attributes:
        name: `embedding`, or the name of a linear map.
        outputs: rows of the matrix; hidden size of the embedding.
        inputs: columns; vocabulary of the embedding.
        rank: its rank after the stage; None when it is dense.
        parameters_before: its weights, biases left out.
        parameters_after: the same after the stage.
        norm: Frobenius norm of the matrix before.
        relative_error: ‖M − M̂‖ / ‖M‖ in the Frobenius norm, of the factors as they are stored.
        tail: √(Σ_{i>rank} σᵢ² / Σ σᵢ²), what the singular values foretell: of the weighted matrix with a weighting.
        weighted_error: ‖(M − M̂)·L‖ / ‖M·L‖ with the weights L; None without a weighting.
        kept_because: why the matrix was left as it was; empty when it was not.
    """

    name: str
    outputs: int
    inputs: int
    rank: int | None
    parameters_before: int
    parameters_after: int
    norm: float
    relative_error: float
    tail: float
    weighted_error: float | None
    kept_because: str

    @property
    def part(self) -> str:
        """`embedding`, `attention` or `feed_forward`."""
        return self.name.partition(".")[0]


@dataclass(frozen=True)
class FactorizationReport:
    """All matrices that the stage was asked to factorise.

    Attributes:
        matrices: one by one.
        parameters_before: parameters of the whole model.
        parameters_after: the same after the stage.
    """

    matrices: tuple[MatrixReport, ...]
    parameters_before: int
    parameters_after: int

    def relative_error(self, part: str) -> float:
        """Error of all matrices of a part together, those that were left as they were included.

        Args:
            part: `embedding`, `attention` or `feed_forward`.

        Returns:
            √(Σ ‖M − M̂‖² / Σ ‖M‖²) in the Frobenius norm.
        """
        members = self._members(part)
        return _together(members, [matrix.relative_error for matrix in members])

    def details(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        return asdict(self)

    def summary(self) -> dict[str, Any]:
        """The numbers that a table or a run page shows: by part, in a few hundred bytes.

        Returns:
            `parameters`, `parameters_before`, and `factorization`: for each part the errors and the tail of all its
            matrices together (root mean squares, larger matrices weighing more), the mean rank, weights before and
            after, and the number of matrices that were left as they were; and the reason for the first of them.
        """
        parts = {part: self._part(part) for part in dict.fromkeys(matrix.part for matrix in self.matrices)}
        reasons = [matrix.kept_because for matrix in self.matrices if matrix.kept_because]
        said = {"kept_because": reasons[0]} if reasons else {}
        sizes = {"parameters": self.parameters_after, "parameters_before": self.parameters_before}
        return sizes | {"factorization": parts | said}

    def _members(self, part: str) -> list[MatrixReport]:
        return [matrix for matrix in self.matrices if matrix.part == part]

    def _part(self, part: str) -> dict[str, float]:
        members = self._members(part)
        ranks = [matrix.rank for matrix in members if matrix.rank is not None]
        weighted = [matrix.weighted_error for matrix in members if matrix.weighted_error is not None]
        return {
            "relative_error": self.relative_error(part),
            "tail": _together(members, [matrix.tail for matrix in members]),
            **({"weighted_error": _together(members, weighted)} if weighted else {}),
            **({"mean_rank": sum(ranks) / len(ranks)} if ranks else {}),
            "weights_before": sum(matrix.parameters_before for matrix in members),
            "weights_after": sum(matrix.parameters_after for matrix in members),
            "kept": sum(bool(matrix.kept_because) for matrix in members),
        }


def _together(members: Sequence[MatrixReport], errors: Sequence[float]) -> float:
    """Root mean square of relative errors, each matrix counting by its squared norm."""
    total = sum(matrix.norm**2 for matrix in members)
    missed = sum((error * matrix.norm) ** 2 for error, matrix in zip(errors, members, strict=True))
    return math.sqrt(missed / total) if total else 0.0
