"""Loads a task: reads its files, checks every row, holds splits out, and tells its content apart by a fingerprint."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from compression.data.config import TaskConfig
from compression.data.glue import GLUE_TASKS
from compression.data.glue_source import local_folder, read_hub
from compression.data.rows import Rows, check_columns, check_texts, class_indices, class_names, numbers
from compression.data.sources import resolve
from compression.data.splits import hold_out, limit_rows
from compression.data.tables import Table, read_table
from compression.errors import DataError

if TYPE_CHECKING:
    import pandas

Split = Literal["train", "selection", "evaluation"]

_CLASSIFICATION_METRICS = ("accuracy", "macro_f1")
_REGRESSION_METRICS = ("pearson", "spearman")


@dataclass(frozen=True)
class TaskData:
    """A task's rows, ready for a tokeniser.

    Every frame has the columns `id` (number of the row in its source file, the first being 1), `text`, `text_pair`
    (pair tasks only) and `label` (class index, or the number to predict). Rows keep the order of their file.

    Attributes:
        config: what was asked for.
        labels: label names in order of class index; empty for regression.
        pair: whether rows have two texts.
        metrics: names of the task's metrics, the headline first.
        train: rows to learn from.
        selection: rows for early stopping and model selection.
        evaluation: rows that are reported; key "" for the reported split, further keys for further ones (MNLI's
            mismatched set).
    """

    config: TaskConfig
    labels: tuple[str, ...]
    pair: bool
    metrics: tuple[str, ...]
    train: "pandas.DataFrame"
    selection: "pandas.DataFrame"
    evaluation: "dict[str, pandas.DataFrame]"

    @property
    def problem(self) -> Literal["classification", "regression"]:
        """What is predicted."""
        return "classification" if self.labels else "regression"

    @property
    def num_labels(self) -> int:
        """Outputs of a model for the task; 1 for regression."""
        return len(self.labels) or 1


_Place = tuple[Split, str]  # a split and its key


@dataclass(frozen=True)
class _Read:
    """The files of a task as they are, and what is wrong with them."""

    labels: tuple[str, ...]
    rows: dict[_Place, Rows]
    problems: list[str]


@dataclass(frozen=True)
class _Loaded:
    """A task before pandas: what planning needs, which should start quickly."""

    labels: tuple[str, ...]
    pair: bool
    metrics: tuple[str, ...]
    train: Rows
    selection: Rows
    evaluation: dict[str, Rows]


@dataclass(frozen=True)
class _File:
    """A file of a task, and its state when it was looked at."""

    split: Split
    key: str
    path: Path
    modified: int
    size: int


def load_task(config: TaskConfig, roots: Sequence[Path]) -> TaskData:
    r"""Load a task's train, selection and evaluation rows.

    Unchanged files are not read again by the same process; do not change the frames in place.

    Args:
        config: the task.
        roots: folders in which relative file names and `glue/<task>` are looked for, in order.

    Returns:
        The rows.

    Raises:
        DataError: files are missing or rows are malformed; lists every problem, with row numbers.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> rows = [f"film {number},{'good' if number % 2 else 'bad'}" for number in range(40)]
        >>> _ = (folder / "films.csv").write_text("\n".join(["text,label", *rows]))
        >>> data = load_task(TaskConfig(name="films", files={"train": "films.csv"}), [folder])
        >>> data.labels, len(data.train), len(data.selection), len(data.evaluation[""])
        (('bad', 'good'), 32, 4, 4)
    """
    return _task_data(config, *_locate(config, roots))


def check_task(config: TaskConfig, roots: Sequence[Path]) -> None:
    """Check a task without using it.

    Args:
        config: the task.
        roots: folders in which relative file names and `glue/<task>` are looked for, in order.

    Raises:
        DataError: as `load_task`.
    """
    _load(config, *_locate(config, roots))


def fingerprint(config: TaskConfig, roots: Sequence[Path], splits: Sequence[Split]) -> str:
    """Digest of all that a stage sees that reads some splits of a task.

    It covers texts and labels of those splits in their order, label names, problem, metrics and the longest input; not
    row numbers, file names, formats or places.

    Args:
        config: the task.
        roots: folders in which relative file names and `glue/<task>` are looked for, in order.
        splits: the splits that the stage reads.

    Returns:
        SHA-256 in hexadecimal.

    Raises:
        DataError: as `load_task`.
    """
    return _fingerprint(config, *_locate(config, roots), tuple(sorted(set(splits))))


def _locate(config: TaskConfig, roots: Sequence[Path]) -> tuple[tuple[_File, ...], tuple[Path, ...]]:
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
        _File(split, key, path, stat.st_mtime_ns, stat.st_size)
        for (split, key, path), stat in zip(found, stats, strict=True)
    )
    if problems:
        # The files that are there are looked through all the same, so that one attempt tells everything.
        raise _refusal(config, problems + (_read(config, files, ()).problems if files else []))
    return files, tuple(Path(root).absolute() for root in roots)


def _references(config: TaskConfig, roots: Sequence[Path]) -> list[tuple[Split, str, str]]:
    """Split, key and file name of each file of a task; none for a GLUE task that comes from the hub."""
    if config.files is not None:
        named: list[tuple[Split, str | None]] = [
            ("train", config.files.train),
            ("selection", config.files.selection),
            ("evaluation", config.files.evaluation),
        ]
        return [(split, "", reference) for split, reference in named if reference is not None]
    assert config.glue is not None  # noqa: S101  # TaskConfig has exactly one source
    folder = local_folder(config.glue, roots)
    if folder is None:
        return []
    reported = GLUE_TASKS[config.glue].evaluation
    references: list[tuple[Split, str, str]] = [("train", "", str(folder / "train.parquet"))]
    return references + [("evaluation", key, str(folder / f"{split}.parquet")) for key, split in reported]


def _refusal(config: TaskConfig, problems: Sequence[str]) -> DataError:
    listed = "".join(f"\n  - {problem}" for problem in problems)
    return DataError(f"task {config.name!r}: {len(problems)} problem{'s' * (len(problems) > 1)} in its data{listed}")


@lru_cache(maxsize=2)
def _load(config: TaskConfig, files: tuple[_File, ...], roots: tuple[Path, ...]) -> _Loaded:
    read = _read(config, files, roots)
    if read.problems:
        raise _refusal(config, read.problems)
    return _parted(config, read)


def _read(config: TaskConfig, files: tuple[_File, ...], roots: tuple[Path, ...]) -> _Read:
    """Read and check every file; without any, the hub's GLUE. Problems are collected, not raised."""
    tables, problems = _tables(config, files, roots)
    sound: dict[_Place, Table] = {}
    for place, table in tables.items():
        found = check_columns(table, _columns(config))
        problems += found
        if not found:
            sound[place] = table
    labels: tuple[str, ...] | None = None
    if ("train", "") in sound:
        labels, found = _labels(config, sound["train", ""])
        problems += found
    rows: dict[_Place, Rows] = {}
    for place, table in sound.items():
        rows[place], found = _rows(config, table, labels)
        problems += found
    return _Read(labels or (), rows, problems)


