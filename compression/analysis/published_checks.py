"""Whether the figures of a published table fit each other: names, ranges, shapes, means and differences."""

from collections.abc import Iterator, Mapping, Sequence

from compression.analysis.published_config import MeanOf, PublishedColumn, PublishedRow, PublishedTable
from compression.errors import did_you_mean


def table_problems(table: PublishedTable) -> list[str]:
    """Find what is wrong within a table.

    Args:
        table: a table whose fields are sound, each by itself.

    Returns:
        One sentence a problem: names of rows and columns first; only where they are sound, figures out of range,
        parameters without a shape, and means and differences that do not follow from the other figures within their
        printed digits and are not in `expected_inconsistencies`, or are there and do follow.
    """
    misnamed = [
        *_rows(table),
        *(text for name in table.columns for text in _references(table, name)),
        *_expected(table),
    ]
    return misnamed or [*_out_of_range(table), *_without_split(table), *_without_shape(table), *_unexpected(table)]


def recomputed(table: PublishedTable, row: PublishedRow, column: str) -> float | None:
    """What a figure should be, from the others of the table as they are printed.

    Args:
        table: a table without misnamed rows and columns.
        row: one of its rows.
        column: name of a column.

    Returns:
        The mean or the difference, unrounded; None where the column is neither, a figure that it needs is not printed,
        or the difference is one of figures that the table does not print.

    Example:
        >>> from compression.analysis.published import load_published
        >>> table = load_published().table("tinybert.t3")
        >>> row = table.row("w/o Trm")
        >>> row.figures["average"], round(recomputed(table, row, "average"), 3)
        (56.3, 56.325)
    """
    meaning = table.columns[column]
    if meaning.mean_of:
        return _mean(row.figures, meaning.mean_of)
    reference = meaning.relative_to
    if reference is None or reference.table is not None:
        return None
    ours, theirs = row.figures[reference.column], table.figure(reference.row, reference.column)
    return None if ours is None or theirs is None else ours - theirs


def agrees(printed: float, value: float) -> bool:
    """Whether a value is the printed one within its digits.

    Args:
        printed: as the source prints it; 110 has no decimals, 67.0 has one.
        value: unrounded.

    Returns:
        True also for a value half-way between two printed ones.

    Example:
        >>> agrees(66, 66.36), agrees(67.0, 66.36), agrees(75.6, 75.575)
        (True, False, True)
    """
    decimals = len(str(printed).partition(".")[2])
    return abs(printed - value) <= 0.5 * 10.0**-decimals + 1e-9


def _mean(figures: Mapping[str, int | float | None], names: Sequence[str | tuple[str, ...]]) -> float | None:
    values = [figures[name] if isinstance(name, str) else _mean(figures, name) for name in names]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def _flat(names: MeanOf) -> Iterator[str]:
    for name in names:
        yield from [name] if isinstance(name, str) else name


def _rows(table: PublishedTable) -> Iterator[str]:
    names = [row.name for row in table.rows]
    yield from (f"row {name!r} stands twice" for name in dict.fromkeys(names) if names.count(name) > 1)
    for row in table.rows:
        for column in row.figures:
            if column not in table.columns:
                yield f"row {row.name!r}: column {column!r} is not declared{did_you_mean(column, table.columns)}"
        yield from (f"row {row.name!r}: no {column!r}" for column in table.columns if column not in row.figures)


def _references(table: PublishedTable, name: str) -> Iterator[str]:
    column = table.columns[name]
    used = [*_flat(column.mean_of)]
    reference = column.relative_to
    if reference is not None and reference.table is None:
        used.append(reference.column)
        rows = [row.name for row in table.rows]
        if reference.row not in rows:
            near = did_you_mean(reference.row, rows)
            yield f"column {name!r} refers to a row {reference.row!r} that is not there{near}"
    for other in used:
        if other not in table.columns or other == name:
            near = did_you_mean(other, table.columns)
            yield f"column {name!r} refers to {other!r}, which is no other column{near}"


def _expected(table: PublishedTable) -> Iterator[str]:
    rows = [row.name for row in table.rows]
    cells = [(expected.row, expected.column) for expected in table.expected_inconsistencies]
    if len(set(cells)) < len(cells):
        yield "an inconsistency is expected twice at the same cell"
    for expected in table.expected_inconsistencies:
        column = table.columns.get(expected.column)
        if expected.row not in rows or column is None or not _follows(column):
            place = f"row {expected.row!r}, column {expected.column!r}"
            yield f"an inconsistency is expected at {place}, where there is no mean, difference or count of parameters"


def _follows(column: PublishedColumn) -> bool:
    """Whether the figures of a column follow from other figures or from the shape."""
    within = column.relative_to is not None and column.relative_to.table is None
    return bool(column.mean_of) or within or column.quantity == "parameters_millions"


def _out_of_range(table: PublishedTable) -> Iterator[str]:
    for row in table.rows:
        for name, column in table.columns.items():
            figure, (smallest, largest) = row.figures[name], column.limits
            if figure is not None and not smallest <= figure <= largest:
                yield f"row {row.name!r}: {name} {figure} is not within {smallest:g} to {largest:g}"


def _without_split(table: PublishedTable) -> Iterator[str]:
    for name, column in table.columns.items():
        if column.task is not None and table.split_of(name) is None:
            yield f"column {name!r} is a score without a split"


def _without_shape(table: PublishedTable) -> Iterator[str]:
    counted = [name for name, column in table.columns.items() if column.quantity == "parameters_millions"]
    for row in table.rows:
        known = row.no_shape is not None or table.shape_of(row) is not None
        if not known and any(row.figures[name] is not None for name in counted):
            yield f"row {row.name!r} has parameters and neither `shape` nor `no_shape`"


def _unexpected(table: PublishedTable) -> Iterator[str]:
    for row in table.rows:
        for column in table.columns:
            printed, value = row.figures[column], recomputed(table, row, column)
            if printed is None or value is None:
                continue
            place = f"row {row.name!r}: {column}"
            told = table.expected(row.name, column)
            if told is None and not agrees(printed, value):
                yield f"{place} is printed {printed} and recomputed {value:.3f}; say so in `expected_inconsistencies`"
            if told is not None and (agrees(printed, value) or not agrees(told.recomputed, value)):
                yield f"{place} is expected to be {told.recomputed} instead of {printed}, and recomputed {value:.3f}"
