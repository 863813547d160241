"""Reading YAML with the line of every value: safe, bounded, and by the YAML 1.2 core schema.

YAML 1.1, PyYAML's own, reads `1e-4` as text, `no` as false and `1:30` as a number; the core schema does not.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from flows.study_errors import DocumentPath, Mark, Problem, StudyFileError, UnplacedError, describe, field_path

try:
    from yaml import CSafeLoader as _Base
except ImportError:  # PyYAML built without libyaml: slower, the same results
    from yaml import SafeLoader as _Base  # type: ignore[assignment]

_LARGEST_FILE = 1_000_000  # bytes
_DEEPEST = 64
_MOST_VALUES = 200_000  # after aliases are expanded

_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"


class _Loader(_Base):
    """Composes nodes; scalars resolve by the core schema."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # PyYAML's own protocol: replaces the 1.1 resolvers


for _name, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.")),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(rf"(?:{_pattern})\Z"), _first)


class Document:
    """A YAML document with the place of each of its values.

    Attributes:
        path: the file, as the user named it.
        text: its content.
        data: mappings, lists and scalars.
    """

    def __init__(self, path: Path, text: str, data: Any, lines: dict[DocumentPath, int]) -> None:
        self.path, self.text, self.data = path, text, data
        self._lines = lines
        self._overrides: dict[DocumentPath, str] = {}

    def mark(self, path: DocumentPath) -> Mark:
        """The line of a value, or of the nearest thing around it; or the `--set` that it comes from.

        Args:
            path: keys and list positions from the top of the document.

        Returns:
            The mark, whose path is the one asked for.
        """
        for length in range(len(path), 0, -1):
            around = path[:length]
            if around in self._overrides:
                return Mark(path, override=self._overrides[around])
            if around in self._lines:
                return Mark(path, line=self._lines[around])
        return Mark(path, line=1)

    def assign(self, path: DocumentPath, value: object, override: str) -> None:
        """Put a value from the command line into the document, replacing what stands there.

        Args:
            path: where; mappings on the way are made where there is nothing yet.
            value: the value.
            override: text of the `--set`, for messages.

        Raises:
            UnplacedError: something on the way is neither a mapping nor a list.
        """
        node = self.data
        for depth, part in enumerate(path[:-1]):
            if isinstance(node, dict) and node.get(part) is None:
                node[part] = {}
                self._overrides[path[: depth + 1]] = override
            node = node[part]
            if not isinstance(node, dict | list):
                raise UnplacedError(describe(f"`{field_path(path[: depth + 1])}` is not a mapping", node))
        node[path[-1]] = value
        for known in [line for line in self._lines if line[: len(path)] == path]:
            del self._lines[known]
        self._overrides = {known: text for known, text in self._overrides.items() if known[: len(path)] != path}
        self._overrides[path] = override

    def nest(self, path: DocumentPath, key: str) -> None:
        """Replace the value at a path by a mapping that holds it under a key, so that more keys can join it."""
        self._container(path)[path[-1]] = {key: self._container(path)[path[-1]]}
        moved = {at: line for at, line in self._lines.items() if at[: len(path)] == path and len(at) > len(path)}
        for at, line in moved.items():
            del self._lines[at]
            self._lines[(*path, key, *at[len(path) :])] = line

    def _container(self, path: DocumentPath) -> Any:
        node = self.data
        for part in path[:-1]:
            node = node[part]
        return node


def read_document(path: Path) -> Document:
    """Read a YAML file.

    Args:
        path: the file, at most 1 MB of UTF-8.

    Returns:
        The document; its top is a mapping.

    Raises:
        StudyFileError: it cannot be read, is no YAML, repeats a key, or is not a mapping.
    """

    def fail(text: str, line: int | None = None) -> StudyFileError:
        return StudyFileError(path, [Problem(Mark((), line), text)])

    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise fail(f"is larger than {_LARGEST_FILE:,} bytes, which no study needs")
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise fail(f"is not UTF-8 text: byte {error.start} is {error.object[error.start]:#04x}") from None
    except FileNotFoundError:
        raise fail(f"no such file{_near(path)}") from None
    except OSError as error:
        raise fail(f"cannot be read: {error.strerror}") from None
    builder = _Builder()
    try:
        data = builder.read(text)
    except _UnreadableError as error:
        raise fail(str(error), error.line) from None
    if builder.problems:
        raise StudyFileError(path, builder.problems)
    if not isinstance(data, dict):
        raise fail("is empty" if data is None else "must be a mapping with `name`, `teacher`, `tasks`, `variants`", 1)
    return Document(path, text, data, builder.lines)