def _tables(
    config: TaskConfig, files: tuple[_File, ...], roots: tuple[Path, ...]
) -> tuple[dict[_Place, Table], list[str]]:
    if config.glue is not None and not files:
        reported: list[_Place] = [("evaluation", key) for key, _ in GLUE_TASKS[config.glue].evaluation]
        return dict(zip([("train", ""), *reported], read_hub(config.glue, roots), strict=True)), []
    tables: dict[_Place, Table] = {}
    problems: list[str] = []
    encoding = config.files.encoding if config.files is not None else "utf-8"
    for file in files:
        try:
            tables[file.split, file.key] = read_table(file.path, list(_columns(config)), encoding)
        except DataError as error:
            problems.append(str(error))
    return tables, problems


def _columns(config: TaskConfig) -> dict[str, str]:
    """Column -> field of the study that names it."""
    if config.glue:
        return dict.fromkeys((*GLUE_TASKS[config.glue].text, "label"), "glue")
    texts = (config.text,) if isinstance(config.text, str) else config.text
    return {**dict.fromkeys(texts, "text"), config.label: "label"}


def _is_regression(config: TaskConfig) -> bool:
    return not GLUE_TASKS[config.glue].labels if config.glue else config.problem == "regression"


def _labels(config: TaskConfig, train: Table) -> tuple[tuple[str, ...], list[str]]:
    if config.glue:
        return GLUE_TASKS[config.glue].labels, []
    if _is_regression(config):
        return (), []
    return (config.labels, []) if config.labels else class_names(train, config.label)


