"""From the cells of a study to its ablation table."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from compression.analysis import speed
from compression.analysis.aggregate import CellGrid, group, headline_metrics, measured, pair, summarise
from compression.analysis.cells import Cell
from compression.analysis.paired import Comparison, compare, seed_interval
from compression.analysis.predictions import NotAlignedError, PredictionReader, seed_suffix
from compression.analysis.resampling import split_name
from compression.analysis.results import AblationTable, Column, Delta, Efficiency, Row, Score, Verdict
from compression.analysis.wording import count, listing, metric_label, one_seed_note, verdict_sentence
from compression.errors import UserError


def table(
    cells: Iterable[Cell],
    *,
    variants: Sequence[str],
    tasks: Sequence[str],
    metrics: Mapping[str, Sequence[str]] | None = None,
    baseline: str | None = None,
    teacher: str | None = None,
    confidence: float = 0.95,
    bootstrap_samples: int = 2000,
    limits: Mapping[str, int] | None = None,
) -> AblationTable:
    """Mean and spread over seeds, difference to the baseline with its noise, and cost of every variant.

    The difference is tested by a paired bootstrap: the variant and the baseline are compared on the same resampled
    rows, seed by seed. With one seed the interval covers the noise of the evaluated examples alone. With two or more it
    also covers that of the seeds (`paired.combined_interval`). Without predictions only the seeds are left, as a t
    interval. Nothing here covers other data, other hyper-parameters, or that many variants are compared at once.

    Args:
        cells: what was measured; failed cells are absent.
        variants: rows, in order.
        tasks: column groups, in order.
        metrics: task -> metrics to show; the headline metric on every reported split by default.
        baseline: variant that deltas refer to.
        teacher: variant that retained share, compression and speed-up refer to.
        confidence: level of every interval, 0..1.
        bootstrap_samples: resamples behind every interval; the resampling's seed is fixed.
        limits: task -> number of reported rows that the study allows, for tasks that it limits.

    Returns:
        The table.

    Raises:
        UserError: `baseline`, `teacher` or a metric names nothing that was measured.

    Example:
        >>> cells = [Cell(name, "rte", seed, {"accuracy": value + seed / 100})
        ...          for name, value in (("small", 0.6), ("large", 0.7)) for seed in (0, 1)]
        >>> result = table(cells, variants=["large", "small"], tasks=["rte"], teacher="large")
        >>> [round(row.scores[0].mean, 3) for row in result.rows], round(result.rows[1].scores[0].retained, 1)
        ([0.705, 0.605], 85.8)
    """
    cells = tuple(cells)
    _check_names(cells, variants, baseline, teacher)
    builder = _Builder(group(cells), baseline, teacher, confidence, bootstrap_samples)
    columns = tuple(
        Column(task, metric, _examples(cells, task, metric))
        for task in tasks
        for metric in (metrics or {}).get(task) or headline_metrics(cells, task)
    )
    _check_metrics(cells, columns)
    rows = tuple(builder.row(variant, columns, tasks) for variant in variants)
    notes = (
        *_seed_notes(rows),
        *_limit_notes(columns, limits or {}),
        *builder.missing(variants, tasks),
        *builder.notes,
        *filter(None, [speed.busy_note([cell for row in rows for cell in row.cells])]),
    )
    return AblationTable(rows, columns, baseline, teacher, confidence, bootstrap_samples, tuple(dict.fromkeys(notes)))


@dataclass
class _Builder:
    """Computes rows; remembers predictions that were read and what the reader should be told."""

    grid: CellGrid
    baseline: str | None
    teacher: str | None
    confidence: float
    samples: int
    notes: list[str] = field(default_factory=list)
    predictions: PredictionReader = field(default_factory=PredictionReader)

    def row(self, variant: str, columns: Sequence[Column], tasks: Sequence[str]) -> Row:
        """One variant on all columns."""
        scores = tuple(self.score(variant, column) for column in columns)
        members = tuple(cell for task in tasks for cell in self.grid.at(variant, task))
        return Row(variant, scores, self.efficiency(variant, members, tasks), members)

    def score(self, variant: str, column: Column) -> Score | None:
        """One variant in one column."""
        cells = self.grid.at(variant, column.task)
        summary = summarise(cells, column.metric)
        for cell in cells:
            if not measured(cell, column.metric):
                self.notes.append(
                    f"{variant} on {column.task}{seed_suffix(cell)}: no usable {metric_label(column.metric)}, left out."
                )
        if summary is None:
            return None
        retained = None
        if self.teacher is not None:
            reference = summarise(self.grid.at(self.teacher, column.task), column.metric)
            if reference is not None and reference.mean > 0:
                retained = 100 * summary.mean / reference.mean
        delta = None if self.baseline in (None, variant) else self.delta(variant, column)
        return Score(column.task, column.metric, summary.mean, summary.std, summary.values, delta, retained)

    def delta(self, variant: str, column: Column) -> Delta | None:
        """The difference of one variant to the baseline in one column."""
        baseline = str(self.baseline)
        pairs = [
            (ours, theirs)
            for ours, theirs in pair(self.grid.at(variant, column.task), self.grid.at(baseline, column.task))
            if measured(ours, column.metric) and measured(theirs, column.metric)
        ]
        if not pairs:
            self.notes.append(f"{variant} and {baseline} share no seed on {column.task}: not compared.")
            return None
        comparison = self.compare(variant, column, pairs)
        interval = comparison.interval
        verdict: Verdict | None = None
        if interval is not None:
            verdict = "better" if interval.low > 0 else "worse" if interval.high < 0 else "no difference"
        return Delta(
            value=comparison.value,
            low=interval.low if interval else None,
            high=interval.high if interval else None,
            verdict=verdict,
            noise=interval.noise if interval else (),
            seeds=comparison.seeds,
            examples=comparison.examples,
            sentence=verdict_sentence(
                variant,
                baseline,
                column.task,
                column.metric,
                comparison=comparison,
                verdict=verdict,
                confidence=self.confidence,
            ),
        )

    def compare(self, variant: str, column: Column, pairs: Sequence[tuple[Cell, Cell]]) -> Comparison:
        """Paired bootstrap where every cell's predictions are at hand, the seeds alone otherwise."""
        try:
            aligned = self.predictions.aligned(column.metric, pairs)
        except NotAlignedError as reason:
            self.notes.append(f"{variant} on {column.task}: {reason}, so an interval could cover the seeds alone.")
            values = np.array([ours.metrics[column.metric] - theirs.metrics[column.metric] for ours, theirs in pairs])
            return Comparison(
                float(values.mean()), seed_interval(values, confidence=self.confidence), len(pairs), examples=0
            )
        return compare(
            aligned.metric,
            aligned.gold,
            aligned.ours,
            aligned.theirs,
            confidence=self.confidence,
            samples=self.samples,
        )

    def efficiency(self, variant: str, cells: Sequence[Cell], tasks: Sequence[str]) -> Efficiency:
        """What a variant costs, and how that compares with the teacher."""
        size = _largest(cells, "bytes")
        compression, speedup = None, None
        if self.teacher is not None:
            teacher = [cell for task in tasks for cell in self.grid.at(self.teacher, task)]
            reference = _largest(teacher, "bytes")
            compression = reference / size if reference and size else None
            if variant != self.teacher:
                couples = [
                    couple
                    for task in tasks
                    for couple in pair(self.grid.at(variant, task), self.grid.at(self.teacher, task))
                ]
                speedup = speed.speedup(couples, confidence=self.confidence, samples=self.samples)
        return Efficiency(_largest(cells, "parameters"), size, speed.latency(cells), compression, speedup)

    def missing(self, variants: Sequence[str], tasks: Sequence[str]) -> list[str]:
        """Cells that other variants have and a variant lacks."""
        notes = []
        for task in tasks:
            expected = set(self.grid.seeds(task))
            for variant in variants:
                present = [cell.seed for cell in self.grid.at(variant, task)]
                if not present:
                    notes.append(f"{variant} on {task}: no cell was measured.")
                elif None not in present and (absent := sorted(expected - set(present), key=lambda seed: seed or 0)):
                    notes.append(f"{variant} on {task}: seed {listing(absent)} missing.")
        return notes


