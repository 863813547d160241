"""Weights of one block: taken out of a model, averaged, compared. A factorised map counts by its product."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from compression.factorization import linear
from compression.factorization.low_rank import decompose

_DOWN = ".down.weight"


def block(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The weights of a block.

    Args:
        weights: a model's weights by name.
        prefix: what the names of the block's weights start with.

    Returns:
        Names without the prefix -> weights.

    Example:
        >>> block({"attention.0.query.bias": torch.zeros(1), "attention.1.query.bias": torch.ones(1)}, "attention.1.")
        {'query.bias': tensor([1.])}
    """
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}


def mean(blocks: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of blocks of equal shape.

    Factors of different maps do not belong together and have no meaningful mean: of a factorised map it is that of the
    products, factorised anew at the same rank.

    Args:
        blocks: weights of each, one at least.

    Returns:
        Weights of the mean.

    Example:
        >>> mean([{"bias": torch.tensor([1.0])}, {"bias": torch.tensor([3.0])}])["bias"]
        tensor([2.])
    """
    if len(blocks) == 1:
        return dict(blocks[0])
    found = {name: torch.stack([given[name] for given in blocks]).mean(0) for name in blocks[0]}
    for module in _factorised(blocks[0]):
        product = torch.stack([linear.matrix(given, module) for given in blocks]).mean(0)
        rank = len(blocks[0][f"{module}{_DOWN}"])
        found = linear.with_factors(found, module, *decompose(product).factors(rank))
    return found


def distance(shared: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> float:
    """How far a block is from another.

    Args:
        shared: weights of the one.
        own: weights of the other, of the same shape.

    Returns:
        ‖shared − own‖ / ‖own‖ in the Frobenius norm over all weights; 0 where the other is 0.

    Example:
        >>> distance({"bias": torch.tensor([3.0, 0.0])}, {"bias": torch.tensor([0.0, 4.0])})
        1.25
    """
    one, other = _dense(shared), _dense(own)
    missed = sum(float((one[name].double() - other[name].double()).square().sum()) for name in other)
    size = sum(float(tensor.double().square().sum()) for tensor in other.values())
    return float((missed / size) ** 0.5) if size > 0 else 0.0


def _factorised(weights: Mapping[str, Tensor]) -> list[str]:
    return [name.removesuffix(_DOWN) for name in weights if name.endswith(_DOWN)]


def _dense(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights with products in the place of factors."""
    dense = dict(weights)
    for module in _factorised(weights):
        dense[f"{module}.weight"] = linear.matrix(weights, module)
        del dense[f"{module}.down.weight"], dense[f"{module}.up.weight"]
    return dense