def read_value(text: str) -> Any:
    """Read one value written as YAML, as `--set` takes it.

    Args:
        text: a scalar, `[a, list]` or `{a: mapping}`.

    Returns:
        The value.

    Raises:
        UnplacedError: it is no YAML.

    Example:
        >>> read_value("1e-4"), read_value("[0, 1]"), read_value("no")
        (0.0001, [0, 1], 'no')
    """
    builder = _Builder()
    try:
        value = builder.read(text)
    except _UnreadableError as error:
        raise UnplacedError(str(error)) from None
    if builder.problems:
        raise UnplacedError(builder.problems[0].text)
    return value


def _near(path: Path) -> str:
    from compression.errors import did_you_mean

    return did_you_mean(path.name, [found.name for found in path.parent.glob("*.y*ml")])


class _UnreadableError(Exception):
    def __init__(self, text: str, line: int | None = None) -> None:
        super().__init__(text)
        self.line = line


def _line(node: yaml.Node | yaml.Event) -> int:
    return node.start_mark.line + 1 if node.start_mark else 1


class _Builder:
    """Builds plain data from nodes, noting the line of every value."""

    def __init__(self) -> None:
        self.lines: dict[DocumentPath, int] = {}
        self.problems: list[Problem] = []
        self._values = 0

    def read(self, text: str) -> Any:
        try:
            _refuse_depth(text)
            node = yaml.compose(text, Loader=_Loader)
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            raise _UnreadableError(f"not valid YAML: {error.reason}", line) from None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            what = ", ".join(part for part in (error.context, error.problem) if part)
            tabs = "; indent with spaces, not tabs" if "cannot start any token" in what else ""
            raise _UnreadableError(f"not valid YAML: {what}{tabs}", mark.line + 1 if mark else None) from None
        return None if node is None else self._build(node, (), 0)

    def _build(self, node: yaml.Node, path: DocumentPath, depth: int) -> Any:
        self._spend(node, 1, depth)
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
            built = {}
            for key, value in self._pairs(node, path, depth):
                inner = (*path, key.value)
                self.lines[inner] = _line(key)
                built[key.value] = self._build(value, inner, depth + 1)
            return built
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
            for index, item in enumerate(node.value):
                self.lines[(*path, index)] = _line(item)
            return [self._build(item, (*path, index), depth + 1) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        raise _UnreadableError(f"tag {node.tag!r} is not allowed", _line(node))

    def _pairs(self, node: yaml.MappingNode, path: DocumentPath, depth: int) -> list[tuple[yaml.ScalarNode, yaml.Node]]:
        """Keys and values of a mapping, those of merge keys (`<<`) last unless the mapping has the key itself."""
        self._spend(node, len(node.value), depth)
        own: dict[str, tuple[yaml.ScalarNode, yaml.Node]] = {}
        merged: list[tuple[yaml.ScalarNode, yaml.Node]] = []
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _UnreadableError("a key must be plain text", _line(key))
            if key.tag == _MERGE:
                for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    if not isinstance(source, yaml.MappingNode):
                        raise _UnreadableError("`<<` must name a mapping or a list of mappings", _line(key))
                    merged += self._pairs(source, path, depth + 1)
            elif key.value in own:
                first = _line(own[key.value][0])
                mark = Mark((*path, key.value), _line(key))
                self.problems.append(Problem(mark, f"the key stands twice in this mapping; first in line {first}"))
            else:
                own[key.value] = (key, value)
        for key, value in merged:
            own.setdefault(key.value, (key, value))
        return list(own.values())

    def _spend(self, node: yaml.Node, values: int, depth: int) -> None:
        self._values += values
        if self._values > _MOST_VALUES:
            raise _UnreadableError(f"has more than {_MOST_VALUES:,} values once aliases are expanded", _line(node))
        if depth > _DEEPEST:
            raise _UnreadableError(f"nested deeper than {_DEEPEST} levels", _line(node))

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        kind, text = node.tag.removeprefix(_TAG), node.value
        try:
            if kind == "str":
                return text
            if kind == "null":
                return None
            if kind == "bool":
                return {"true": True, "false": False}[text.lower()]
            if kind == "int":
                return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
            if kind == "float":
                return float(re.sub(r"\.(?=inf|nan)", "", text.lower()))
        except (ValueError, KeyError):
            raise _UnreadableError(
                f"{text[:40]!r} is not a number or truth value that can be read", _line(node)
            ) from None
        raise _UnreadableError(f"tag {node.tag!r} is not allowed", _line(node))


def _refuse_depth(text: str) -> None:
    """Deep nesting overflows the C stack of libyaml's composer, so depth is counted on its flat events first."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _DEEPEST:
                raise _UnreadableError(f"nested deeper than {_DEEPEST} levels", _line(event))
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
