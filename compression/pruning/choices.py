"""Which heads and neurons are the least important ones, and which are kept."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from compression.architecture.shape import EncoderShape
from compression.pruning.units import units_of

Importances = Mapping[str, NDArray[np.float64]]
"""Block -> (units,) importance of each of its heads or neurons."""


def least_important(importances: Importances, count: int) -> dict[str, NDArray[np.int64]]:
    """The least important units of all blocks together; of equally important ones those that come first.

    Args:
        importances: importance of each unit.
        count: how many.

    Returns:
        Block -> ascending positions of its units among them; blocks without any are left out.

    Example:
        >>> chosen = least_important({"a": np.array([3.0, 1.0]), "b": np.array([0.0, 2.0])}, 2)
        >>> {block: units.tolist() for block, units in chosen.items()}
        {'a': [1], 'b': [0]}
    """
    every = np.concatenate([np.asarray(values, np.float64) for values in importances.values()])
    chosen = np.zeros(len(every), bool)
    chosen[np.argsort(every, kind="stable")[:count]] = True
    found, start = {}, 0
    for block, values in importances.items():
        found[block] = np.flatnonzero(chosen[start : start + len(values)])
        start += len(values)
    return {block: units for block, units in found.items() if len(units)}


def kept_units(
    shape: EncoderShape, removed: Mapping[str, Sequence[int] | NDArray[np.int64]]
) -> dict[str, NDArray[np.int64]]:
    """Units that stay when some are removed.

    Args:
        shape: the encoder.
        removed: block -> positions of the units to remove.

    Returns:
        Each block named in `removed` -> ascending positions of the units that stay.

    Example:
        >>> shape = EncoderShape.regular(layers=1, hidden_size=8, heads=4, intermediate_size=16)
        >>> kept_units(shape, {"attention.0": [1]})["attention.0"].tolist()
        [0, 2, 3]
    """
    sizes = units_of(shape, "attention") | units_of(shape, "feed_forward")
    return {block: np.setdiff1d(np.arange(sizes[block]), np.asarray(units)) for block, units in removed.items()}
