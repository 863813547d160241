"""The table as text, once for all renderers: what each column says, how numbers are rounded, what is bold."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from compression.analysis.cells import Cell
from compression.analysis.results import AblationTable, Column, Delta, Efficiency, Latency, Row, Score, Speedup
from compression.analysis.wording import count, metric_label, points

Tone = Literal["good", "bad", "plain"]
ABSENT = "—"
PUBLISHED = "published"
_SHORT = {"parameters": "params", "size MB": "MB"}


@dataclass(frozen=True)
class Heading:
    """A column's heading.

    Attributes:
        group: what neighbouring columns share, the task; "" for what belongs to the whole row.
        label: heading of the column.
        short: narrower heading, for the terminal.
    """

    group: str
    label: str
    short: str


@dataclass(frozen=True)
class Entry:
    """One entry of the grid.

    Attributes:
        text: what it says.
        detail: interval or quartiles.
        value: what it is sorted by; None sorts last.
        bold: only for what stands out of the noise.
        tone: whether it is to the variant's credit.
        short: narrower text, for the terminal.
        sources: the cells that a score was computed from.
    """

    text: str
    value: float | None = None
    detail: str = ""
    bold: bool = False
    tone: Tone = "plain"
    short: str | None = None
    sources: tuple[Cell, ...] = ()

    @property
    def full(self) -> str:
        """Text and detail in one line."""
        return f"{self.text} {self.detail}".rstrip()

    @property
    def narrow(self) -> str:
        """The same for the terminal."""
        return f"{self.short or self.text} {self.detail}".rstrip()


@dataclass(frozen=True)
class Line:
    """One variant: its name, an entry for every heading, and the row it came from."""

    variant: str
    entries: tuple[Entry, ...]
    row: Row


@dataclass(frozen=True)
class Grid:
    """The whole table as text.

    Attributes:
        headings: columns after the variant's name.
        lines: one a variant.
        legend: how to read the columns, one sentence each.
    """

    headings: tuple[Heading, ...]
    lines: tuple[Line, ...]
    legend: tuple[str, ...]


def grid(table: AblationTable) -> Grid:
    """Lay a table out as text.

    Args:
        table: the table.

    Returns:
        Its columns: for each task and metric the score, the difference to the baseline, the retained share and the
        published figure, as far as there is a baseline, a teacher and a published table; then the measured costs.
    """
    usual = _usual_seeds(table)
    costs = _costs(table)
    headings: list[Heading] = []
    beside = _published_columns(table)
    for index, column in enumerate(table.columns):
        headings.append(_heading(column.task, metric_label(column.metric)))
        if table.baseline is not None:
            headings.append(_heading(column.task, f"Δ {table.baseline}"))
        if table.teacher is not None:
            headings.append(_heading(column.task, "kept"))
        if index in beside:
            headings.append(_heading(column.task, PUBLISHED))
    headings += [_heading("", label) for label in costs]
    lines = []
    for row in table.rows:
        entries: list[Entry] = []
        for index, score in enumerate(row.scores):
            entries.append(_score(score, usual, row.cells))
            if table.baseline is not None:
                entries.append(_delta(score, baseline=row.variant == table.baseline))
            if table.teacher is not None:
                entries.append(_retained(score))
            if index in beside:
                entries.append(_published(table, row.variant, index))
        entries += [_cost(row, label, teacher=row.variant == table.teacher) for label in costs]
        lines.append(Line(row.variant, tuple(entries), row))
    return Grid(tuple(headings), tuple(lines), tuple(_legend(table, usual, costs)))


def summary(table: AblationTable) -> str:
    """The table's size and its verdicts in two sentences.

    Args:
        table: the table.

    Returns:
        Prose; only the size when there is no baseline.
    """
    cells = [cell for row in table.rows for cell in row.cells]
    seeds = {cell.seed for cell in cells if cell.seed is not None}
    parts = [count(len(table.rows), "variant"), count(len({column.task for column in table.columns}), "task")]
    text = f"{' × '.join([*parts, count(len(seeds), 'seed')] if seeds else parts)}, {count(len(cells), 'cell')}"
    text += f", {sum(cell.cached for cell in cells):,} of them reused." if any(cell.cached for cell in cells) else "."
    if table.baseline is None:
        return text
    verdicts = Counter(
        score.delta.verdict or "not tested"
        for row in table.rows
        for score in row.scores
        if score is not None and score.delta is not None
    )
    told = [f"{number} {verdict}" for verdict, number in sorted(verdicts.items())]
    return f"{text} Against {table.baseline}: {', '.join(told)}." if told else text


def _heading(group: str, label: str) -> Heading:
    return Heading(group, label, _SHORT.get(label, label))


def _usual_seeds(table: AblationTable) -> int:
    numbers = Counter(score.n for row in table.rows for score in row.scores if score is not None)
    return max(numbers, key=lambda number: (numbers[number], number), default=0)


def _score(score: Score | None, usual: int, cells: Sequence[Cell]) -> Entry:
    if score is None:
        return Entry(ABSENT)
    text = points(score.mean) if score.std is None else f"{points(score.mean)} ± {points(score.std)}"
    if score.n != usual:
        text += f" (n={score.n})"
    return Entry(text, score.mean, sources=tuple(cell for cell in cells if cell.task == score.task))


def _delta(score: Score | None, *, baseline: bool) -> Entry:
    if baseline:
        return Entry("baseline", 0.0)
    if score is None or score.delta is None:
        return Entry(ABSENT)
    delta: Delta = score.delta
    value = points(delta.value, sign=True)
    if delta.low is None or delta.high is None:
        return Entry(value, delta.value, "(not tested)")
    interval = f"[{points(delta.low, sign=True)}, {points(delta.high, sign=True)}]"
    tone: Tone = "good" if delta.verdict == "better" else "bad" if delta.verdict == "worse" else "plain"
    return Entry(value, delta.value, interval, bold=delta.significant, tone=tone)


def _retained(score: Score | None) -> Entry:
    if score is None or score.retained is None:
        return Entry(ABSENT)
    return Entry(f"{score.retained:.1f} %", score.retained, short=f"{score.retained:.1f}%")


def _published_columns(table: AblationTable) -> frozenset[int]:
    """Columns for which the published table prints a figure."""
    if table.published is None:
        return frozenset()
    figures = table.published.figures.values()
    return frozenset(index for index in range(len(table.columns)) if any(row[index] is not None for row in figures))


def _published(table: AblationTable, variant: str, column: int) -> Entry:
    figure = None if table.published is None else table.published.at(variant, column)
    if figure is None:
        return Entry(ABSENT)
    delta = "" if figure.delta is None else f"(Δ {points(figure.delta, sign=True)})"
    return Entry(f"{figure.printed:g}" if isinstance(figure.printed, int) else str(figure.printed), figure.value, delta)


def _costs(table: AblationTable) -> list[str]:
    """Labels of the cost columns that some row has a value for."""
    costs = [row.efficiency for row in table.rows]
    return [
        label
        for label, known in (
            ("parameters", any(cost.parameters is not None for cost in costs)),
            ("size MB", any(cost.bytes is not None for cost in costs)),
            ("latency ms", any(cost.latency is not None for cost in costs)),
            ("speed-up", any(cost.speedup is not None for cost in costs)),
        )
        if known
    ]


def _cost(row: Row, label: str, *, teacher: bool) -> Entry:
    cost: Efficiency = row.efficiency
    if label == "parameters" and cost.parameters is not None:
        return Entry(f"{cost.parameters:,}", cost.parameters, short=f"{cost.parameters / 1e6:.1f}M")
    if label == "size MB" and cost.bytes is not None:
        ratio = "" if cost.compression is None or teacher else f"({cost.compression:.1f}×)"
        return Entry(f"{cost.bytes / 1e6:.1f}", cost.bytes, ratio)
    if label == "latency ms" and cost.latency is not None:
        return _latency(cost.latency)
    if label == "speed-up":
        if teacher:
            return Entry("teacher", 1.0)
        if cost.speedup is not None:
            return _speedup(cost.speedup)
    return Entry(ABSENT)


def significant_digits(value: float) -> str:
    """Three significant digits, never an exponent.

    Args:
        value: at least 0.

    Returns:
        The rounded number.

    Example:
        >>> [significant_digits(value) for value in (0.1234, 3.114, 31.14, 3114.0)]
        ['0.123', '3.11', '31.1', '3114']
    """
    return (
        f"{value:.3f}"
        if value < 1
        else f"{value:.2f}"
        if value < 10
        else f"{value:.1f}"
        if value < 100
        else f"{value:.0f}"
    )


def _latency(latency: Latency) -> Entry:
    median = significant_digits(latency.median)
    if latency.q1 is None or latency.q3 is None:
        return Entry(median, latency.median)
    return Entry(median, latency.median, f"({significant_digits(latency.q1)}–{significant_digits(latency.q3)})")


def _speedup(speedup: Speedup) -> Entry:
    if speedup.low is None or speedup.high is None:
        return Entry(f"{speedup.value:.2f}×", speedup.value, "(not tested)")
    interval = f"[{speedup.low:.2f}, {speedup.high:.2f}]"
    if speedup.verdict == "no difference":
        return Entry("no difference", speedup.value, interval, short="none")
    tone: Tone = "good" if speedup.verdict == "faster" else "bad"
    return Entry(f"{speedup.value:.2f}×", speedup.value, interval, bold=True, tone=tone)


def _legend(table: AblationTable, usual: int, costs: Sequence[str]) -> list[str]:
    level = f"{100 * table.confidence:g} %"
    spread = f"mean ± standard deviation over {count(usual, 'seed')}" if usual > 1 else "one seed"
    lines = [f"Scores × 100: {spread}{_examples(table.columns)}."]
    if table.baseline is not None:
        lines.append(
            f"Δ: difference to {table.baseline} in points with its {level} interval over "
            f"{'examples and seeds' if usual > 1 else 'examples'} (paired bootstrap, {table.bootstrap_samples:,} "
            "resamples); bold when the interval excludes 0."
        )
    if table.teacher is not None:
        lines.append(f"Kept: share of {_teacher(table)}'s score.")
    if table.published is not None:
        lines.append(f"Published: {table.published.source}. {table.published.statement}")
    if "latency ms" in costs:
        lines.append("Latency: median (quartiles) of one input at a time.")
    if table.teacher is not None and "size MB" in costs:
        lines.append(f"Size: model files, in brackets how many times smaller than {_teacher(table)}.")
    if "speed-up" in costs:
        lines.append(f"Speed-up: against {_teacher(table)}; one whose {level} interval includes 1 is no difference.")
    return lines


def _teacher(table: AblationTable) -> str:
    return "the teacher" if table.teacher == "teacher" else f"the teacher {table.teacher}"


def _examples(columns: Sequence[Column]) -> str:
    known = [(column, column.examples) for column in columns if column.examples is not None]
    if not known:
        return ""
    if len(columns) == 1:
        return f", {count(known[0][1], 'example')}"
    told = dict.fromkeys(f"{column.task} {examples:,}" for column, examples in known)
    return f"; examples: {', '.join(told)}"
