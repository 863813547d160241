"""Which variants no other one beats in accuracy, latency and size at once."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def efficient(gains: NDArray[np.float64], costs: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Members of the Pareto front.

    Args:
        gains: (points,) higher is better.
        costs: (points, criteria) lower is better.

    Returns:
        (points,) False where another point is at least as good in everything and better in something.

    Example:
        >>> efficient(np.array([0.9, 0.8, 0.7]), np.array([[10.0], [2.0], [4.0]])).tolist()
        [True, True, False]
    """
    values = np.column_stack([-np.asarray(gains, dtype=float), np.asarray(costs, dtype=float)])
    no_worse = (values[:, None] <= values[None]).all(axis=2)
    better = (values[:, None] < values[None]).any(axis=2)
    return np.asarray(~(no_worse & better).any(axis=0))


def staircase(gains: Sequence[float], costs: Sequence[float]) -> list[tuple[float, float]]:
    """The best gain at each cost, as the corners of a line.

    Args:
        gains: higher is better.
        costs: lower is better.

    Returns:
        (cost, gain) of the members of the front, by rising cost.

    Example:
        >>> staircase([0.9, 0.8, 0.7], [10.0, 2.0, 4.0])
        [(2.0, 0.8), (10.0, 0.9)]
    """
    best: list[tuple[float, float]] = []
    for cost, gain in sorted(zip(costs, gains, strict=True), key=lambda point: (point[0], -point[1])):
        if not best or gain > best[-1][1]:
            best.append((cost, gain))
    return best
