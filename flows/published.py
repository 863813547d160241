"""`bertpress published`: the figures that papers print, for the terminal and as records."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from compression.analysis.published import Published
from compression.analysis.published_config import PublishedColumn, PublishedSettings, PublishedTable
from compression.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_ABSENT = "—"
_GAP = 2  # rich's padding between two columns
_READ_IN = {"paper": "the paper", "authors_repository": "the authors' repository"}


def list_records(published: Published, paper: str | None = None) -> list[dict[str, Any]]:
    """What there is, as JSON values.

    Args:
        published: all published tables.
        paper: keep those of this paper.

    Returns:
        One mapping a table of figures or settings.
    """
    return [
        {
            "id": entry.id,
            "paper": entries.paper,
            "arxiv": entries.arxiv,
            "table": entry.table,
            "split": entry.split if isinstance(entry, PublishedTable) else None,
            "kind": "figures" if isinstance(entry, PublishedTable) else "settings",
            "what": entry.what,
        }
        for stem, entries in published.papers.items()
        if paper in (None, stem)
        for entry in (*entries.tables, *entries.settings)
    ]


def entry_record(published: Published, identifier: str) -> dict[str, Any]:
    """One table as JSON values.

    Args:
        published: all published tables.
        identifier: for example `tinybert.t3`.

    Returns:
        What its file says, with the paper.

    Raises:
        UserError: no such table.
    """
    entry = published.entry(identifier)
    paper = published.paper(identifier).model_dump(mode="json", include={"paper", "authors", "year", "arxiv"})
    return {**paper, **entry.model_dump(mode="json")}


def is_paper(published: Published, name: str) -> bool:
    """Whether a name is a paper's, not a table's.

    Args:
        published: all published tables.
        name: `tinybert`, or `tinybert.t3`.

    Returns:
        True for a paper.

    Raises:
        UserError: neither a paper nor a table; suggests the nearest.
    """
    if name in published.papers:
        return True
    known = {**published.tables, **published.settings}
    if name not in known:
        near = did_you_mean(name, [*published.papers, *known])
        raise UserError(f"no published paper or table {name!r}{near or '; `bertpress published` lists them'}")
    return False


def show_list(console: "Console", records: Sequence[dict[str, Any]]) -> None:
    """Print what there is.

    Args:
        console: where to.
        records: what `list_records` gives.
    """
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False)
    for column in ("id", "paper", "table", "split", "what"):
        grid.add_column(column, no_wrap=column == "id", ratio=2 if column == "what" else None)
    for record in records:
        grid.add_row(*(Text(record[name] or _ABSENT) for name in ("id", "paper", "table", "split", "what")))
    console.print(grid)


def show_entry(console: "Console", published: Published, identifier: str) -> None:
    """Print one table with its source, split and notes.

    Args:
        console: where to.
        published: all published tables.
        identifier: for example `tinybert.t3`.

    Raises:
        UserError: no such table.
    """
    entry = published.entry(identifier)
    console.print(f"{published.paper(identifier).reference}, {entry.table}", style="bold", markup=False)
    console.print(f"{entry.what}\n", markup=False)
    tables = [_settings(entry)] if isinstance(entry, PublishedSettings) else _figures(entry, console.width)
    for table in tables:
        console.print(table)
        console.print()
    for line in _legend(entry):
        console.print(line, style="dim", markup=False)
    if isinstance(entry, PublishedTable):
        for item in entry.expected_inconsistencies:
            printed = number(entry.figure(item.row, item.column))
            text = (
                f"! {item.row}, {item.column}: printed {printed}, recomputed {number(item.recomputed)}: {item.reason}"
            )
            console.print(text, style="yellow", markup=False)
    for note in entry.notes:
        console.print(f"• {note}", markup=False)


def number(figure: float | None, *, sign: bool = False) -> str:
    """A figure with the digits that it was printed with.

    Args:
        figure: the figure; None where none is printed.
        sign: write a plus too, as for a difference.

    Returns:
        The text, with a true minus sign.

    Example:
        >>> number(67.0), number(400000), number(-2.96), number(4.65, sign=True), number(None)
        ('67.0', '400,000', '−2.96', '+4.65', '—')
    """
    if figure is None:
        return _ABSENT
    return f"{figure:{'+' if sign and figure else ''},}".replace("-", "−")


def _figures(entry: PublishedTable, width: int) -> list["Table"]:
    """Rows as in the source where they fit; else one column a row, if that fits; else several tables."""
    factors = list(dict.fromkeys(factor for row in entry.rows for factor in row.factors))
    headings = [factor.replace("_", " ") for factor in factors]
    lines = [["", *headings, *(column.heading for column in entry.columns.values())]]
    for row in entry.rows:
        told = [_factor(row.factors.get(factor)) for factor in factors]
        lines.append([row.name, *told, *(_cell(row.figures[name], column) for name, column in entry.columns.items())])
    for turned, left in ((lines, 1 + len(factors)), ([list(line) for line in zip(*lines, strict=True)], 1)):
        widths = _widths(turned, width)
        if sum(widths) + _GAP * (len(widths) - 1) <= width:
            return [_grid(turned, left, widths)]
    return _several(lines, 1 + len(factors), width)


def _several(lines: Sequence[Sequence[str]], left: int, width: int) -> list["Table"]:
    """Tables of the columns that fit side by side, each after the names and factors."""
    widths = _widths(lines, width)
    first = list(range(left))
    chunks = [first[:]]
    for index in range(left, len(widths)):
        used = sum(widths[other] + _GAP for other in chunks[-1])
        if used + widths[index] > width and len(chunks[-1]) > left:
            chunks.append(first[:])
        chunks[-1].append(index)
    return [
        _grid([[line[index] for index in chunk] for line in lines], left, [widths[index] for index in chunk])
        for chunk in chunks
    ]


def _widths(lines: Sequence[Sequence[str]], width: int) -> list[int]:
    """Columns are as narrow as their longest word; names take up to a third of the line."""
    columns = list(zip(*lines, strict=True))
    words = [max((len(word) for cell in column for word in cell.split()), default=1) for column in columns]
    words[0] = max(words[0], min(width // 3, max(map(len, columns[0]))))
    return words


def _grid(lines: Sequence[Sequence[str]], left: int, widths: Sequence[int]) -> "Table":
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False)
    for index, heading in enumerate(lines[0]):
        side: Literal["left", "right"] = "left" if index < left else "right"
        grid.add_column(Text(heading), justify=side, width=widths[index], vertical="bottom")
    for line in lines[1:]:
        grid.add_row(*map(Text, line))
    return grid


def _factor(value: bool | float | str | None) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else number(value)


def _cell(figure: float | None, column: PublishedColumn) -> str:
    return number(figure, sign=column.quantity in ("difference", "parameters_change_percent"))


def _settings(entry: PublishedSettings) -> "Table":
    from rich.table import Table
    from rich.text import Text

    grid = Table("", "value", "where", box=None, pad_edge=False)
    for row in entry.rows:
        grid.add_row(Text(row.name), Text(_value(row.value)), Text(row.where))
    return grid


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_value(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return " / ".join(map(_value, value))
    return str(value)


def _legend(entry: PublishedTable | PublishedSettings) -> list[str]:
    lines = [f"Read in {_READ_IN[entry.read_in]}: {entry.source}."]
    if isinstance(entry, PublishedTable):
        if entry.split is not None:
            lines.append(f"Split: {entry.split}.{_hidden(entry)}")
        for name, column in entry.columns.items():
            if column.split is not None:
                lines.append(f"Split of {name}: {column.split}.")
            if (reference := column.relative_to) is not None:
                where = f" in {reference.table}" if reference.table else ""
                lines.append(f"Difference in points to {reference.column} of {reference.row}{where}.")
        if any(not column.metric_stated for column in entry.columns.values()):
            lines.append("?: the source does not state the metric.")
    return lines


def _hidden(entry: PublishedTable) -> str:
    """GLUE's test labels are on its server alone."""
    from compression.data.glue import GLUE_TASKS

    glue = any(column.task in GLUE_TASKS for column in entry.columns.values())
    return (
        " The labels are hidden: nothing here can be measured without GLUE's server."
        if glue and entry.split == "test"
        else ""
    )