def _largest(cells: Sequence[Cell], name: str) -> int | None:
    return max((int(cell.efficiency[name]) for cell in cells if cell.efficiency.get(name) is not None), default=None)


def _examples(cells: Sequence[Cell], task: str, metric: str) -> int | None:
    split = split_name(metric)[1]
    return next((cell.examples[split] for cell in cells if cell.task == task and split in cell.examples), None)


def _check_names(cells: Sequence[Cell], variants: Sequence[str], baseline: str | None, teacher: str | None) -> None:
    measured_variants = {cell.variant for cell in cells}
    for role, name in (("baseline", baseline), ("teacher", teacher)):
        if name is not None and name not in measured_variants and name not in variants:
            raise UserError(f"{role} {name!r} is no variant of the table; its variants: {listing(variants)}")


def _check_metrics(cells: Sequence[Cell], columns: Sequence[Column]) -> None:
    for column in columns:
        known = {metric: None for cell in cells if cell.task == column.task for metric in cell.metrics}
        if known and column.metric not in known:
            raise UserError(f"task {column.task!r} has no metric {column.metric!r}; it has {listing(known)}")


def _seed_notes(rows: Sequence[Row]) -> list[str]:
    scores = [score for row in rows for score in row.scores if score is not None]
    if scores and all(score.n == 1 for score in scores):
        return [
            one_seed_note(sorted({seed for score in scores for seed, _ in score.values}, key=lambda seed: seed or 0))
        ]
    return []


def _limit_notes(columns: Sequence[Column], limits: Mapping[str, int]) -> list[str]:
    return [
        f"{task}: the study limits evaluation to {count(limit, 'row')} of the reported split."
        for task, limit in limits.items()
        if any(column.task == task for column in columns)
    ]
