"""Labels of rows that may have any number of them: a column of lists, or a column of 0 and 1 for each label."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compression.data.rows import class_indices, class_names, label_name
from compression.data.tables import Table

_FLAGS = {"0": 0, "1": 1, "false": 0, "true": 1}


def set_names(table: Table, column: str) -> tuple[tuple[str, ...], list[str]]:
    """Find the labels of a column of lists: the different values in them, sorted, integers by size.

    Args:
        table: the training file, which has the column.
        column: the label column.

    Returns:
        Label names in order of their index, and problems as of `rows.class_names`.

    Example:
        >>> set_names(Table("a.jsonl", ("label",), {"label": [["joy"], [], ["joy", "anger"]]}, [1, 2, 3]), "label")
        (('anger', 'joy'), [])
    """
    return class_names(_flattened(table, column)[0], column)


def label_sets(
    table: Table, column: str | tuple[str, ...], labels: Sequence[str]
) -> tuple[NDArray[np.int64], list[str]]:
    """Turn lists of labels, or a column of 0 and 1 for each label, into indicators.

    Args:
        table: the file, which has the columns.
        column: the column of lists; or the columns of 0 and 1 in order of the labels.
        labels: label names in order of their index.

    Returns:
        (rows, labels) 1 for each label that a row has, else 0; and the problems, with row numbers.

    Example:
        >>> table = Table("a.jsonl", ("label",), {"label": [["joy"], [], ["joy", "angre"]]}, [1, 2, 3])
        >>> indicators, problems = label_sets(table, "label", ["anger", "joy"])
        >>> indicators.tolist()
        [[0, 1], [0, 0], [0, 1]]
        >>> problems
        ["a.jsonl: unknown label 'angre' in column 'label' at row 3; allowed: anger, joy; did you mean 'anger'?"]
    """
    if isinstance(column, tuple):
        return _flags(table, column)
    flat, rows, problems = _flattened(table, column)
    indices, found = class_indices(flat, column, labels)
    indicators = np.zeros((len(table.ids), len(labels)), np.int64)
    known = indices >= 0
    indicators[rows[known], indices[known]] = 1
    return indicators, problems + found


def _flattened(table: Table, column: str) -> tuple[Table, NDArray[np.int64], list[str]]:
    """One row a label, the row of each label, and cells that are no lists."""
    cells = [list(cell) if isinstance(cell, list | tuple) else None for cell in table.columns[column]]
    wrong = [position for position, cell in enumerate(cells) if cell is None]
    rows = [position for position, cell in enumerate(cells) for _ in cell or ()]
    flat = Table(
        table.name,
        table.names,
        {column: [label for cell in cells for label in cell or ()]},
        [table.ids[row] for row in rows],
        None if table.lines is None else [table.lines[row] for row in rows],
    )
    problems = []
    if wrong:
        given: Any = table.columns[column][wrong[0]]
        problems.append(
            f"{table.name}: no list of labels in column {column!r} at {table.where(wrong)} (given {given!r}); "
            "a CSV file takes a column of 0 and 1 for each label: `label: [first, second]`"
        )
    return flat, np.array(rows, np.int64), problems


def _flags(table: Table, columns: Sequence[str]) -> tuple[NDArray[np.int64], list[str]]:
    indicators = np.zeros((len(table.ids), len(columns)), np.int64)
    problems = []
    for place, column in enumerate(columns):
        flags = [_FLAGS.get((label_name(value) or "").strip().lower(), -1) for value in table.columns[column]]
        wrong = [position for position, flag in enumerate(flags) if flag < 0]
        if wrong:
            given = table.columns[column][wrong[0]]
            problems.append(
                f"{table.name}: neither 0 nor 1 in column {column!r} at {table.where(wrong)} (given {given!r})"
            )
        indicators[:, place] = np.maximum(flags, 0)
    return indicators, problems
