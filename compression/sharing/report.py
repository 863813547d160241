"""What sharing did, before any training."""

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class BlockReport:
    """A block that a group of layers shares.

    Attributes:
        kind: `attention` or `feed_forward`.
        layers: layers that use it, from 0.
        origin: layer that its weights come from; None for a mean.
        distances: for each of these layers ‖shared − own‖ / ‖own‖ over all weights of its own block, in the Frobenius
            norm; a factorised map counts by its product.
        errors: for each layer the mean squared error of the group's hidden states with its weights; empty unless the
            best layer was looked for.
    """

    kind: str
    layers: tuple[int, ...]
    origin: int | None
    distances: tuple[float, ...]
    errors: tuple[float, ...] = ()


@dataclass(frozen=True)
class SharingReport:
    """All shared blocks.

    Attributes:
        blocks: one by one.
        parameters_before: parameters of the whole model.
        parameters_after: the same after the stage.
    """

    blocks: tuple[BlockReport, ...]
    parameters_before: int
    parameters_after: int

    def distance(self, kind: str) -> float:
        """Root mean square of the distances of all layers' blocks of a kind.

        Args:
            kind: `attention` or `feed_forward`.

        Returns:
            The distance; 0 where nothing of the kind is shared.
        """
        distances = [distance for block in self.blocks if block.kind == kind for distance in block.distances]
        return math.sqrt(sum(distance**2 for distance in distances) / len(distances)) if distances else 0.0

    def details(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        return asdict(self)

    def summary(self) -> dict[str, Any]:
        """The numbers that a table or a run page shows.

        Returns:
            `parameters`, `parameters_before`, and `sharing` with the distance by kind and, where the best layer was
            looked for, the mean error of the chosen ones.
        """
        kinds = dict.fromkeys(block.kind for block in self.blocks)
        sharing: dict[str, float] = {f"{kind}_distance": self.distance(kind) for kind in kinds}
        errors = [min(block.errors) for block in self.blocks if block.errors]
        if errors:
            sharing["hidden_state_error"] = sum(errors) / len(errors)
        return {
            "parameters": self.parameters_after,
            "parameters_before": self.parameters_before,
            "sharing": sharing,
        }
