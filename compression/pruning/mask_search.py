"""Search for the heads and neurons that a budget affords (Kwon et al. 2022, arXiv:2204.09656, algorithm 1)."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compression.pruning.choices import Importances


@dataclass(frozen=True)
class _Ranked:
    """Units of one kind from the most to the least important for their cost, with running sums."""

    block: NDArray[np.int64]  # (units,) position of the unit's block
    unit: NDArray[np.int64]  # (units,) position within the block
    cost: NDArray[np.float64]  # (units + 1,) of the first so many
    importance: NDArray[np.float64]  # (units + 1,) of the first so many


def search(
    heads: Importances, neurons: Importances, costs: Mapping[str, float], budget: float
) -> dict[str, NDArray[np.int64]]:
    """Heads and neurons to keep so that the sum of what they contribute is largest.

    For every number k of heads the k most important ones are kept, and neurons in order of importance for what they
    leave of the budget; the best k wins. Where blocks differ in cost, as shared ones do, importance counts by cost.

    Args:
        heads: attention block -> (heads,) diagonal Fisher information.
        neurons: feed-forward block -> (neurons,) diagonal Fisher information.
        costs: block -> cost of one of its units.
        budget: largest sum of the costs of what is kept.

    Returns:
        Block -> ascending positions of the units to keep, of all blocks.

    Example:
        >>> kept = search({"a": np.array([5.0, 1.0])}, {"f": np.array([2.0, 3.0, 0.1])}, {"a": 2, "f": 1}, 4)
        >>> {block: units.tolist() for block, units in kept.items()}
        {'a': [0], 'f': [0, 1]}
    """
    ranked_heads, ranked_neurons = _ranked(heads, costs), _ranked(neurons, costs)
    affordable = int(np.searchsorted(ranked_heads.cost, budget, side="right"))
    left = budget - ranked_heads.cost[:affordable]
    # Costs are whole numbers, budgets are not: a sum that meets its budget exactly must not fail by rounding.
    counts = np.searchsorted(ranked_neurons.cost, left + 1e-9 * max(1.0, budget), side="right") - 1
    gained = ranked_heads.importance[:affordable] + ranked_neurons.importance[counts]
    best = int(np.argmax(gained))
    return _first(ranked_heads, list(heads), best) | _first(ranked_neurons, list(neurons), int(counts[best]))


def _ranked(importances: Importances, costs: Mapping[str, float]) -> _Ranked:
    lengths = [len(values) for values in importances.values()]
    block = np.repeat(np.arange(len(lengths)), lengths)
    unit = np.concatenate([np.empty(0, np.int64), *map(np.arange, lengths)])
    importance = np.concatenate([np.empty(0), *importances.values()])
    cost = np.repeat([float(costs[name]) for name in importances], lengths)
    order = np.argsort(-importance / cost, kind="stable")
    sums = [np.concatenate([[0.0], np.cumsum(values[order])]) for values in (cost, importance)]
    return _Ranked(block[order], unit[order], *sums)


def _first(ranked: _Ranked, blocks: list[str], count: int) -> dict[str, NDArray[np.int64]]:
    return {name: np.sort(ranked.unit[:count][ranked.block[:count] == place]) for place, name in enumerate(blocks)}
