"""The report as one HTML page that needs no network."""

import base64
import hashlib
from functools import cache
from importlib import resources
from typing import Any

from compression.analysis.results import AblationTable
from compression.analysis.wording import metric_label, points
from flows.report.document import Document, safe_address
from flows.report.grid import Grid, grid, summary


def render(table: AblationTable, document: Document, *, svg: str | None = None) -> str:
    """The page: verdicts, sortable table, plot, cells with their runs, environment and study file.

    Everything that a user wrote is escaped, and the page's content security policy lets nothing run but its own script.

    Args:
        table: the table.
        document: the text around it.
        svg: the plot as an `<svg>` element drawn by `compression.analysis.plot`, which is put in as it is.

    Returns:
        HTML text.
    """
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["address"] = safe_address
    script = _file("report.js")
    return environment.from_string(_file("report.html.j2")).render(
        document=document,
        table=table,
        grid=(laid_out := grid(table)),
        groups=_groups(laid_out),
        summary=summary(table),
        cells=[cell for row in table.rows for cell in row.cells],
        metrics=_metrics,
        svg=None if svg is None else _trusted(svg),
        style=_trusted(_file("report.css")),
        script=_trusted(script),
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


@cache
def _file(name: str) -> str:
    return resources.files("flows.report").joinpath("templates", name).read_text(encoding="utf-8")


def _trusted(text: str) -> Any:
    """Text of our own making that goes into the page unescaped."""
    from markupsafe import Markup

    return Markup(text)  # noqa: S704  (our own style, script and plot; the plot draws names as outlines)


def _groups(laid_out: Grid) -> list[tuple[str, int]]:
    """Tasks and the number of columns under each, in order."""
    groups: list[tuple[str, int]] = []
    for heading in laid_out.headings:
        if groups and groups[-1][0] == heading.group:
            groups[-1] = (heading.group, groups[-1][1] + 1)
        else:
            groups.append((heading.group, 1))
    return groups


def _metrics(metrics: dict[str, float]) -> str:
    return ", ".join(f"{metric_label(name)} {points(value, digits=2)}" for name, value in metrics.items())
