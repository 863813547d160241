"""The unit of a study's result: one variant, on one task, with one seed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Cell:
    """Every measured value of one variant × task × seed. A failed or missing cell is simply absent.

    Attributes:
        variant: name of the variant, a row of the table.
        task: name of the task.
        seed: seed of the chain; None when nothing in the chain uses one.
        metrics: metric -> value in natural units (accuracy 0..1, Matthews -1..1), the headline first. A metric of a
            second reported split carries its name: `accuracy_mismatched`.
        efficiency: `parameters` (count), `bytes` (model files), `latency_ms` (`median`, `q1`, `q3`, `p95` in
            milliseconds, and `samples`, the single passes, where they were kept). Whatever was not measured is absent.
        predictions: Parquet file with the columns split, id, gold, logit_0 … logit_k; None when it was not kept.
        examples: reported split -> number of evaluated rows; the main split is named "".
        cached: whether the values were reused from an earlier run.
        links: label -> address of what the cell came from, for example its MLflow run.

    Example:
        >>> Cell("small", "sst2", 0, {"accuracy": 0.91}).headline
        'accuracy'
    """

    variant: str
    task: str
    seed: int | None
    metrics: Mapping[str, float]
    efficiency: Mapping[str, Any] = field(default_factory=dict)
    predictions: Path | None = None
    examples: Mapping[str, int] = field(default_factory=dict)
    cached: bool = False
    links: Mapping[str, str] = field(default_factory=dict)

    @property
    def headline(self) -> str | None:
        """Name of the first metric, the one that a table shows by default."""
        return next(iter(self.metrics), None)
