"""Answers that are spans of a context: where each stands, checked against the context itself."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from compression.data.tables import Table

Answer = tuple[str, int]
"""Text of an answer, and the character of the context that it starts at."""


def span_answers(
    table: Table, column: str, context: str, *, unanswerable: bool
) -> tuple[NDArray[np.int64], list[tuple[str, ...]], list[str]]:
    """Read and check a column of answers.

    A cell is what SQuAD has on the hub, `{"text": [...], "answer_start": [...]}`, or what its own files have,
    `[{"text": ..., "answer_start": ...}, ...]`. Places count the characters (code points) of the context.

    Args:
        table: the file, which has the columns.
        column: the column of answers.
        context: the column of contexts.
        unanswerable: whether a question may have no answer.

    Returns:
        (rows, 2) characters where the first answer starts and ends (one past its last), -1 for none; the texts of the
        accepted answers; and the problems, with row numbers.

    Example:
        >>> cells = {"context": ["In 1066."], "answers": [{"text": ["1066"], "answer_start": [3]}]}
        >>> spans, texts, problems = span_answers(Table("a.parquet", (), cells, [1]), "answers", "context",
        ...                                       unanswerable=False)
        >>> spans.tolist(), texts, problems
        ([[3, 7]], [('1066',)], [])
    """
    cells = [_answers(cell) for cell in table.columns[column]]
    contexts = table.columns[context]
    spans = np.full((len(cells), 2), -1, np.int64)
    foreign, absent, misplaced = [], [], []
    for row, answers in enumerate(cells):
        if answers is None:
            foreign.append(row)
        elif not answers:
            absent.append(row)
        elif _first_wrong(answers, contexts[row]) is not None:
            misplaced.append(row)
        else:
            text, start = answers[0]
            spans[row] = start + len(text) - len(text.lstrip()), start + len(text.rstrip())
    problems = []
    if foreign:
        problems.append(
            f"{table.name}: no answers in column {column!r} at {table.where(foreign)}; "
            'each needs a text and a place: {"text": ["..."], "answer_start": [0]}'
        )
    if absent and not unanswerable:
        problems.append(
            f"{table.name}: no answer in column {column!r} at {table.where(absent)}; "
            "set `span: {unanswerable: true}` if questions without an answer are meant"
        )
    if misplaced:
        text, start = _first_wrong(cells[misplaced[0]] or [], contexts[misplaced[0]]) or ("", 0)
        there = str(contexts[misplaced[0]])[max(start, 0) : max(start, 0) + len(text)]
        problems.append(
            f"{table.name}: the answer is not where column {column!r} says at {table.where(misplaced)} "
            f"({text!r} at character {start}, where there is {there!r})"
        )
    return spans, [tuple(text for text, _ in answers or ()) for answers in cells], problems


def _answers(cell: Any) -> list[Answer] | None:
    """Texts and places of a cell in either form; None for anything else."""
    if isinstance(cell, dict):
        texts, starts = cell.get("text"), cell.get("answer_start")
        if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
            return None
        pairs = list(zip(texts, starts, strict=True))
    elif isinstance(cell, list) and all(isinstance(item, dict) for item in cell):
        pairs = [(item.get("text"), item.get("answer_start")) for item in cell]
    else:
        return None
    sound = all(
        isinstance(text, str) and text.strip() and isinstance(start, int) and not isinstance(start, bool)
        for text, start in pairs
    )
    return pairs if sound else None


def _first_wrong(answers: list[Answer], context: Any) -> Answer | None:
    """The first answer that is not in its place."""
    text = context if isinstance(context, str) else ""
    return next(
        (answer for answer in answers if answer[1] < 0 or not text.startswith(answer[0], answer[1])),
        None,
    )
