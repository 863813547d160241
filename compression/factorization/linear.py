"""Factors of a linear map: W (outputs × inputs) becomes up · down."""

from collections.abc import Mapping

from torch import Tensor


def matrix(weights: Mapping[str, Tensor], module: str) -> Tensor:
    """The matrix of a linear map, the product of its factors where it has some.

    Args:
        weights: weights by name.
        module: name of the map among them.

    Returns:
        (outputs, inputs).
    """
    dense = weights.get(f"{module}.weight")
    return weights[f"{module}.up.weight"] @ weights[f"{module}.down.weight"] if dense is None else dense


def with_factors(weights: Mapping[str, Tensor], module: str, up: Tensor, down: Tensor) -> dict[str, Tensor]:
    """Weights with other factors of a linear map; its bias stays.

    Args:
        weights: weights by name.
        module: name of the map among them.
        up: (outputs, rank).
        down: (rank, inputs).

    Returns:
        The new weights.
    """
    old = [f"{module}.{name}" for name in ("weight", "bias", "up.weight", "up.bias", "down.weight")]
    bias = next(weights[name] for name in (f"{module}.bias", f"{module}.up.bias") if name in weights)
    kept = {name: tensor for name, tensor in weights.items() if name not in old}
    return kept | {f"{module}.up.weight": up, f"{module}.up.bias": bias, f"{module}.down.weight": down}
