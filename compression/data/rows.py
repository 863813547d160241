"""Checked rows: texts that a tokeniser can take, labels as class indices or numbers; problems told by row number."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from compression.data.tables import SHOWN, Table
from compression.errors import did_you_mean

# Anything that is not white space, a control character or an invisible mark: BERT's tokenisers drop all those.
_VISIBLE = re.compile(r"[^\s\x00-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060\ufeff]")
_INTEGER = re.compile(r"-?[0-9]+")
_MOST_CLASSES = 256

Item = TypeVar("Item")


@dataclass(frozen=True)
class Rows:
    """Rows of one split.

    Attributes:
        ids: number of each row in its source file, the first being 1; (rows,) int64.
        texts: first text of each row; the question, where the answer is a span.
        pairs: second text of each row, of a pair task; the context, where the answer is a span.
        labels: class index int64 or target float64, (rows,); of several labels 0 or 1 each, (rows, labels) int64; of
            spans the characters where the first answer starts and ends (one past its last), (rows, 2) int64, -1 for
            none.
        answers: of spans the accepted answers of each question, none of one that has no answer.
        names: of spans what the source calls each question.
    """

    ids: NDArray[np.int64]
    texts: list[str]
    pairs: list[str] | None
    labels: NDArray[Any]
    answers: list[tuple[str, ...]] | None = None
    names: list[str] | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, positions: NDArray[np.intp]) -> "Rows":
        """Keep some rows.

        Args:
            positions: positions to keep, in the order wanted.

        Returns:
            Those rows.

        Example:
            >>> rows = Rows(np.array([1, 2]), ["good", "bad"], None, np.array([1, 0]))
            >>> rows.take(np.array([1])).texts
            ['bad']
        """
        kept = positions.tolist()
        return Rows(
            self.ids[positions],
            _taken(self.texts, kept),
            None if self.pairs is None else _taken(self.pairs, kept),
            self.labels[positions],
            None if self.answers is None else _taken(self.answers, kept),
            None if self.names is None else _taken(self.names, kept),
        )


def _taken(values: list[Item], positions: list[int]) -> list[Item]:
    return [values[position] for position in positions]


def check_columns(table: Table, fields: dict[str, str]) -> list[str]:
    """Find columns that a file lacks.

    Args:
        table: the file.
        fields: column -> field of the study that names it.

    Returns:
        One problem for each missing column, and one when there are no rows.

    Example:
        >>> check_columns(Table("a.csv", ("text",), {"text": ["good"]}, [1]), {"txt": "text"})
        ["a.csv: no column 'txt' (field `text`); the file has text; did you mean 'text'?"]
    """
    problems = [
        f"{table.name}: no column {column!r} (field `{field}`); "
        f"the file has {', '.join(table.names) or 'none'}{did_you_mean(column, table.names)}"
        for column, field in fields.items()
        if column not in table.names
    ]
    return problems or ([] if len(table.ids) else [f"{table.name}: no rows"])


def check_texts(table: Table, column: str, *, blank_allowed: bool = False) -> list[str]:
    """Find cells that are no text, or text that a tokeniser would see nothing of.

    Args:
        table: the file, which has the column.
        column: a text column.
        blank_allowed: let empty text pass; a missing value never does.

    Returns:
        Problems with row numbers.

    Example:
        >>> check_texts(Table("a.csv", ("text",), {"text": ["good", " "]}, [1, 2]), "text")
        ["a.csv: empty text in column 'text' at row 2"]
    """
    values = table.columns[column]
    foreign = [i for i, value in enumerate(values) if value is not None and not isinstance(value, str)]
    blank = [
        i
        for i, value in enumerate(values)
        if value is None or (isinstance(value, str) and not blank_allowed and not _VISIBLE.search(value))
    ]
    halves = [i for i, value in enumerate(values) if isinstance(value, str) and not _is_unicode(value)]
    problems = []
    if foreign:
        kind = type(values[foreign[0]]).__name__
        problems.append(f"{table.name}: column {column!r} holds {kind} instead of text at {table.where(foreign)}")
    if blank:
        problems.append(f"{table.name}: empty text in column {column!r} at {table.where(blank)}")
    if halves:
        problems.append(f"{table.name}: half a surrogate pair in column {column!r} at {table.where(halves)}")
    return problems


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def label_name(value: object) -> str | None:
    """Name of a label as it stands in a cell.

    Args:
        value: text, integer, truth value or number.

    Returns:
        Its name, or None for a missing value and for anything that cannot be a label.

    Example:
        >>> label_name(1), label_name(1.0), label_name(True), label_name("positive"), label_name(float("nan"))
        ('1', '1', 'true', 'positive', None)
    """
    if isinstance(value, str):
        return value if value.strip() else None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() else repr(value)
    return None


def class_names(table: Table, column: str) -> tuple[tuple[str, ...], list[str]]:
    """Find the classes of a label column: its different values, sorted, integers by size.

    Args:
        table: the training file, which has the column.
        column: the label column.

    Returns:
        Label names in order of class index, and problems: fewer than two classes, a value that looks like a mark for
        unlabelled rows, two spellings of one label, or so many values that it is hardly a label.

    Example:
        >>> class_names(Table("a.csv", ("label",), {"label": [10, 9, 10]}, [1, 2, 3]), "label")
        (('9', '10'), [])
    """
    names = [label_name(value) for value in table.columns[column]]
    found = {name for name in names if name is not None}
    numeric = all(_INTEGER.fullmatch(name) for name in found)
    ordered = tuple(sorted(found, key=int) if numeric else sorted(found))
    what = f"{table.name}: label column {column!r}"
    if len(ordered) > _MOST_CLASSES:
        return ordered, [
            f"{what} has {len(ordered)} different values; set `problem: regression` if it is a number to predict, "
            "or list `labels` if these are classes"
        ]
    problems = []
    if len(ordered) < 2:
        problems.append(f"{what} has {len(ordered)} different values; classification needs two or more")
    if "-1" in found:
        places = [i for i, name in enumerate(names) if name == "-1"]
        problems.append(
            f"{what} has -1 at {table.where(places)}, which usually marks rows without a label; "
            "drop those rows, or list `labels` if -1 is a class"
        )
    spellings: dict[str, str] = {}
    for name in ordered:
        other = spellings.setdefault(name.strip().casefold(), name)
        if other != name:
            problems.append(
                f"{what}: {other!r} and {name!r} differ only in case or spaces; list `labels` if both count"
            )
    return ordered, problems


def class_indices(table: Table, column: str, labels: Sequence[str]) -> tuple[NDArray[np.int64], list[str]]:
    """Turn a label column into class indices.

    Args:
        table: the file, which has the column.
        column: the label column.
        labels: label names in order of class index.

    Returns:
        (rows,) class indices, -1 where there is a problem; and the problems, with row numbers.

    Example:
        >>> table = Table("a.csv", ("label",), {"label": ["yes", "no", "yse"]}, [1, 2, 3])
        >>> class_indices(table, "label", ["no", "yes"])[1]
        ["a.csv: unknown label 'yse' in column 'label' at row 3; allowed: no, yes; did you mean 'yes'?"]
    """
    index: dict[str | None, int] = {name: position for position, name in enumerate(labels)}
    names = [label_name(value) for value in table.columns[column]]
    indices = np.fromiter((index.get(name, -1) for name in names), np.int64, len(names))
    missing: list[int] = []
    unknown: dict[str, list[int]] = {}
    for position in np.flatnonzero(indices < 0).tolist():
        name = names[position]
        if name is None or name == "-1":
            missing.append(position)
        else:
            unknown.setdefault(name, []).append(position)
    problems = [
        f"{table.name}: unknown label {name!r} in column {column!r} at {table.where(places)}; "
        f"allowed: {_listed(labels)}{did_you_mean(name, labels)}"
        for name, places in list(unknown.items())[:SHOWN]
    ]
    if len(unknown) > SHOWN:
        problems.append(f"{table.name}: {len(unknown) - SHOWN} more unknown labels in column {column!r}")
    if missing:
        problems.append(f"{table.name}: no label (nothing, or -1) in column {column!r} at {table.where(missing)}")
    return indices, problems


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(labels[: 4 * SHOWN]) + (", …" if len(labels) > 4 * SHOWN else "")


def numbers(table: Table, column: str, lowest: float = -math.inf) -> tuple[NDArray[np.float64], list[str]]:
    """Turn a label column into numbers to predict.

    Args:
        table: the file, which has the column.
        column: the label column.
        lowest: smallest number that can be a target.

    Returns:
        (rows,) numbers, NaN where there is a problem; and the problems, with row numbers.

    Example:
        >>> numbers(Table("a.csv", ("score",), {"score": ["4.5", "n/a"]}, [1, 2]), "score")[1]
        ["a.csv: no finite number in column 'score' at row 2 (given 'n/a')"]
    """
    values = table.columns[column]
    targets = np.fromiter((_number(value) for value in values), np.float64, len(values))
    targets[targets < lowest] = math.nan
    wrong = np.flatnonzero(np.isnan(targets)).tolist()
    if not wrong:
        return targets, []
    at = f"column {column!r} at {table.where(wrong)} (given {values[wrong[0]]!r})"
    at_least = "" if lowest == -math.inf else f" of at least {lowest:g}"
    return targets, [f"{table.name}: no finite number{at_least} in {at}"]


def _number(value: Any) -> float:
    if isinstance(value, bool):
        return math.nan
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return number if math.isfinite(number) else math.nan