def _rows(config: TaskConfig, table: Table, labels: tuple[str, ...] | None) -> tuple[Rows, list[str]]:
    """Check the rows of a table; their labels too, unless `labels` is None because train could not be read."""
    *texts, label = _columns(config)
    # A published set is taken as it is: QQP has empty questions, and no user can mend them.
    problems = [problem for text in texts for problem in check_texts(table, text, blank_allowed=bool(config.glue))]
    targets: Any = np.zeros(len(table.ids))
    found: list[str] = []
    if labels is not None and _is_regression(config):
        # STS-B marks rows without a score by -1.
        targets, found = numbers(table, label, lowest=0.0) if config.glue else numbers(table, label)
    elif labels is not None:
        # GLUE's own files hold class indices, not names.
        names = [str(index) for index in range(len(labels))] if config.glue else labels
        targets, found = class_indices(table, label, names)
    pairs = table.columns[texts[1]] if len(texts) > 1 else None
    return Rows(np.asarray(table.ids, np.int64), table.columns[texts[0]], pairs, targets), problems + found


def _parted(config: TaskConfig, read: _Read) -> _Loaded:
    """Hold out the splits that have no file, the reported one first, and apply the limits."""
    seed, labels, rows = config.split_seed, read.labels, read.rows
    train, selection = rows["train", ""], rows.get(("selection", ""))
    evaluation = {key: part for (split, key), part in rows.items() if split == "evaluation"}
    try:
        if not evaluation:
            train, evaluation[""] = hold_out(train, config.evaluation_fraction, seed, "evaluation")
        if selection is None:
            train, selection = hold_out(train, config.selection_fraction, seed, "selection")
    except DataError as error:
        raise _refusal(config, [str(error)]) from None
    metrics = _CLASSIFICATION_METRICS if labels else _REGRESSION_METRICS
    return _Loaded(
        labels=labels,
        pair=train.pairs is not None,
        metrics=GLUE_TASKS[config.glue].metrics if config.glue else metrics,
        train=limit_rows(train, config.limit_train, seed),
        selection=limit_rows(selection, config.limit_selection, seed),
        evaluation={key: limit_rows(part, config.limit_evaluation, seed) for key, part in evaluation.items()},
    )


@lru_cache(maxsize=4)
def _task_data(config: TaskConfig, files: tuple[_File, ...], roots: tuple[Path, ...]) -> TaskData:
    loaded = _load(config, files, roots)
    return TaskData(
        config=config,
        labels=loaded.labels,
        pair=loaded.pair,
        metrics=loaded.metrics,
        train=_frame(loaded.train),
        selection=_frame(loaded.selection),
        evaluation={key: _frame(part) for key, part in loaded.evaluation.items()},
    )


def _frame(rows: Rows) -> "pandas.DataFrame":
    import pandas

    texts: dict[str, Any] = {"text": rows.texts}
    if rows.pairs is not None:
        texts["text_pair"] = rows.pairs
    return pandas.DataFrame({"id": rows.ids, **texts, "label": rows.labels})


@lru_cache(maxsize=1024)
def _fingerprint(
    config: TaskConfig, files: tuple[_File, ...], roots: tuple[Path, ...], splits: tuple[Split, ...]
) -> str:
    loaded = _load(config, files, roots)
    parts: dict[Split, dict[str, Rows]] = {
        "train": {"": loaded.train},
        "selection": {"": loaded.selection},
        "evaluation": loaded.evaluation,
    }
    digest = hashlib.sha256()
    head = {
        "labels": loaded.labels,
        "pair": loaded.pair,
        "metrics": loaded.metrics,
        "max_length": config.max_length,
    }
    digest.update(json.dumps(head).encode())
    for split in splits:
        for key, rows in sorted(parts[split].items()):
            digest.update(f"\n{split}:{key}:{len(rows)}\n".encode())
            for texts in (rows.texts, *([rows.pairs] if rows.pairs is not None else [])):
                # With the lengths, no two lists of texts give the same bytes.
                digest.update(np.fromiter(map(len, texts), "<i8", len(texts)).tobytes())
                digest.update("".join(texts).encode())
            digest.update(rows.labels.astype(rows.labels.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()
