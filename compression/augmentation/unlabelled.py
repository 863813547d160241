"""Texts without labels, for a teacher to label."""

from pathlib import Path

from compression.augmentation.config import UnlabelledConfig
from compression.data.config import FILE_ENDINGS
from compression.data.rows import check_columns, check_texts
from compression.data.tables import Table, read_table
from compression.errors import DataError


def read_unlabelled(path: Path, config: UnlabelledConfig, *, pair: bool) -> list[list[str]]:
    """Read texts.

    Args:
        path: text file with a text a line (blank lines are passed over), or a table.
        config: its columns, encoding and limit.
        pair: whether the task has two texts a row.

    Returns:
        First texts and, of a pair task, second texts.

    Raises:
        DataError: the file lacks a column, a row is no text, or the task's number of texts is another.
    """
    columns = (config.text,) if isinstance(config.text, str) else config.text
    if path.suffix.lower() not in FILE_ENDINGS:
        table, columns = _read_lines(path, config.encoding), ("text",)
    else:
        table = read_table(path, columns, config.encoding)
    if len(columns) != 1 + pair:
        kind = "two text columns, for a pair task" if pair else "one text column"
        raise DataError(f"{path}: augment.unlabelled.text must name {kind}")
    problems = check_columns(table, dict.fromkeys(columns, "augment.unlabelled.text"))
    if not problems:
        problems = [problem for column in columns for problem in check_texts(table, column)]
    if problems:
        raise DataError("; ".join(problems))
    return [table.columns[column][: config.limit] for column in columns]


def _read_lines(path: Path, encoding: str) -> Table:
    try:
        lines = path.read_text(encoding=encoding).split("\n")
    except (LookupError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as {encoding} ({error})") from None
    kept = [(number, line.removesuffix("\r")) for number, line in enumerate(lines, start=1) if line.strip()]
    return Table(str(path), ("text",), {"text": [line for _, line in kept]}, [number for number, _ in kept])
