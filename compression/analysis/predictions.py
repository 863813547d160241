"""Predictions of cells, lined up row by row for a paired comparison."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compression.analysis.cells import Cell
from compression.analysis.resampling import METRICS, NAMES, Array, observed, predicted, resampled_name, split_name
from compression.analysis.wording import metric_label
from compression.problems import DEFAULT_METRICS

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
        metric: name under which the metric is recomputed, a key of `resampling.METRICS`.
        gold: (rows,) gold class indices or values; (rows, labels) of several labels.
        ours: of each pair, the variant's predictions, as `resampling.predicted` gives them.
        theirs: of each pair, the baseline's.
    """

    metric: str
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
        if name not in NAMES:
            raise NotAlignedError(f"{metric_label(metric)} is not recomputed on resampled rows")
        columns = [[self._column(metric, cell) for cell in side] for side in zip(*pairs, strict=True)]
        first, *_ = columns[0]
        for cell, other in zip(
            [cell for side in zip(*pairs, strict=True) for cell in side], columns[0] + columns[1], strict=True
        ):
            if first.metric != other.metric or not np.array_equal(first.rows, other.rows):
                raise NotAlignedError(f"{cell.variant}{seed_suffix(cell)} was evaluated on other rows")
        outputs = ([column.output for column in side] for side in columns)
        return Aligned(first.metric, first.gold, *outputs)

    def _column(self, metric: str, cell: Cell) -> "_Column":
        """One cell on the metric's split."""
        name, split = split_name(metric)
        frame = self._frame(cell)
        rows = frame[frame["split"].fillna("") == split].sort_values("id", kind="stable")
        if rows.empty:
            raise NotAlignedError(f"the predictions of {cell.variant}{seed_suffix(cell)} hold no row of this split")
        column = _read(name, rows)
        if column.metric not in METRICS:
            raise NotAlignedError(f"{metric_label(metric)} is not recomputed on resampled rows")
        if abs(observed(column.metric, column.gold, column.output) - cell.metrics[metric]) > _AGREEMENT:
            raise NotAlignedError(
                f"the predictions of {cell.variant}{seed_suffix(cell)} do not give its recorded {metric_label(metric)}"
            )
        return column

    def _frame(self, cell: Cell) -> "pandas.DataFrame":
        import pandas

        path = cell.predictions
        if path is None or not path.is_file():
            raise NotAlignedError(f"the predictions of {cell.variant}{seed_suffix(cell)} are not at hand")
        if path not in self._frames:
            self._frames[path] = pandas.read_parquet(path)
        return self._frames[path]


@dataclass(frozen=True)
class _Column:
    """Predictions of one cell in order of row id.

    `rows` tells the evaluated rows apart from others: ids and gold values.
    """

    metric: str
    rows: NDArray[Any]
    gold: Array
    output: Array


def _read(name: str, frame: "pandas.DataFrame") -> _Column:
    """The columns that `evaluate` leaves, which differ by what was predicted."""
    ids = frame["id"].to_numpy(dtype=float)
    if "prediction" in frame.columns:
        metric = resampled_name(name, "span")
        scores = frame[list(DEFAULT_METRICS["span"])].to_numpy(dtype=float)
        accepted = [json.dumps([row, *gold]) for row, gold in zip(ids.tolist(), frame["gold"], strict=True)]
        return _Column(metric, np.array(accepted), np.zeros(len(ids)), scores)
    several = frame.filter(regex=r"^gold_\d+$").to_numpy(dtype=float)
    gold = several if several.shape[1] else frame["gold"].to_numpy(dtype=float)
    metric = resampled_name(name, "multi_label") if several.shape[1] else name
    logits = frame.filter(regex=r"^logit_\d+$").to_numpy(dtype=float)
    output = predicted(metric, logits) if metric in METRICS else logits
    return _Column(metric, np.column_stack([ids, gold]), gold, output)


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
