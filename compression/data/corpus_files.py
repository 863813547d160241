"""Reads the documents of one corpus file, one after another: text, JSONL, JSON, Parquet, CSV, TSV."""

import codecs
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from compression.data.corpus_config import TEXT_ENDINGS
from compression.data.tables import read_table
from compression.errors import DataError, did_you_mean

Document = list[str]
Boundary = Literal["line", "blank_line", "file"]

_BLOCK_BYTES = 1 << 20
_PARQUET_ROWS = 1024


def read_documents(path: Path, *, text: str, encoding: str, boundary: Boundary) -> Iterator[Document]:
    r"""Read a file's documents.

    Text, JSONL and Parquet are streamed; JSON, CSV and TSV are read as a whole.

    Args:
        path: the file; its ending says what it is.
        text: text column or field.
        encoding: text encoding; of no meaning to Parquet.
        boundary: what ends a document of a text file.

    Yields:
        Documents as lists of paragraphs, without blank ones; a document without any is left out.

    Raises:
        DataError: the file is not what its name says; names file and line.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "two.txt"
        >>> _ = path.write_text("One.\nStill one.\n\nTwo.\n")
        >>> list(read_documents(path, text="text", encoding="utf-8", boundary="blank_line"))
        [['One.', 'Still one.'], ['Two.']]
    """
    if path.is_dir():
        raise DataError(f"{path}: is a folder, not a file; name its files, for example {path.name}/*.txt")
    ending = path.suffix.lower()
    if ending in TEXT_ENDINGS:
        yield from _text_documents(path, encoding, boundary)
        return
    readers: dict[str, Callable[[Path, str, str], Iterator[Any]]] = {
        ".jsonl": _jsonl_records,
        ".json": _json_records,
        ".parquet": _parquet_texts,
        ".csv": _table_texts,
        ".tsv": _table_texts,
    }
    for value in readers[ending](path, text, encoding):
        if document := paragraphs(value):
            yield document


def paragraphs(value: str | list[str] | None) -> Document:
    r"""The paragraphs of a text, or of several: its lines, without blank ones.

    Args:
        value: a text, several texts, or nothing.

    Returns:
        Stripped lines.

    Example:
        >>> paragraphs("One. \n\nTwo."), paragraphs(None)
        (['One.', 'Two.'], [])
    """
    texts = [value] if isinstance(value, str) else value or []
    return [stripped for text in texts for line in text.split("\n") if (stripped := line.strip())]


def _text_documents(path: Path, encoding: str, boundary: Boundary) -> Iterator[Document]:
    document: Document = []
    for line in _lines(path, encoding):
        if line:
            document.append(line)
        if document and (boundary == "line" or (boundary == "blank_line" and not line)):
            yield document
            document = []
    if document:
        yield document


def _lines(path: Path, encoding: str) -> Iterator[str]:
    """Stripped lines, blank ones included."""
    try:
        with path.open(encoding=encoding) as file:
            for line in file:
                yield line.removeprefix("\ufeff").strip()
    except (UnicodeDecodeError, LookupError):
        check_encoding(path, encoding)
        raise


def check_encoding(path: Path, encoding: str) -> None:
    """Decode a file without keeping it.

    Args:
        path: the file.
        encoding: text encoding.

    Raises:
        DataError: the encoding is unknown, or a byte does not belong to it; names the line.
    """
    try:
        decoder = codecs.getincrementaldecoder(encoding)()
    except LookupError:
        raise DataError(f"{path}: unknown encoding {encoding!r}; for example utf-8, latin-1 or cp1252") from None
    lines = 1
    with path.open("rb") as file:
        while True:
            block = file.read(_BLOCK_BYTES)
            try:
                lines += decoder.decode(block, final=not block).count("\n")
            except UnicodeDecodeError as error:
                # The decoder was given what was left of the last block, too: only its own lines are new.
                line = lines + error.object.count(b"\n", 0, error.start)
                raise DataError(
                    f"{path}: line {line}: byte 0x{error.object[error.start]:02x} is not {encoding}; "
                    "set the corpus's `encoding` to what the file was written in, for example latin-1 or cp1252"
                ) from None
            if not block:
                return


def _jsonl_records(path: Path, text: str, encoding: str) -> Iterator[list[str]]:
    for number, line in enumerate(_lines(path, encoding), 1):
        if not line:
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{path}: line {number} is not JSON ({error.msg} at column {error.colno}); "
                "a .jsonl file has one JSON value a line"
            ) from None
        yield _texts_of(record, text, f"{path}: line {number}")


def _json_records(path: Path, text: str, encoding: str) -> Iterator[list[str]]:
    """Texts of each element of the file's one list or mapping."""
    try:
        content = json.loads("\n".join(_lines(path, encoding)))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: line {error.lineno}: not JSON ({error.msg} at column {error.colno})") from None
    if not isinstance(content, list | dict):
        raise DataError(f"{path}: holds {type(content).__name__} where a list or mapping of documents belongs")
    named = content.items() if isinstance(content, dict) else enumerate(content)
    for name, record in named:
        yield _texts_of(record, text, f"{path}: element {name!r}")


def _texts_of(record: Any, text: str, where: str) -> list[str]:
    """All strings that stand under the field `text` of a record, at whatever depth."""
    if isinstance(record, str):
        return [record]
    names: set[str] = set()
    texts = list(_search(record, text, where, names))
    if text not in names:
        known = ", ".join(sorted(names)) or "none"
        raise DataError(f"{where} has no field {text!r}; its fields: {known}{did_you_mean(text, names)}")
    return texts


def _search(value: Any, text: str, where: str, names: set[str]) -> Iterator[str]:
    if isinstance(value, dict):
        names.update(value)
        for name, inner in value.items():
            yield from _strings(inner, text, where) if name == text else _search(inner, text, where, names)
    elif isinstance(value, list):
        for inner in value:
            yield from _search(inner, text, where, names)


def _strings(value: Any, text: str, where: str) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner, text, where)
    elif value is not None:
        raise DataError(f"{where}: field {text!r} holds {type(value).__name__} where a text belongs")


def _parquet_texts(path: Path, text: str, encoding: str) -> Iterator[Any]:
    del encoding
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            check_column(str(path), text, file.schema_arrow.names)
            kind = file.schema_arrow.field(text).type
            if str(kind) not in ("string", "large_string", "list<element: string>", "list<item: string>"):
                raise DataError(f"{path}: column {text!r} holds {kind} where texts belong")
            for batch in file.iter_batches(_PARQUET_ROWS, columns=[text]):
                yield from batch.column(0).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read as Parquet ({error})") from None


def _table_texts(path: Path, text: str, encoding: str) -> Iterator[Any]:
    table = read_table(path, [text], encoding)
    check_column(table.name, text, table.names)
    yield from table.columns[text]


def check_column(name: str, column: str, columns: list[str] | tuple[str, ...]) -> None:
    """Refuse a table that lacks the text column.

    Args:
        name: the table, as the message names it.
        column: the column wanted.
        columns: the columns that it has.

    Raises:
        DataError: the column is not among them.
    """
    if column not in columns:
        raise DataError(
            f"{name}: no column {column!r}; its columns: {', '.join(columns)}{did_you_mean(column, columns)}"
        )
