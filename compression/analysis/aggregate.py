"""Cells grouped by variant and task, summarised over seeds, paired seed by seed."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from compression.analysis.cells import Cell
from compression.analysis.resampling import NAMES, split_name


@dataclass(frozen=True)
class CellGrid:
    """Cells by variant and task; seeds in ascending order, None first.

    Attributes:
        groups: (variant, task) -> its cells.
    """

    groups: Mapping[tuple[str, str], tuple[Cell, ...]] = field(default_factory=dict)

    def at(self, variant: str, task: str) -> tuple[Cell, ...]:
        """The cells of one variant on one task.

        Args:
            variant: name of the variant.
            task: name of the task.

        Returns:
            One cell a seed; empty when nothing was measured.
        """
        return self.groups.get((variant, task), ())

    def seeds(self, task: str) -> tuple[int, ...]:
        """Every seed that some variant has on a task.

        Args:
            task: name of the task.

        Returns:
            Seeds in ascending order.
        """
        return tuple(
            sorted(
                {
                    cell.seed
                    for key, cells in self.groups.items()
                    if key[1] == task
                    for cell in cells
                    if cell.seed is not None
                }
            )
        )


def group(cells: Iterable[Cell]) -> CellGrid:
    """Sort cells into a grid.

    Args:
        cells: in any order.

    Returns:
        The grid.

    Raises:
        ValueError: two cells share variant, task and seed.

    Example:
        >>> grid = group([Cell("a", "rte", 1, {}), Cell("a", "rte", 0, {})])
        >>> [cell.seed for cell in grid.at("a", "rte")], grid.seeds("rte")
        ([0, 1], (0, 1))
    """
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        members = groups.setdefault((cell.variant, cell.task), [])
        if any(other.seed == cell.seed for other in members):
            raise ValueError(f"two cells for variant {cell.variant!r}, task {cell.task!r}, seed {cell.seed}")
        members.append(cell)
    return CellGrid(
        {
            key: tuple(sorted(members, key=lambda cell: (cell.seed is not None, cell.seed or 0)))
            for key, members in groups.items()
        }
    )


@dataclass(frozen=True)
class Summary:
    """One metric over seeds.

    Attributes:
        mean: mean over seeds, natural units.
        std: sample standard deviation (n - 1); None with one value.
        values: (seed, value) of every cell that has the metric.
    """

    mean: float
    std: float | None
    values: tuple[tuple[int | None, float], ...]


def summarise(cells: Sequence[Cell], metric: str) -> Summary | None:
    """Mean and sample standard deviation of a metric over seeds.

    Args:
        cells: cells of one variant on one task.
        metric: name of the metric.

    Returns:
        The summary of the finite values; None when there is none.

    Example:
        >>> summarise([Cell("a", "rte", seed, {"accuracy": value}) for seed, value in ((0, 0.5), (1, 0.7))], "accuracy")
        Summary(mean=0.6, std=0.14142135623730948, values=((0, 0.5), (1, 0.7)))
    """
    values = tuple((cell.seed, float(cell.metrics[metric])) for cell in cells if measured(cell, metric))
    if not values:
        return None
    numbers = np.array([value for _, value in values])
    return Summary(float(numbers.mean()), float(numbers.std(ddof=1)) if len(numbers) > 1 else None, values)


def measured(cell: Cell, metric: str) -> bool:
    """Whether a cell has a usable value of a metric.

    Args:
        cell: the cell.
        metric: name of the metric.

    Returns:
        False when the metric is absent or not finite.
    """
    return metric in cell.metrics and math.isfinite(cell.metrics[metric])


def pair(ours: Sequence[Cell], theirs: Sequence[Cell]) -> list[tuple[Cell, Cell]]:
    """Cells that are compared with each other: those of the same seed.

    A cell without a seed (a chain in which nothing is random) is the partner of every cell of the other side.

    Args:
        ours: cells of one variant on one task.
        theirs: cells of another on the same task.

    Returns:
        Pairs in order of seed.

    Example:
        >>> fixed, seeded = [Cell("f", "rte", None, {})], [Cell("s", "rte", seed, {}) for seed in (0, 1)]
        >>> [(left.seed, right.seed) for left, right in pair(seeded, fixed)]
        [(0, None), (1, None)]
    """
    return [
        (left, right)
        for left in ours
        for right in theirs
        if left.seed == right.seed or left.seed is None or right.seed is None
    ]


def headline_metrics(cells: Iterable[Cell], task: str) -> tuple[str, ...]:
    """The headline metric of a task on every reported split that it has.

    Args:
        cells: cells of the study.
        task: name of the task.

    Returns:
        Metric names, for MNLI both `accuracy` and `accuracy_mismatched`; empty when no cell of the task has a metric.

    Example:
        >>> headline_metrics([Cell("a", "mnli", 0, {"accuracy": 0.8, "accuracy_mismatched": 0.8})], "mnli")
        ('accuracy', 'accuracy_mismatched')
        >>> headline_metrics([Cell("a", "mrpc", 0, {"f1": 0.9, "accuracy": 0.8})], "mrpc")
        ('f1',)
    """
    for cell in cells:
        if cell.task == task and cell.headline is not None:
            name = split_name(cell.headline)[0]
            same = [metric for metric in cell.metrics if name in NAMES and split_name(metric)[0] == name]
            return tuple(same or [cell.headline])
    return ()
