"""The report as GitHub-flavoured Markdown."""

import re
from collections.abc import Iterable
from urllib.parse import quote

from compression.analysis.results import AblationTable
from flows.report.document import Document, safe_address
from flows.report.grid import Entry, Heading, grid, summary

# What stays as it is in an address; brackets are encoded, or they could end the link.
_ADDRESS = ":/?#@!$&+,;=%-._~"


def escape(text: object) -> str:
    r"""Text that Markdown shows as it is.

    Args:
        text: anything.

    Returns:
        One line without markup, HTML or table borders.

    Example:
        >>> escape("a|b <script> [x](y) *z* snake_case")
        'a\\|b &lt;script&gt; \\[x\\](y) \\*z\\* snake_case'
    """
    line = " ".join(str(text).split())
    line = re.sub(r"([\\`*\[\]|~#])", r"\\\1", line)
    # Inside a word an underscore is no markup, and names are full of them.
    line = re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", line)
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def render(table: AblationTable, document: Document, *, plot: str | None = None) -> str:
    """The table with its notes, findings, runs and environment.

    Args:
        table: the table.
        document: the text around it.
        plot: address of the plot's picture, when there is one.

    Returns:
        Markdown text.
    """
    laid_out = grid(table)
    parts = [f"# {escape(document.title)}"]
    if document.description:
        parts.append(escape(document.description))
    parts.append(escape(summary(table)))
    if table.notes:
        parts.append("\n".join(f"> **Note:** {escape(note)}  " for note in table.notes))
    parts.append(render_table(table))
    parts.append(" ".join(escape(line) for line in laid_out.legend))
    if plot is not None:
        parts.append(f"![Score against latency; marker area is model size]({plot})")
    for title, body in (
        ("Findings", _bullets(table.findings)),
        *((escape(title), _bullets(lines)) for title, lines in document.sections.items()),
        ("Links", "\n".join(f"- {_link(label, address)}" for label, address in document.links.items())),
        ("Runs", _runs(table)),
        (
            "Environment",
            "\n".join(f"- {escape(name)}: {escape(value)}" for name, value in document.environment.items()),
        ),
    ):
        if body:
            parts.append(f"## {title}\n\n{body}")
    return "\n\n".join(parts) + "\n"


def render_table(table: AblationTable) -> str:
    """The table alone.

    Args:
        table: the table.

    Returns:
        Lines of a Markdown table.
    """
    laid_out = grid(table)
    header = ["Variant", *(_heading(heading, laid_out.headings) for heading in laid_out.headings)]
    lines = [header, ["---", *(["---:"] * len(laid_out.headings))]]
    lines += [[escape(line.variant), *(_entry(entry) for entry in line.entries)] for line in laid_out.lines]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {escape(line)}" for line in lines)


def _heading(heading: Heading, headings: tuple[Heading, ...]) -> str:
    several = len({other.group for other in headings if other.group}) > 1
    # With one task its name stands over the score; with several, over every column of it.
    named = heading.group and (several or heading == headings[0])
    return escape(f"{heading.group} {heading.label}" if named else heading.label)


def _entry(entry: Entry) -> str:
    return f"**{escape(entry.full)}**" if entry.bold else escape(entry.full)


def _link(label: str, address: str) -> str:
    safe = safe_address(address)
    if safe is None:
        return f"{escape(label)}: {escape(address)}"
    return f"[{escape(label)}](<{quote(safe, safe=_ADDRESS)}>)"


def _runs(table: AblationTable) -> str:
    lines = []
    for row in table.rows:
        links = [
            _link(" ".join(filter(None, (cell.task, "" if cell.seed is None else f"seed {cell.seed}", label))), address)
            for cell in row.cells
            for label, address in cell.links.items()
        ]
        if links:
            lines.append(f"- {escape(row.variant)}: {', '.join(links)}")
    return "\n".join(lines)
