"""What an ablation table holds, ready to be rendered or read from Python."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal

from compression.analysis.cells import Cell

if TYPE_CHECKING:
    import pandas

Verdict = Literal["better", "worse", "no difference"]
Pace = Literal["faster", "slower", "no difference"]
Difference = Literal["split", "metric", "evaluation rows", "training rows", "shape"]


@dataclass(frozen=True)
class Delta:
    """The difference of a variant to the baseline in one metric.

    Attributes:
        value: mean over the common seeds, natural units.
        low: lower end of the confidence interval; None when nothing allows one.
        high: upper end.
        verdict: "better" or "worse" when the interval excludes 0; None when there is no interval.
        noise: what the interval covers, of "examples" and "seeds".
        seeds: number of paired seeds.
        examples: evaluated rows that were resampled.
        sentence: the result in words.
    """

    value: float
    low: float | None
    high: float | None
    verdict: Verdict | None
    noise: tuple[str, ...]
    seeds: int
    examples: int
    sentence: str

    @property
    def significant(self) -> bool:
        """Whether the interval excludes 0."""
        return self.verdict in ("better", "worse")


@dataclass(frozen=True)
class Score:
    """One metric of one variant on one task.

    Attributes:
        task: name of the task.
        metric: name of the metric.
        mean: mean over seeds, natural units.
        std: sample standard deviation over seeds; None with one seed.
        values: (seed, value) of every cell.
        delta: difference to the baseline; None for the baseline itself.
        retained: share of the teacher's mean, percent; None without a teacher.
    """

    task: str
    metric: str
    mean: float
    std: float | None
    values: tuple[tuple[int | None, float], ...]
    delta: Delta | None = None
    retained: float | None = None

    @property
    def n(self) -> int:
        """Number of seeds."""
        return len(self.values)


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one forward pass at batch 1: medians over the cells of each cell's figure."""

    median: float
    q1: float | None = None
    q3: float | None = None
    p95: float | None = None


@dataclass(frozen=True)
class Speedup:
    """How many times faster than the teacher.

    Attributes:
        value: geometric mean over paired cells of teacher median / variant median.
        low: lower end of the confidence interval; None when nothing allows one.
        high: upper end.
        verdict: "faster" or "slower" when the interval excludes 1; None when there is no interval.
    """

    value: float
    low: float | None
    high: float | None
    verdict: Pace | None


@dataclass(frozen=True)
class Efficiency:
    """What a variant costs.

    Attributes:
        parameters: exact count, the largest over tasks (heads differ in size).
        bytes: size of the model files, the largest over tasks.
        latency: milliseconds a pass.
        compression: teacher bytes / variant bytes.
        speedup: against the teacher; None for the teacher itself.
    """

    parameters: int | None = None
    bytes: int | None = None
    latency: Latency | None = None
    compression: float | None = None
    speedup: Speedup | None = None


@dataclass(frozen=True)
class Row:
    """One variant.

    Attributes:
        variant: its name.
        scores: in order of the table's columns; None where nothing was measured.
        efficiency: what it costs.
        cells: what the row was computed from.
    """

    variant: str
    scores: tuple[Score | None, ...]
    efficiency: Efficiency
    cells: tuple[Cell, ...] = ()


@dataclass(frozen=True)
class Column:
    """One task and metric of the table, and the number of its evaluated rows (None when unknown)."""

    task: str
    metric: str
    examples: int | None = None


@dataclass(frozen=True)
class PublishedFigure:
    """What a paper prints where something was measured.

    Attributes:
        row: name of the published row.
        column: name of the published column.
        printed: the figure as printed, percent.
        delta: its difference to the published figure of the baseline, natural units; None without one.
        differs: what keeps the measured score from being comparable; empty when nothing does.
    """

    row: str
    column: str
    printed: float
    delta: float | None
    differs: tuple[Difference, ...]

    @property
    def value(self) -> float:
        """The figure in natural units."""
        return self.printed / 100


@dataclass(frozen=True)
class PublishedComparison:
    """A published table beside a measured one.

    Attributes:
        table: its id, for example `tinybert.t3`.
        source: paper, table and split.
        figures: variant -> printed figures in the order of the measured columns; None where nothing is printed.
        statement: what keeps measured and printed figures apart.
    """

    table: str
    source: str
    figures: Mapping[str, tuple[PublishedFigure | None, ...]]
    statement: str

    def at(self, variant: str, column: int) -> PublishedFigure | None:
        """The printed figure of a variant in a column of the measured table."""
        return self.figures[variant][column] if variant in self.figures else None


