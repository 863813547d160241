"""The table on the terminal, with rich."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compression.analysis.results import AblationTable
from flows.report.grid import PUBLISHED, Entry, Grid, Heading, Line, grid

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

# Between two columns: one character of padding and one of rich's divider.
_GAP = 2
_LONGEST_NAME = 32
_STYLES = {"good": "bold green", "bad": "bold red", "plain": ""}
_SENTENCES = 8


@dataclass(frozen=True)
class _Stack:
    """Entries of one variant that share a column, one under the other."""

    entries: tuple[Entry, ...]

    @property
    def width(self) -> int:
        return max(len(entry.narrow) for entry in self.entries)


@dataclass(frozen=True)
class _Column:
    """A column of the terminal: its heading and a stack for every variant."""

    heading: str
    stacks: tuple[_Stack, ...]

    @property
    def width(self) -> int:
        return max(len(line) for line in [*self.heading.split("\n"), *("x" * stack.width for stack in self.stacks)])


def render(table: AblationTable, *, width: int = 100, title: str | None = None, findings: bool = True) -> "Group":
    """The table for a terminal of a given width.

    All columns side by side where that fits; else what belongs together one under the other; else several tables.

    Args:
        table: the table.
        width: characters in a line.
        title: heading.
        findings: whether the comparisons are told in sentences too.

    Returns:
        What `rich.console.Console.print` takes. Names of variants and notes are shown literally, never as markup.
    """
    from rich.console import Group
    from rich.text import Text

    laid_out = grid(table)
    names = [_shortened(line.variant) for line in laid_out.lines]
    room = width - max(len("variant"), *(len(name) for name in names), 0) - _GAP
    columns = _side_by_side(laid_out)
    if _total(columns) > room:
        columns = _stacked(laid_out)
    parts: list[Text | Table] = [] if title is None else [Text(title, style="bold"), Text()]
    for chunk in _chunks(columns, room):
        parts += [_table(names, chunk), Text()]
    parts += [Text(f"! {note}", style="yellow") for note in table.notes]
    parts.append(Text(" ".join(laid_out.legend), style="dim"))
    if findings and table.findings:
        told = table.findings[:_SENTENCES]
        more = len(table.findings) - len(told)
        parts += [Text(), *(Text(f"• {sentence}") for sentence in told)]
        if more:
            parts.append(Text(f"  … and {more} more in the report", style="dim"))
    return Group(*parts)


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def _total(columns: Sequence[_Column]) -> int:
    return sum(column.width + _GAP for column in columns)


def _side_by_side(laid_out: Grid) -> list[_Column]:
    """One column a heading; the task stands above the first of its columns."""
    columns = []
    for index, heading in enumerate(laid_out.headings):
        first = index == 0 or laid_out.headings[index - 1].group != heading.group
        above = f"{heading.group}\n" if heading.group and first else "\n"
        columns.append(_Column(above + heading.short, _stacks(laid_out.lines, [index])))
    return columns


def _stacked(laid_out: Grid) -> list[_Column]:
    """One column a score with its difference and share, one a pair of costs."""
    columns = []
    for indices in _together(laid_out.headings):
        headings = [laid_out.headings[index] for index in indices]
        label = "\n".join([*filter(None, [headings[0].group]), *(heading.short for heading in headings)])
        columns.append(_Column(label, _stacks(laid_out.lines, indices)))
    return columns


def _together(headings: Sequence[Heading]) -> Iterator[list[int]]:
    partners = {"size MB", "speed-up"}
    group: list[int] = []
    for index, heading in enumerate(headings):
        follows = bool(group) and (
            heading.label in ("kept", PUBLISHED)
            or heading.label.startswith("Δ ")
            or (not heading.group and heading.label in partners)
        )
        if group and (not follows or (not heading.group and len(group) == 2)):
            yield group
            group = []
        group.append(index)
    if group:
        yield group


def _stacks(lines: Sequence[Line], indices: Sequence[int]) -> tuple[_Stack, ...]:
    return tuple(_Stack(tuple(line.entries[index] for index in indices)) for line in lines)


def _chunks(columns: Sequence[_Column], room: int) -> Iterator[list[_Column]]:
    chunk: list[_Column] = []
    for column in columns:
        if chunk and _total([*chunk, column]) > room:
            yield chunk
            chunk = []
        chunk.append(column)
    yield chunk


def _table(names: Sequence[str], columns: Sequence[_Column]) -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    tall = any(len(stack.entries) > 1 for column in columns for stack in column.stacks)
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, _GAP - 1, 0, 0), pad_edge=False, show_edge=False, show_lines=False)
    shown.add_column(Text("variant"), no_wrap=True, vertical="top")
    for column in columns:
        shown.add_column(Text(column.heading), justify="right", no_wrap=True)
    for index, name in enumerate(names):
        cells = [_styled(column.stacks[index]) for column in columns]
        shown.add_row(Text(name), *cells, end_section=False)
        if tall and index + 1 < len(names):
            shown.add_row()
    return shown


def _styled(stack: _Stack) -> "Text":
    from rich.text import Text

    lines = [Text(entry.narrow, style=_STYLES[entry.tone] if entry.bold else "") for entry in stack.entries]
    return Text("\n").join(lines)
