"""Predictions of cells, lined up row by row for a paired comparison."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compression.analysis.cells import Cell
from compression.analysis.resampling import METRICS, Array, observed, predicted, split_name
from compression.analysis.wording import metric_label

if TYPE_CHECKING:
    import pandas

# A recorded metric and the one recomputed from its predictions may differ by single-precision rounding.
_AGREEMENT = 1e-5


class NotAlignedError(Exception):
    """Why the predictions of some cells cannot be compared row by row."""


@dataclass(frozen=True)
class Aligned:
    """Two sides' predictions on the same rows.

    Attributes:
        gold: (rows,) gold class indices or values.
        ours: of each pair, the variant's predictions (rows,).
        theirs: of each pair, the baseline's.
    """

    gold: Array
    ours: list[Array]
    theirs: list[Array]


@dataclass
class PredictionReader:
    """Reads each predictions file once."""

    _frames: dict[Path, "pandas.DataFrame"] = field(default_factory=dict)

    def aligned(self, metric: str, pairs: Sequence[tuple[Cell, Cell]]) -> Aligned:
        """Line up the predictions of paired cells.

        Args:
            metric: name as the cells record it; its split chooses the rows.
            pairs: (variant, baseline) cells.

        Returns:
            Gold values and predictions in order of row id.

        Raises:
            NotAlignedError: the metric cannot be recomputed, predictions are not at hand, the cells were evaluated on
                different rows, or the predictions do not give the recorded value.
        """
        name, _ = split_name(metric)
        if name not in METRICS:
            raise NotAlignedError(f"{metric_label(metric)} is not recomputed on resampled rows")
        columns = [[self._column(metric, cell) for cell in side] for side in zip(*pairs, strict=True)]
        (ids, gold, _), *_ = columns[0]
        for cell, (other_ids, other_gold, _) in zip(
            [cell for side in zip(*pairs, strict=True) for cell in side], columns[0] + columns[1], strict=True
        ):
            if not (np.array_equal(ids, other_ids) and np.array_equal(gold, other_gold)):
                raise NotAlignedError(f"{cell.variant}{seed_suffix(cell)} was evaluated on other rows")
        return Aligned(gold, [output for _, _, output in columns[0]], [output for _, _, output in columns[1]])

    def _column(self, metric: str, cell: Cell) -> tuple[Array, Array, Array]:
        """Row ids, gold values and predictions of one cell on the metric's split."""
        name, split = split_name(metric)
        frame = self._frame(cell)
        rows = frame[frame["split"].fillna("") == split].sort_values("id", kind="stable")
        if rows.empty:
            raise NotAlignedError(f"the predictions of {cell.variant}{seed_suffix(cell)} hold no row of this split")
        gold = rows["gold"].to_numpy(dtype=float)
        output = predicted(name, rows.filter(regex=r"^logit_\d+$").to_numpy(dtype=float))
        if abs(observed(name, gold, output) - cell.metrics[metric]) > _AGREEMENT:
            raise NotAlignedError(
                f"the predictions of {cell.variant}{seed_suffix(cell)} do not give its recorded {metric_label(metric)}"
            )
        return rows["id"].to_numpy(dtype=float), gold, output

    def _frame(self, cell: Cell) -> "pandas.DataFrame":
        import pandas

        path = cell.predictions
        if path is None or not path.is_file():
            raise NotAlignedError(f"the predictions of {cell.variant}{seed_suffix(cell)} are not at hand")
        if path not in self._frames:
            self._frames[path] = pandas.read_parquet(path)
        return self._frames[path]


def seed_suffix(cell: Cell) -> str:
    """How a message tells a cell's seed.

    Args:
        cell: the cell.

    Returns:
        The seed in brackets after a space; nothing for a chain without one.

    Example:
        >>> seed_suffix(Cell("a", "rte", 1, {})), seed_suffix(Cell("a", "rte", None, {}))
        (' (seed 1)', '')
    """
    return "" if cell.seed is None else f" (seed {cell.seed})"