@dataclass(frozen=True)
class AblationTable:
    """A study's result.

    Attributes:
        rows: one a variant, in the study's order.
        columns: task and metric of each score.
        baseline: variant that the deltas refer to.
        teacher: variant that retained shares, compression and speed-up refer to.
        confidence: level of every interval, 0..1.
        bootstrap_samples: resamples behind every interval.
        notes: what a reader must know before trusting a figure: one seed, limited rows, missing cells.
        published: what a paper prints for the same rows; None unless the study asks for it.
    """

    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    baseline: str | None
    teacher: str | None
    confidence: float
    bootstrap_samples: int
    notes: tuple[str, ...] = ()
    published: PublishedComparison | None = None

    @property
    def findings(self) -> tuple[str, ...]:
        """The comparison of every variant with the baseline in words, the significant ones first."""
        deltas = [score.delta for row in self.rows for score in row.scores if score is not None and score.delta]
        return tuple(delta.sentence for delta in sorted(deltas, key=lambda delta: not delta.significant))

    def to_frame(self) -> "pandas.DataFrame":
        """The table with unrounded values in natural units.

        Returns:
            Index: variant. Columns: for each score `<task>.<metric>.{mean,std,n,delta,delta_low,delta_high,verdict,
            retained}`; where a published table stands beside, `<task>.<metric>.{published,published_delta}`; then
            `parameters`, `bytes`, `compression`, `latency_ms`, `latency_ms_q1`, `latency_ms_q3`, `latency_ms_p95`,
            `speedup`, `speedup_low`, `speedup_high`, `speedup_verdict`. What is unknown is missing.
        """
        import pandas

        records = [
            {
                "variant": row.variant,
                **_scores(self.columns, row.scores),
                **_printed(self, row.variant),
                **_cost(row.efficiency),
            }
            for row in self.rows
        ]
        return pandas.DataFrame.from_records(records).set_index("variant")

    def to_json(self) -> str:
        """The whole table, cells and sentences included.

        Returns:
            JSON text; numbers are unrounded and in natural units.
        """
        return json.dumps({**_plain(self), "findings": self.findings}, indent=2, ensure_ascii=False, allow_nan=False)


def _scores(columns: Sequence[Column], scores: Sequence[Score | None]) -> dict[str, Any]:
    record: dict[str, Any] = {}
    for column, score in zip(columns, scores, strict=True):
        delta = score.delta if score else None
        values = {
            "mean": score.mean if score else None,
            "std": score.std if score else None,
            "n": score.n if score else 0,
            "delta": delta.value if delta else None,
            "delta_low": delta.low if delta else None,
            "delta_high": delta.high if delta else None,
            "verdict": delta.verdict if delta else None,
            "retained": score.retained if score else None,
        }
        record |= {f"{column.task}.{column.metric}.{name}": value for name, value in values.items()}
    return record


def _printed(table: AblationTable, variant: str) -> dict[str, Any]:
    record: dict[str, Any] = {}
    for index, column in enumerate(table.columns if table.published is not None else ()):
        figure = table.published.at(variant, index) if table.published is not None else None
        record[f"{column.task}.{column.metric}.published"] = figure.value if figure else None
        record[f"{column.task}.{column.metric}.published_delta"] = figure.delta if figure else None
    return record


def _cost(efficiency: Efficiency) -> dict[str, Any]:
    latency, speedup = efficiency.latency, efficiency.speedup
    return {
        "parameters": efficiency.parameters,
        "bytes": efficiency.bytes,
        "compression": efficiency.compression,
        "latency_ms": latency.median if latency else None,
        "latency_ms_q1": latency.q1 if latency else None,
        "latency_ms_q3": latency.q3 if latency else None,
        "latency_ms_p95": latency.p95 if latency else None,
        "speedup": speedup.value if speedup else None,
        "speedup_low": speedup.low if speedup else None,
        "speedup_high": speedup.high if speedup else None,
        "speedup_verdict": speedup.verdict if speedup else None,
    }


def _plain(value: Any) -> Any:
    """JSON values of nested dataclasses; what is not finite, as a diverged cell's metric, becomes null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, Real):
        number = int(value) if isinstance(value, Integral) else float(value)
        return number if math.isfinite(number) else None
    return str(value)
