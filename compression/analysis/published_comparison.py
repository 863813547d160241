"""Printed figures beside measured ones, with what keeps the two from being comparable."""

from collections.abc import Iterator, Mapping, Sequence

from compression.analysis.published_config import PublishedColumn, PublishedTable
from compression.analysis.results import AblationTable, Column, Difference, PublishedComparison, PublishedFigure
from compression.analysis.wording import listing
from compression.architecture.shape import EncoderShape
from compression.data.config import TaskConfig

_TOLD: dict[Difference, str] = {
    "split": "another split for {}",
    "metric": "a metric that the source does not state for {}",
    "evaluation rows": "part of the reported rows of {}",
    "training rows": "part of the training rows of {}",
    "shape": "another or an unknown shape of {}",
}


def compare(
    table: AblationTable,
    published: PublishedTable,
    reference: str,
    *,
    rows: Mapping[str, str],
    tasks: Sequence[TaskConfig],
    shapes: Mapping[str, EncoderShape | None],
) -> PublishedComparison:
    """Put the figures of a published table beside the scores of a measured one.

    A measured score is comparable where the encoder has the published shape, the task is GLUE's, whole, on the split
    that was published, and the source states the metric. Anything else is a trend. How models were trained is not
    compared, except that a study that trains on part of the rows is never comparable.

    Args:
        table: the measured table.
        published: the published one.
        reference: how its paper is cited.
        rows: variant -> name of the published row; others have none.
        tasks: the study's tasks.
        shapes: variant -> shape of its encoder; None where it is not known.

    Returns:
        The printed figures, in the order of the measured columns, and what a reader must know of them.
    """
    by_name = {task.name: task for task in tasks}
    columns = [column_of(published, by_name[column.task], column, table.columns) for column in table.columns]
    baseline = rows.get(table.baseline or "")
    figures: dict[str, tuple[PublishedFigure | None, ...]] = {}
    for variant in (row.variant for row in table.rows if row.variant in rows):
        same = _same_shape(shapes.get(variant), published, rows[variant])
        figures[variant] = tuple(
            None
            if name is None
            else _figure(
                published,
                rows[variant],
                name,
                baseline,
                [*_task_differences(published, name, by_name[column.task]), *same],
            )
            for name, column in zip(columns, table.columns, strict=True)
        )
    split = f", {published.split}" if published.split else ""
    statement = _statement(figures, table.columns)
    return PublishedComparison(published.id, f"{reference}, {published.table}{split}", figures, statement)


def column_of(published: PublishedTable, task: TaskConfig, column: Column, shown: Sequence[Column]) -> str | None:
    """The published column that belongs to a measured one.

    Args:
        published: the published table.
        task: the measured task.
        column: the measured column.
        shown: all measured columns.

    Returns:
        Name of the published column of the same task and metric, or of one whose metric is not known, beside the task's
        first metric; None where there is none, or several.
    """
    first = next(other.metric for other in shown if other.task == column.task)
    same = [name for name, meaning in published.columns.items() if meaning.task == (task.glue or task.name)]
    exact = [name for name in same if published.columns[name].metric == column.metric]
    unknown = [name for name in same if published.columns[name].metric is None and column.metric == first]
    found = exact or unknown
    return found[0] if len(found) == 1 else None


def _figure(
    published: PublishedTable, row: str, column: str, baseline: str | None, differs: Sequence[Difference]
) -> PublishedFigure | None:
    printed = published.figure(row, column)
    if printed is None:
        return None
    reference = None if baseline in (None, row) else published.figure(str(baseline), column)
    delta = None if reference is None else round(printed - reference, 6) / 100
    return PublishedFigure(row, column, printed, delta, tuple(differs))


def _task_differences(published: PublishedTable, column: str, task: TaskConfig) -> Iterator[Difference]:
    meaning: PublishedColumn = published.columns[column]
    if published.split_of(column) != "dev" or task.glue is None:
        yield "split"
    if not meaning.metric_stated:
        yield "metric"
    if task.limit_evaluation is not None:
        yield "evaluation rows"
    if task.limit_train is not None:
        yield "training rows"


def _same_shape(shape: EncoderShape | None, published: PublishedTable, row: str) -> list[Difference]:
    """Nothing where the shapes are equal; the number of positions is no matter."""
    described = published.shape_of(published.row(row))
    if shape is None or described is None:
        return ["shape"]
    theirs = described.encoder().edited(max_position_embeddings=shape.max_position_embeddings)
    return [] if theirs == shape else ["shape"]


def _statement(figures: Mapping[str, Sequence[PublishedFigure | None]], columns: Sequence[Column]) -> str:
    """What keeps the figures apart, or that nothing does."""
    shown = [
        (variant, column.task, figure)
        for variant, row in figures.items()
        for column, figure in zip(columns, row, strict=True)
        if figure is not None
    ]
    if not shown:
        return "It prints nothing that was measured here."
    reasons = []
    for difference, text in _TOLD.items():
        names = [
            variant if difference == "shape" else task
            for variant, task, figure in shown
            if difference in figure.differs
        ]
        if names:
            reasons.append(text.format(listing(dict.fromkeys(names))))
    if not reasons:
        return "Shape, split and metric are the published ones; how the models were trained is not compared."
    return f"Measured figures are a trend, no reproduction: {'; '.join(reasons)}."
