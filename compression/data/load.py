"""Loads a task: its rows, the splits that are held out of them, and a fingerprint that tells its content apart."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compression.data.config import TaskConfig, has_unanswerable, metrics_of, problem_of
from compression.data.reading import Read, Split, TaskFile, locate, read, refusal
from compression.data.rows import Rows
from compression.data.splits import hold_out, limit_rows
from compression.errors import DataError
from compression.problems import Problem

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class TaskData:
    """A task's rows, ready for a tokeniser.

    Every frame has the columns `id` (number of the row in its source file, the first being 1), `text`, `text_pair`
    (pair tasks only) and `label` (class index, or the number to predict). Rows keep the order of their file. Of several
    labels, `label` holds 0 and 1 for each (labels,). Of spans, `text` is the question, `text_pair` the context and
    `label` the characters where the first answer starts and ends (2,), -1 for none; `answers` are the accepted texts
    and `name` is what the source calls the question.

    Attributes:
        config: what was asked for.
        labels: label names in order of class index; empty for regression and spans.
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
    def problem(self) -> Problem:
        """What is predicted."""
        return problem_of(self.config)

    @property
    def num_labels(self) -> int:
        """Outputs of a model for the task; 1 for regression, and 2 a word piece for spans."""
        return 2 if self.problem == "span" else len(self.labels) or 1


@dataclass(frozen=True)
class _Loaded:
    """A task before pandas: what planning needs, which should start quickly."""

    labels: tuple[str, ...]
    pair: bool
    metrics: tuple[str, ...]
    train: Rows
    selection: Rows
    evaluation: dict[str, Rows]


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
    return _task_data(config, *locate(config, roots))


def check_task(config: TaskConfig, roots: Sequence[Path]) -> None:
    """Check a task without using it.

    Args:
        config: the task.
        roots: folders in which relative file names and `glue/<task>` are looked for, in order.

    Raises:
        DataError: as `load_task`.
    """
    _load(config, *locate(config, roots))


def fingerprint(config: TaskConfig, roots: Sequence[Path], splits: Sequence[Split]) -> str:
    """Digest of all that a stage sees that reads some splits of a task.

    It covers texts and labels of those splits in their order, label names, problem, metrics and how inputs are cut; not
    row numbers, file names, formats or places. Where questions may have no answer, the reported split brings the
    selection split along: the threshold for giving none is chosen on it.

    Args:
        config: the task.
        roots: folders in which relative file names and `glue/<task>` are looked for, in order.
        splits: the splits that the stage reads.

    Returns:
        SHA-256 in hexadecimal.

    Raises:
        DataError: as `load_task`.
    """
    seen = set(splits)
    if has_unanswerable(config) and "evaluation" in seen:
        seen.add("selection")
    return _fingerprint(config, *locate(config, roots), tuple(sorted(seen)))


@lru_cache(maxsize=2)
def _load(config: TaskConfig, files: tuple[TaskFile, ...], roots: tuple[Path, ...]) -> _Loaded:
    found = read(config, files, roots)
    if found.problems:
        raise refusal(config, found.problems)
    return _parted(config, found)


def _parted(config: TaskConfig, found: Read) -> _Loaded:
    """Hold out the splits that have no file, the reported one first, and apply the limits."""
    seed, labels, rows = config.split_seed, found.labels, found.rows
    train, selection = rows["train", ""], rows.get(("selection", ""))
    evaluation = {key: part for (split, key), part in rows.items() if split == "evaluation"}
    try:
        if not evaluation:
            train, evaluation[""] = hold_out(train, config.evaluation_fraction, seed, "evaluation")
        if selection is None:
            train, selection = hold_out(train, config.selection_fraction, seed, "selection")
    except DataError as error:
        raise refusal(config, [str(error)]) from None
    return _Loaded(
        labels=labels,
        pair=train.pairs is not None,
        metrics=metrics_of(config),
        train=limit_rows(train, config.limit_train, seed),
        selection=limit_rows(selection, config.limit_selection, seed),
        evaluation={key: limit_rows(part, config.limit_evaluation, seed) for key, part in evaluation.items()},
    )


@lru_cache(maxsize=4)
def _task_data(config: TaskConfig, files: tuple[TaskFile, ...], roots: tuple[Path, ...]) -> TaskData:
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

    columns: dict[str, Any] = {"id": rows.ids}
    if rows.names is not None:
        columns["name"] = rows.names
    columns["text"] = rows.texts
    if rows.pairs is not None:
        columns["text_pair"] = rows.pairs
    columns["label"] = rows.labels if rows.labels.ndim == 1 else list(rows.labels)
    if rows.answers is not None:
        columns["answers"] = rows.answers
    return pandas.DataFrame(columns)


@lru_cache(maxsize=1024)
def _fingerprint(
    config: TaskConfig, files: tuple[TaskFile, ...], roots: tuple[Path, ...], splits: tuple[Split, ...]
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
        "problem": problem_of(config),
        "metrics": loaded.metrics,
        "max_length": config.max_length,
        "truncation": config.truncation,
        "span": config.span.model_dump() | {"unanswerable": has_unanswerable(config)},
    }
    digest.update(json.dumps(head).encode())
    for split in splits:
        for key, rows in sorted(parts[split].items()):
            digest.update(f"\n{split}:{key}:{len(rows)}\n".encode())
            for texts in _texts(rows):
                # With the lengths, no two lists of texts give the same bytes.
                digest.update(np.fromiter(map(len, texts), "<i8", len(texts)).tobytes())
                digest.update("".join(texts).encode())
            digest.update(rows.labels.astype(rows.labels.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()


def _texts(rows: Rows) -> list[list[str]]:
    """Every column of text that a stage may read."""
    answers = None if rows.answers is None else [json.dumps(texts) for texts in rows.answers]
    return [texts for texts in (rows.texts, rows.pairs, answers, rows.names) if texts is not None]
