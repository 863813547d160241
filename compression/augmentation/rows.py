"""Augmented rows of a part of a data set, and what was counted while they were made."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compression.augmentation.copiers import Copier, Drawn
from compression.augmentation.teacher import Judge, shift
from compression.control import Control
from compression.data.load import TaskData

if TYPE_CHECKING:
    import pandas

_EXAMPLES, _EXAMPLE_CHARACTERS = 8, 200
_ROWS_A_CHECK = 32
_UNLABELLED = -1  # in the column `copy`


@dataclass(frozen=True)
class RowMaker:
    """Makes rows out of a task's training rows.

    Attributes:
        data: the task.
        copier: gives the copies of a text.
        judge: a teacher, or None.
        max_shift: copies that move the teacher's output by more are dropped; None drops none.
        judged_rows: at most so many rows' first copy is shown to the teacher; with `max_shift` all copies are.
        control: whether to stop.
    """

    data: TaskData
    copier: Copier
    judge: Judge | None
    max_shift: float | None
    judged_rows: int
    control: Control

    def make(self, start: int, stop: int) -> "tuple[pandas.DataFrame, dict[str, Any]]":
        """Augment some rows.

        Args:
            start: position of the first training row.
            stop: position after the last one.

        Returns:
            Rows, each followed by its copies, with the columns of `TaskData.train` and `copy`; and the counts that
            `quality.report` sums up. The first rows of the data set have `examples` too.

        Raises:
            Interrupted: a stop was asked for.
        """
        train, made = self.data.train.iloc[start:stop], _Made()
        columns = ("text", "text_pair") if self.data.pair else ("text",)
        for place, texts in enumerate(zip(*(train[column].tolist() for column in columns), strict=True)):
            if place % _ROWS_A_CHECK == 0:
                self.control.check()
            made.add(place, texts, [self.copier(text, start + place, part) for part, text in enumerate(texts)])
        places = np.asarray(made.places)
        frame = _frame(train["id"].to_numpy()[places], made.copies, made.texts, train["label"].to_numpy()[places])
        kept, judged = self._judged(frame, places, start)
        counts: dict[str, Any] = {
            "source_rows": len(train),
            "rows": int(kept.sum()),
            "words": int(np.asarray(made.words)[kept].sum()),
            "changed": int(np.asarray(made.changed)[kept].sum()),
            **made.counts,
            **judged,
        }
        frame = frame[kept].reset_index(drop=True)
        return frame, {**counts, "examples": _examples(frame)} if start == 0 else counts

    def _judged(
        self, frame: "pandas.DataFrame", places: NDArray[np.int64], start: int
    ) -> tuple[NDArray[np.bool_], dict[str, float]]:
        """Which rows stay, and what the teacher said of the copies that it was shown."""
        kept, copies = np.ones(len(frame), np.bool_), frame["copy"].to_numpy()
        if self.max_shift is not None:
            shown = copies > 0
        else:
            stride = math.ceil(len(self.data.train) / max(1, self.judged_rows))
            shown = (copies == 1) & ((places + start) % stride == 0) & (self.judged_rows > 0)
        if self.judge is None or not shown.any():
            return kept, {}
        asked, of_copy = np.unique(places[shown], return_inverse=True)
        before = self.judge.outputs(frame[copies == 0].iloc[asked])[of_copy]
        after = self.judge.outputs(frame[shown])
        moved = shift(before, after, self.data.problem)
        if self.max_shift is not None:
            kept[shown] = moved <= self.max_shift
        counts = {"judged": int(shown.sum()), "dropped": int((~kept).sum()), "shift": float(moved.sum())}
        if self.data.problem != "regression":
            same = self.judge.labels(before) == self.judge.labels(after)
            counts["agreeing"] = int(same.reshape(len(same), -1).all(axis=1).sum())
        return kept, counts


def labelled_rows(
    texts: Sequence[Sequence[str]], start: int, stop: int, judge: Judge
) -> "tuple[pandas.DataFrame, dict[str, Any]]":
    """Rows of texts that a teacher labels.

    Args:
        texts: first texts and, for a pair task, second texts.
        start: position of the first text.
        stop: position after the last one.
        judge: the teacher.

    Returns:
        Rows as of `RowMaker.make`, with -1 in the column `copy`, and their counts.
    """
    rows = list(zip(*(column[start:stop] for column in texts), strict=True))
    numbers = np.arange(start, start + len(rows)) + 1
    frame = _frame(numbers, [_UNLABELLED] * len(rows), rows, np.zeros(len(rows)))
    labels = judge.labels(judge.outputs(frame))
    frame["label"] = labels if labels.ndim == 1 else list(labels)
    return frame, {"rows": len(rows), "labelled": len(rows)}


@dataclass
class _Made:
    """Columns as they grow; `places` are positions among the rows of one call."""

    places: list[int] = field(default_factory=list)
    copies: list[int] = field(default_factory=list)
    texts: list[tuple[str, ...]] = field(default_factory=list)
    words: list[int] = field(default_factory=list)
    changed: list[int] = field(default_factory=list)
    counts: dict[str, int] = field(
        default_factory=lambda: {"drawn": 0, "same": 0, "replaceable": 0, "without_candidates": 0}
    )

    def add(self, place: int, texts: tuple[str, ...], drawn: Sequence[Drawn]) -> None:
        """Add a row and its copies: of a pair, one text is changed while the other stays as it was."""
        self._append(place, 0, texts, 0, 0)
        number = 0
        for part, one in enumerate(drawn):
            for copy in one.copies:
                number += 1
                changed_texts = (*texts[:part], copy.text, *texts[part + 1 :])
                self._append(place, number, changed_texts, one.words, copy.changed)
            self.counts["drawn"] += one.drawn
            self.counts["same"] += one.drawn - len(one.copies)
            self.counts["replaceable"] += one.replaceable
            self.counts["without_candidates"] += one.without_candidates

    def _append(self, place: int, number: int, texts: tuple[str, ...], words: int, changed: int) -> None:
        self.places.append(place)
        self.copies.append(number)
        self.texts.append(texts)
        self.words.append(words)
        self.changed.append(changed)


def _frame(
    ids: NDArray[np.int64], copies: Sequence[int], texts: Sequence[tuple[str, ...]], labels: NDArray[Any]
) -> "pandas.DataFrame":
    import pandas

    columns = dict(zip(("text", "text_pair"), map(list, zip(*texts, strict=True)), strict=False))
    return pandas.DataFrame({"id": ids, "copy": np.asarray(copies, np.int32), **columns, "label": labels})


def _examples(frame: "pandas.DataFrame") -> list[dict[str, str]]:
    """The first copy of each of the first rows, beside the original, which is the row before it."""
    columns = [frame[column].tolist() for column in ("text", "text_pair") if column in frame.columns]
    texts = [" / ".join(parts)[:_EXAMPLE_CHARACTERS] for parts in zip(*columns, strict=True)]
    places = np.flatnonzero(frame["copy"].to_numpy() == 1)[:_EXAMPLES].tolist()
    return [{"original": texts[place - 1], "copy": texts[place]} for place in places]
