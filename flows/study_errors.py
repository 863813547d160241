"""Messages about study files: where something is wrong, what was given, what is allowed."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compression.errors import UserError, did_you_mean

DocumentPath = tuple[str | int, ...]

_LONGEST_VALUE = 60
_LONGEST_LIST = 40
_NOT_GIVEN = object()
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]+")


class UnplacedError(ValueError):
    """A message that still lacks its place, which whoever catches it knows."""


@dataclass(frozen=True)
class Mark:
    """A place in a study file.

    Attributes:
        path: keys and list positions from the top of the document.
        line: 1-based line, when the value stands in the file.
        override: text of the `--set` that gave the value instead.
    """

    path: DocumentPath
    line: int | None = None
    override: str | None = None


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and where."""

    mark: Mark
    text: str


class StudyFileError(UserError):
    """All problems of a study file, one a line.

    Attributes:
        file: the study file as the user named it.
        problems: without repetition, in order of their lines.

    Example:
        >>> mark = Mark(("defaults", "finetune", "epochs"), line=7)
        >>> print(StudyFileError("study.yaml", [Problem(mark, "must be greater than 0; given -1")]))
        study.yaml:7: defaults.finetune.epochs: must be greater than 0; given -1
    """

    def __init__(self, file: Path | str, problems: Iterable[Problem]) -> None:
        self.file = file
        self.problems = tuple(sorted(dict.fromkeys(problems), key=lambda problem: problem.mark.line or 0))
        super().__init__(file, self.problems)

    def __str__(self) -> str:
        return "\n".join(self._line(problem) for problem in self.problems)

    def _line(self, problem: Problem) -> str:
        mark = problem.mark
        place = f"--set {mark.override}" if mark.override is not None else str(self.file)
        line = "" if mark.line is None else f":{mark.line}"
        field = f" {field_path(mark.path)}:" if mark.path else ""
        return f"{place}{line}:{field} {problem.text}"


def field_path(path: Sequence[str | int]) -> str:
    """Write a path the way a message shows it.

    Args:
        path: keys and list positions.

    Returns:
        Keys joined by dots; positions and unusual keys in brackets.

    Example:
        >>> field_path(("variants", "small", 0, "finetune"))
        'variants.small[0].finetune'
        >>> field_path(("variants", "small", "set", "*.epochs"))
        'variants.small.set["*.epochs"]'
    """
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN_NAME.fullmatch(part):
            text += f".{part}" if text else part
        else:
            text += f'["{part}"]'
    return text


def show(value: object) -> str:
    """A given value as a message shows it: text in quotes, long values cut.

    Example:
        >>> show("int4"), show(True), show({"preset": None})
        ("'int4'", 'true', '{"preset": null}')
    """
    if value is None:
        return "nothing"
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"


def describe(what: str, given: object = _NOT_GIVEN, allowed: Iterable[str] = ()) -> str:
    """Assemble a message: what is wrong; given X; allowed: Y; did you mean Z?

    Args:
        what: what is wrong.
        given: the value that was given.
        allowed: what may stand there.

    Returns:
        The message, with the nearest of the allowed names when one is near.

    Example:
        >>> describe("unknown field", "epoch", ["batch_size", "epochs"])
        "unknown field; given 'epoch'; allowed: batch_size, epochs; did you mean 'epochs'?"
    """
    names = list(allowed)
    text = what if given is _NOT_GIVEN else f"{what}; given {show(given)}"
    if names:
        more = f", … ({len(names) - _LONGEST_LIST} more)" if len(names) > _LONGEST_LIST else ""
        text += f"; allowed: {', '.join(names[:_LONGEST_LIST])}{more}"
    return text + (did_you_mean(given, names) if isinstance(given, str) else "")


# pydantic's error type -> what it means to whoever wrote the file; braces take the error's own context
_MEANINGS = {
    "int": "must be a whole number",
    "float": "must be a number",
    "bool": "must be true or false",
    "string_type": "must be text",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "finite_number": "must be a finite number",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "too_short": "needs at least {min_length} items",
    "too_long": "has more than {max_length} items",
    "string_too_short": "must not be empty",
    "string_too_long": "is longer than {max_length} characters",
    "string_pattern_mismatch": "must be a name: a letter or digit first, then letters, digits, `.`, `_` and `-`",
}


def plain_message(error: Mapping[str, Any], known_fields: Iterable[str] = ()) -> str:
    """Put one of pydantic's errors into plain words.

    Args:
        error: an entry of `ValidationError.errors()`.
        known_fields: fields of the model that refused an unknown one.

    Returns:
        What is wrong, what was given, what is allowed and the nearest valid name.

    Example:
        >>> plain_message({"type": "extra_forbidden", "loc": ("epoch",), "input": 3}, ["epochs"])
        "unknown field; given 'epoch'; allowed: epochs; did you mean 'epochs'?"
        >>> plain_message({"type": "greater_than", "loc": ("epochs",), "input": 0, "ctx": {"gt": 0.0}})
        'must be greater than 0; given 0'
    """
    kind, context, given = error["type"], error.get("ctx", {}), error["input"]
    if kind == "extra_forbidden":
        return describe("unknown field", error["loc"][-1], known_fields)
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        return describe("not a known choice", given, re.findall(r"'([^']*)'", context["expected"]))
    if kind == "missing":
        return f"`{error['loc'][-1]}` is missing"
    return describe(_meaning(error), given)


def _meaning(error: Mapping[str, Any]) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "string_type" and isinstance(error["input"], int | float):
        return "must be text (put it in quotes)"
    if kind == "too_short" and context["min_length"] == 1:
        return "must not be empty"
    meaning: str = _MEANINGS.get(kind) or _MEANINGS.get(kind.partition("_")[0]) or error["msg"]
    limits = {name: f"{value:g}" if isinstance(value, float) else value for name, value in context.items()}
    return meaning.format(**limits)
