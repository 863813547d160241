"""Reports on disk."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from compression.analysis import plot
from compression.analysis.results import AblationTable
from compression.errors import UserError
from flows.report import delimited, html, latex, markdown
from flows.report.document import FORMATS, Document


def write(
    table: AblationTable,
    folder: Path,
    formats: Iterable[str] = tuple(FORMATS),
    *,
    title: str,
    description: str = "",
    study_text: str = "",
    links: Mapping[str, str] | None = None,
    environment: Mapping[str, object] | None = None,
    sections: Mapping[str, Sequence[str]] | None = None,
) -> list[Path]:
    """Write a table in several formats. The same table gives the same bytes.

    Args:
        table: the table.
        folder: where to write; made when it is missing. Files of these names are replaced.
        formats: names from `FORMATS`.
        title: heading of the report.
        description: one paragraph.
        study_text: the study file as it was read.
        links: label -> address.
        environment: name -> value.
        sections: heading -> lines.

    Returns:
        The files in order of `FORMATS`. A plot that would be empty is not written.

    Raises:
        UserError: a format that there is not.
    """
    wanted = _checked(formats)
    document = Document(title, description, study_text, links or {}, environment or {}, sections or {})
    drawn = plot.render(
        table, [kind for kind in ("svg", "png") if kind in wanted or (kind == "svg" and "html" in wanted)]
    )
    contents: dict[str, str | bytes] = {kind: picture for kind, picture in drawn.items() if kind in wanted}
    if "markdown" in wanted:
        picture = next((FORMATS[kind] for kind in ("svg", "png") if kind in contents), None)
        contents["markdown"] = markdown.render(table, document, plot=picture)
    if "csv" in wanted:
        contents["csv"] = delimited.render(table)
    if "latex" in wanted:
        contents["latex"] = latex.render(table, document)
    if "json" in wanted:
        contents["json"] = table.to_json() + "\n"
    if "html" in wanted:
        contents["html"] = html.render(table, document, svg=_element(drawn.get("svg")))
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for kind in (kind for kind in FORMATS if kind in contents):
        content = contents[kind]
        path = folder / FORMATS[kind]
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        paths.append(path)
    return paths


def _checked(formats: Iterable[str]) -> set[str]:
    wanted = set(formats)
    for unknown in sorted(wanted - set(FORMATS)):
        nearest = difflib.get_close_matches(unknown, FORMATS, n=1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        raise UserError(f"unknown report format {unknown!r}; allowed: {', '.join(FORMATS)}{hint}")
    return wanted


def _element(svg: bytes | None) -> str | None:
    """The `<svg>` element without the XML prologue, which has no place inside a page."""
    if svg is None:
        return None
    text = svg.decode()
    return text[text.index("<svg") :]
