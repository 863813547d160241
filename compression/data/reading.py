"""Finds a task's files, reads them and checks every row; problems are collected, so that one attempt tells all."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from compression.data.answers import span_answers
from compression.data.config import TaskConfig, has_unanswerable, problem_of
from compression.data.glue import GLUE_TASKS
from compression.data.label_sets import label_sets, set_names
from compression.data.published_source import published_set
from compression.data.rows import Rows, check_columns, check_texts, class_indices, class_names, numbers
from compression.data.sources import resolve
from compression.data.squad import ANSWERS, CONTEXT, QUESTION
from compression.data.squad_json import QUESTION_ID, read_squad_json
from compression.data.tables import Table, read_table
from compression.errors import DataError
from compression.problems import Problem

Split = Literal["train", "selection", "evaluation"]
Place = tuple[Split, str]
"""A split and its key."""


@dataclass(frozen=True)
class TaskFile:
    """A file of a task, and its state when it was looked at."""

    split: Split
    key: str
    path: Path
    modified: int
    size: int


@dataclass(frozen=True)
class Read:
    """The files of a task as they are, and what is wrong with them.

    Attributes:
        labels: label names in order of class index; empty where there are no classes.
        rows: split and key -> its rows.
        problems: what is wrong, one a line.
    """

    labels: tuple[str, ...]
    rows: dict[Place, Rows]
    problems: list[str]


def locate(config: TaskConfig, roots: Sequence[Path]) -> tuple[tuple[TaskFile, ...], tuple[Path, ...]]:
    """Find a task's files.

    Args:
        config: the task.
        roots: folders in which relative names are looked for, in order.

    Returns:
        The files, none for a set that comes from the hub; and the folders.

    Raises:
        DataError: a file is missing, or serves two splits; tells what is wrong with the others too.
    """
    found: list[tuple[Split, str, Path]] = []
    problems: list[str] = []
    for split, key, reference in _references(config, roots):
        try:
            found.append((split, key, resolve(reference, roots)))
        except DataError as error:
            problems.append(str(error))
    paths = [path.resolve() for _, _, path in found]
    problems += [
        f"`files.{split}` is the same file as another split: {path}"
        for position, ((split, _, _), path) in enumerate(zip(found, paths, strict=True))
        if path in paths[:position]
    ]
    stats = [path.stat() for path in paths]
    files = tuple(
        TaskFile(split, key, path, stat.st_mtime_ns, stat.st_size)
        for (split, key, path), stat in zip(found, stats, strict=True)
    )
    if problems:
        # The files that are there are looked through all the same, so that one attempt tells everything.
        raise refusal(config, problems + (read(config, files, ()).problems if files else []))
    return files, tuple(Path(root).absolute() for root in roots)


def _references(config: TaskConfig, roots: Sequence[Path]) -> list[tuple[Split, str, str]]:
    """Split, key and file name of each file of a task; none for a published set that comes from the hub."""
    published = published_set(config)
    if config.files is not None:
        named: list[tuple[Split, str | None]] = [
            ("train", config.files.train),
            ("selection", config.files.selection),
            ("evaluation", config.files.evaluation),
        ]
        return [(split, "", reference) for split, reference in named if reference is not None]
    folder = None if published is None else published.local_folder(roots)
    if published is None or folder is None:
        return []
    references: list[tuple[Split, str, str]] = [("train", "", str(folder / "train.parquet"))]
    return references + [("evaluation", key, str(folder / f"{split}.parquet")) for key, split in published.evaluation]


def refusal(config: TaskConfig, problems: Sequence[str]) -> DataError:
    """The error that lists all problems of a task.

    Args:
        config: the task.
        problems: what is wrong.

    Returns:
        The error, to be raised.
    """
    listed = "".join(f"\n  - {problem}" for problem in problems)
    return DataError(f"task {config.name!r}: {len(problems)} problem{'s' * (len(problems) > 1)} in its data{listed}")


def read(config: TaskConfig, files: tuple[TaskFile, ...], roots: tuple[Path, ...]) -> Read:
    """Read and check every file; without any, the hub's published set.

    Args:
        config: the task.
        files: its files.
        roots: folders where they were looked for, for the message.

    Returns:
        The rows, and all problems.
    """
    tables, problems = _tables(config, files, roots)
    sound: dict[Place, Table] = {}
    for place, table in tables.items():
        found = check_columns(table, _columns(config))
        problems += found
        if not found:
            sound[place] = table
    labels: tuple[str, ...] | None = None
    if ("train", "") in sound:
        labels, found = _labels(config, sound["train", ""])
        problems += found
    rows: dict[Place, Rows] = {}
    for place, table in sound.items():
        rows[place], found = _rows(config, table, labels)
        problems += found
    return Read(labels or (), rows, problems)


def _tables(
    config: TaskConfig, files: tuple[TaskFile, ...], roots: tuple[Path, ...]
) -> tuple[dict[Place, Table], list[str]]:
    published = published_set(config)
    if published is not None and not files:
        places: list[Place] = [("train", ""), *(("evaluation", key) for key, _ in published.evaluation)]
        splits = ["train", *(split for _, split in published.evaluation)]
        return dict(zip(places, published.read_hub(splits, roots), strict=True)), []
    tables: dict[Place, Table] = {}
    problems: list[str] = []
    encoding = config.files.encoding if config.files is not None else "utf-8"
    wanted = [*_columns(config), *([QUESTION_ID] if problem_of(config) == "span" else [])]
    for file in files:
        try:
            if file.path.suffix.lower() == ".json":
                tables[file.split, file.key] = read_squad_json(file.path, encoding)
            else:
                tables[file.split, file.key] = read_table(file.path, wanted, encoding)
        except DataError as error:
            problems.append(str(error))
    return tables, problems


def _columns(config: TaskConfig) -> dict[str, str]:
    """Column -> field of the study that names it."""
    source = "glue" if config.glue else "squad" if config.squad else None
    texts = dict.fromkeys(_text_columns(config), source or "text")
    return texts | dict.fromkeys(_label_columns(config), source or "label")


def _text_columns(config: TaskConfig) -> tuple[str, ...]:
    if config.glue:
        return GLUE_TASKS[config.glue].text
    if config.squad:
        return QUESTION, CONTEXT
    return (config.text,) if isinstance(config.text, str) else config.text


def _label_columns(config: TaskConfig) -> tuple[str, ...]:
    if config.files is None:
        return ("label",) if config.glue else (ANSWERS,)
    return (config.label,) if isinstance(config.label, str) else config.label


def _labels(config: TaskConfig, train: Table) -> tuple[tuple[str, ...], list[str]]:
    if config.glue:
        return GLUE_TASKS[config.glue].labels, []
    problem = problem_of(config)
    if problem in ("regression", "span"):
        return (), []
    if isinstance(config.label, tuple):
        return config.label, []
    if config.labels:
        return config.labels, []
    return (set_names if problem == "multi_label" else class_names)(train, config.label)


def _rows(config: TaskConfig, table: Table, labels: tuple[str, ...] | None) -> tuple[Rows, list[str]]:
    """Check the rows of a table; their labels too, unless `labels` is None because train could not be read."""
    texts = _text_columns(config)
    # A published set is taken as it is: QQP has empty questions, and no user can mend them.
    problems = [problem for text in texts for problem in check_texts(table, text, blank_allowed=not config.files)]
    ids = np.asarray(table.ids, np.int64)
    pairs = table.columns[texts[1]] if len(texts) > 1 else None
    if problem_of(config) == "span":
        (column,) = _label_columns(config)
        spans, answers, found = span_answers(table, column, texts[1], unanswerable=has_unanswerable(config))
        given = table.columns.get(QUESTION_ID, [None] * len(ids))
        names = [str(number) if name is None else str(name) for name, number in zip(given, table.ids, strict=True)]
        return Rows(ids, table.columns[texts[0]], pairs, spans, answers, names), problems + found
    targets, found = (np.zeros(len(ids)), []) if labels is None else _TARGETS[problem_of(config)](config, table, labels)
    return Rows(ids, table.columns[texts[0]], pairs, targets), problems + found


def _class_targets(config: TaskConfig, table: Table, labels: tuple[str, ...]) -> tuple[Any, list[str]]:
    # GLUE's own files hold class indices, not names.
    names = [str(index) for index in range(len(labels))] if config.glue else labels
    return class_indices(table, _label_columns(config)[0], names)


def _number_targets(config: TaskConfig, table: Table, labels: tuple[str, ...]) -> tuple[Any, list[str]]:
    # STS-B marks rows without a score by -1.
    column = _label_columns(config)[0]
    return numbers(table, column, lowest=0.0) if config.glue else numbers(table, column)


def _set_targets(config: TaskConfig, table: Table, labels: tuple[str, ...]) -> tuple[Any, list[str]]:
    return label_sets(table, config.label, labels)


_TARGETS: dict[Problem, Callable[[TaskConfig, Table, tuple[str, ...]], tuple[Any, list[str]]]] = {
    "classification": _class_targets,
    "regression": _number_targets,
    "multi_label": _set_targets,
}
