"""The figures that papers print, as data: `studies/published/`, one YAML file a paper."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from compression.analysis.published_checks import table_problems
from compression.analysis.published_config import PublishedPaper, PublishedSettings, PublishedTable
from compression.errors import UserError, did_you_mean

Entry = TypeVar("Entry")

# Beside this package in the source tree and where it is installed: pyproject.toml packs the folder under its own name.
PUBLISHED_FOLDER = Path(__file__).parents[2] / "studies" / "published"


class Published:
    """All published tables, by id.

    Attributes:
        papers: name of the file -> what it says.
        tables: id -> table of figures.
        settings: id -> table of hyper-parameters.
    """

    def __init__(self, papers: Mapping[str, PublishedPaper]) -> None:
        self.papers = dict(papers)
        self.tables: dict[str, PublishedTable] = {
            table.id: table for paper in papers.values() for table in paper.tables
        }
        self.settings: dict[str, PublishedSettings] = {
            settings.id: settings for paper in papers.values() for settings in paper.settings
        }

    def table(self, identifier: str) -> PublishedTable:
        """A table of figures.

        Args:
            identifier: for example `tinybert.t3`.

        Returns:
            The table.

        Raises:
            UserError: no such table; suggests the nearest id.
        """
        return _look_up(identifier, self.tables)

    def entry(self, identifier: str) -> PublishedTable | PublishedSettings:
        """A table of figures or of hyper-parameters.

        Args:
            identifier: for example `tinybert.t3` or `tinybert.hyper`.

        Returns:
            The table.

        Raises:
            UserError: no such table; suggests the nearest id.
        """
        entries: dict[str, PublishedTable | PublishedSettings] = {**self.tables, **self.settings}
        return _look_up(identifier, entries)

    def paper(self, identifier: str) -> PublishedPaper:
        """The paper that a table is from.

        Args:
            identifier: id of one of its tables.

        Returns:
            The paper.

        Raises:
            UserError: no such table; suggests the nearest id.
        """
        return self.papers[self.entry(identifier).id.partition(".")[0]]


def load_published(folder: Path | None = None) -> Published:
    """Read and check all published figures.

    Args:
        folder: folder of YAML files; by default the one that comes with the project.

    Returns:
        The tables.

    Raises:
        UserError: files that are missing or malformed; one line a problem, with file, field and what is wrong.

    Example:
        >>> published = load_published()
        >>> published.table("tinybert.t3").figure("w/o Attn", "cola"), published.paper("tinybert.t3").arxiv
        (41.1, '1909.10351')
    """
    folder = PUBLISHED_FOLDER if folder is None else folder
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise UserError(f"{folder} holds no published figures: it has no file *.yaml")
    papers, problems = {}, []
    for file in files:
        try:
            papers[file.stem] = _read(file)
        except _MalformedError as error:
            problems += [f"{file.name}: {text}" for text in error.problems]
    if not problems:
        problems = [*_misplaced(papers), *_inconsistent(papers)] or [*_dangling(Published(papers))]
    if problems:
        raise UserError("\n".join(problems))
    return Published(papers)


class _MalformedError(Exception):
    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems = problems


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # libyaml's where it is built in
    """Safe, and refuses a key that stands twice: of two figures for one cell, YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"key {key.value!r} stands twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return dict(super().construct_mapping(node, deep))


def _read(file: Path) -> PublishedPaper:
    try:
        given = yaml.load(file.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - a safe loader
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise _MalformedError(f"{line}{error.problem}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise _MalformedError(f"no YAML: {error}") from None
    if not isinstance(given, dict):
        raise _MalformedError("must be a mapping with `paper`, `authors`, `year` and `tables`")
    try:
        return PublishedPaper.model_validate(given)
    except ValidationError as error:
        details = [dict(detail) for detail in error.errors(include_url=False)]
        raise _MalformedError(
            *(_describe(detail, given) for detail in details if not _follows(detail, details))
        ) from None


def _follows(error: dict[str, Any], errors: list[dict[str, Any]]) -> bool:
    """Whether a list only lacks the items that are wrong themselves."""
    place = error["loc"]
    return error["type"] == "too_short" and any(
        other["loc"][: len(place)] == place for other in errors if other != error
    )


def _describe(error: dict[str, Any], given: Any) -> str:
    """One of pydantic's errors: place, with the id of the table, and what is wrong."""
    place, identifier = "", ""
    for part in error["loc"]:
        place += f"[{part}]" if isinstance(part, int) else f".{part}" if place else part
        try:
            given = given[part]
        except (LookupError, TypeError):
            given = None
        if isinstance(given, dict) and isinstance(given.get("id"), str):
            identifier = f" ({given['id']})"
    field = f"{place}{identifier}: " if place else ""
    return f"{field}{error['msg'].removeprefix('Value error, ')}"


def _misplaced(papers: Mapping[str, PublishedPaper]) -> Iterator[str]:
    for stem, paper in papers.items():
        seen: set[str] = set()
        for entry in (*paper.tables, *paper.settings):
            if not entry.id.startswith(f"{stem}."):
                yield f"{stem}.yaml: id {entry.id!r} must begin with the name of its file, `{stem}.`"
            if entry.id in seen:
                yield f"{stem}.yaml: id {entry.id!r} stands twice"
            seen.add(entry.id)


def _inconsistent(papers: Mapping[str, PublishedPaper]) -> Iterator[str]:
    for stem, paper in papers.items():
        for index, table in enumerate(paper.tables):
            yield from (f"{stem}.yaml: tables[{index}] ({table.id}): {text}" for text in table_problems(table))


def _dangling(published: Published) -> Iterator[str]:
    """References to cells of other tables that are not there."""
    for table in published.tables.values():
        for name, column in table.columns.items():
            reference = column.relative_to
            if reference is None or reference.table is None:
                continue
            try:
                published.table(reference.table).figure(reference.row, reference.column)
            except UserError as error:
                yield f"{table.id.partition('.')[0]}.yaml: {table.id}: column {name!r}: {error}"


def _look_up(identifier: str, entries: Mapping[str, Entry]) -> Entry:
    if identifier not in entries:
        near = did_you_mean(identifier, entries)
        raise UserError(f"no published table {identifier!r}{near or '; `bertpress published` lists them'}")
    return entries[identifier]
