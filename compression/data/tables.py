"""Reads CSV, TSV, JSONL and Parquet into columns, remembering where in the file each row stands."""

import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compression.errors import DataError

SHOWN = 5  # places of one kind of problem that a message lists
_DOUBLED_QUOTES = re.compile(r'"(?:[^"]|"")*""(?:[^"]|"")*"')


@dataclass(frozen=True)
class Table:
    """Some columns of one file.

    Attributes:
        name: the file, as messages name it.
        names: every column of the file.
        columns: the columns asked for that are there, as Python values.
        ids: number of each row in its file; the first data row is 1. In JSONL it is the line.
        lines: line of the file on which each row starts, where that differs from its number.
    """

    name: str
    names: tuple[str, ...]
    columns: dict[str, list[Any]]
    ids: Sequence[int]
    lines: Sequence[int] | None = None

    def where(self, positions: Sequence[int]) -> str:
        """Say where rows stand, the first few by number.

        Args:
            positions: positions in the columns, counted from 0.

        Returns:
            A phrase for a message.

        Example:
            >>> Table("a.csv", ("text",), {}, ids=[1, 2, 3], lines=[2, 3, 5]).where([1, 2])
            'rows 2, 3 (lines 3, 5)'
        """
        shown = positions[:SHOWN]
        plural = "s" if len(positions) > 1 else ""
        phrase = f"row{plural} {', '.join(str(self.ids[position]) for position in shown)}"
        if self.lines is not None:
            phrase += f" (line{plural} {', '.join(str(self.lines[position]) for position in shown)})"
        return phrase + and_more(len(positions))


def and_more(count: int) -> str:
    """Say how many of `count` things a message leaves out.

    Args:
        count: how many there are.

    Returns:
        The end of a phrase, empty when all are shown.

    Example:
        >>> and_more(7)
        ' and 2 more'
    """
    return f" and {count - SHOWN} more" if count > SHOWN else ""


def read_table(path: Path, wanted: Sequence[str], encoding: str = "utf-8") -> Table:
    """Read columns of a file, told apart by its ending.

    CSV is read with double quotes; TSV line by line without any quoting, as GLUE's own files are written.

    Args:
        path: a file whose name ends in .csv, .tsv, .jsonl or .parquet.
        wanted: columns to keep; those that the file lacks are left out of the result.
        encoding: text encoding; of no meaning to Parquet.

    Returns:
        The columns.

    Raises:
        DataError: the file cannot be read as what its name says; names the lines.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.jsonl"
        >>> _ = path.write_text('{"text": "good", "label": 1}')
        >>> read_table(path, ["text", "label"]).columns
        {'text': ['good'], 'label': [1]}
    """
    if path.is_dir():
        raise DataError(f"{path}: is a folder, not a file")
    ending = path.suffix.lower()
    if ending == ".parquet":
        return _read_parquet(path, wanted)
    readers: dict[str, Callable[[str, str, Sequence[str]], Table]] = {
        ".csv": _read_csv,
        ".tsv": _read_tsv,
        ".jsonl": _read_jsonl,
    }
    if ending not in readers:
        raise DataError(f"{path}: unknown kind of file; allowed are {', '.join(readers)} and .parquet")
    return readers[ending](str(path), decode(path, encoding), wanted)


def decode(path: Path, encoding: str) -> str:
    """Read a file of text.

    Args:
        path: the file.
        encoding: its encoding.

    Returns:
        The text, without a byte-order mark.

    Raises:
        DataError: the file is in another encoding; names the line.
    """
    content = path.read_bytes()
    try:
        text = content.decode(encoding)
    except LookupError:
        raise DataError(f"{path}: unknown encoding {encoding!r}; for example utf-8, latin-1 or cp1252") from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}: line {line}: byte 0x{content[error.start]:02x} is not {encoding}; "
            "set `files.encoding` to what the file was written in, for example latin-1 or cp1252"
        ) from None
    return text.removeprefix("\ufeff")


def _from_records(
    name: str, header: Sequence[str], records: list[list[str]], lines: Sequence[int], wanted: Sequence[str]
) -> Table:
    repeated = sorted({column for column in header if header.count(column) > 1})
    if repeated:
        raise DataError(f"{name}: column {repeated[0]!r} appears twice in the header")
    ids = range(1, len(records) + 1)
    ragged = [position for position, record in enumerate(records) if len(record) != len(header)]
    if ragged:
        given, table = len(records[ragged[0]]), Table(name, (), {}, ids, lines)
        raise DataError(
            f"{name}: {table.where(ragged)}: {given} fields where the header has {len(header)}; "
            "is a separator inside a text?"
        )
    places = {column: header.index(column) for column in wanted if column in header}
    columns = {column: [record[place] for record in records] for column, place in places.items()}
    return Table(name, tuple(header), columns, ids, lines)


def _read_csv(name: str, text: str, wanted: Sequence[str]) -> Table:
    # newline="" keeps line breaks inside quoted fields as they are in the file.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    records: list[list[str]] = []
    lines: list[int] = []
    start = 1
    try:
        for record in reader:
            if record:
                records.append(record)
                lines.append(start)
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{name}: the row that starts on line {start}: {error}; is a quote left open?") from None
    if not records:
        raise DataError(f"{name}: the file is empty; its first row must name the columns")
    return _from_records(name, records[0], records[1:], lines[1:], wanted)


def _read_tsv(name: str, text: str, wanted: Sequence[str]) -> Table:
    numbered = [(number, line.removesuffix("\r")) for number, line in enumerate(text.split("\n"), 1)]
    filled = [(number, line) for number, line in numbered if line]
    if not filled:
        raise DataError(f"{name}: the file is empty; its first row must name the columns")
    records, lines = [line.split("\t") for _, line in filled], [number for number, _ in filled]
    table = _from_records(name, records[0], records[1:], lines[1:], wanted)
    quoted = {
        position
        for values in table.columns.values()
        for position, value in enumerate(values)
        if value.startswith('"') and _DOUBLED_QUOTES.fullmatch(value)
    }
    if quoted:
        raise DataError(
            f"{name}: {table.where(sorted(quoted))}: the text is wrapped in quotes with the inner ones doubled, as "
            "in CSV, but quotes have no meaning in TSV; write it as .csv, or without quoting"
        )
    return table


def _read_jsonl(name: str, text: str, wanted: Sequence[str]) -> Table:
    records: list[dict[str, Any]] = []
    lines: list[int] = []
    problems: list[str] = []
    # Not splitlines(): it also breaks at U+0085 and U+2028, which JSON allows inside a string.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            problems.append(f"line {number} is not JSON ({error.msg} at column {error.colno})")
            continue
        if isinstance(record, dict):
            records.append(record)
            lines.append(number)
        else:
            problems.append(f"line {number} is {type(record).__name__} where an object {{...}} belongs")
    if problems:
        raise DataError(f"{name}: {'; '.join(problems[:SHOWN])}{and_more(len(problems))}")
    names = tuple(dict.fromkeys(key for record in records for key in record))
    columns = {column: [record.get(column) for record in records] for column in wanted if column in names}
    return Table(name, names, columns, lines)


def _read_parquet(path: Path, wanted: Sequence[str]) -> Table:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = tuple(file.schema_arrow.names)
            content = file.read(columns=[column for column in wanted if column in names])
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read as Parquet ({error})") from None
    columns = {column: content.column(column).to_pylist() for column in content.column_names}
    return Table(str(path), names, columns, range(1, content.num_rows + 1))
