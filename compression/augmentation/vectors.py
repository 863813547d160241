"""Word vectors: text files as GloVe, word2vec and fastText write them, or an array with a vocabulary beside it."""

import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, takewhile
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from compression.data.tables import read_table
from compression.errors import DataError

Matrix = NDArray[np.float32]

_LINES_A_BLOCK = 8192
_ARRAY, _WORDS = "vectors.npy", "words.json"


@dataclass(frozen=True)
class WordVectors:
    """Words with a vector each, the frequent ones first.

    Attributes:
        words: (words,) the vocabulary; of words that stand twice the first counts.
        matrix: (words, dimensions) float32, memory-mapped.
        duplicates: words that stood in the file before.
    """

    words: Sequence[str]
    matrix: Matrix
    duplicates: int = 0

    @cached_property
    def index(self) -> dict[str, int]:
        """Row of each word."""
        return {word: row for row, word in reversed(list(enumerate(self.words)))}

    def row(self, word: str) -> int | None:
        """Row of a word as it is written, or else in lower case.

        Args:
            word: any word.

        Returns:
            The row; None when there is no vector.

        Example:
            >>> WordVectors(["film"], np.ones((1, 2), np.float32)).row("Film")
            0
        """
        return self.index.get(word, self.index.get(word.lower()))


def load_vectors(file: Path, vocabulary: Path | None, limit: int | None, converted: Path) -> WordVectors:
    """Load word vectors; text is read once and memory-mapped from then on.

    Args:
        file: text file, or a .npy of (words, dimensions).
        vocabulary: words of a .npy: .txt with a word a line, .json with a list, or .parquet with one text column.
        limit: use only the first so many words; None uses all.
        converted: folder of this file's own, for what text is converted to; filled when it is not there.

    Returns:
        The vectors.

    Raises:
        DataError: a file is malformed, vocabulary and array differ in length, or numbers are not finite.
    """
    if vocabulary is None:
        if not (converted / _WORDS).is_file():
            _convert(file, converted)
        header = json.loads((converted / _WORDS).read_text(encoding="utf-8"))
        words, matrix, duplicates = header["words"], np.load(converted / _ARRAY, mmap_mode="r"), header["duplicates"]
    else:
        words, matrix = _read_words(vocabulary), _read_array(file)
        if len(words) != len(matrix):
            raise DataError(f"{vocabulary} has {len(words):,} words, but {file} has {len(matrix):,} vectors")
        duplicates = len(words) - len(set(words))
    return WordVectors(words[:limit], matrix[: min(len(words), limit or len(words))], duplicates)


def _read_array(file: Path) -> Matrix:
    try:
        matrix = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read as a NumPy array ({error})") from None
    if not isinstance(matrix, np.ndarray) or matrix.ndim != 2 or not np.issubdtype(matrix.dtype, np.floating):
        raise DataError(f"{file}: is not a (words, dimensions) array of floating-point numbers")
    return matrix


def _read_words(file: Path) -> list[str]:
    ending = file.suffix.lower()
    if ending == ".parquet":
        names = read_table(file, []).names
        candidates = [name for name in names if _is_text(column := read_table(file, [name]).columns[name]) and column]
        if len(candidates) != 1:
            raise DataError(f"{file}: has {len(candidates)} text columns, but a vocabulary has one; {', '.join(names)}")
        return read_table(file, candidates).columns[candidates[0]]
    try:
        text = file.read_text(encoding="utf-8")
        words = json.loads(text) if ending == ".json" else text.removesuffix("\n").split("\n")
    except ValueError as error:
        raise DataError(f"{file}: is not {'JSON' if ending == '.json' else 'UTF-8 text'} ({error})") from None
    if not isinstance(words, list) or not _is_text(words):
        raise DataError(f"{file}: is not a list of words")
    return words


def _is_text(values: Sequence[object]) -> bool:
    return all(isinstance(value, str) for value in values)


def _convert(file: Path, folder: Path) -> None:
    """Write a text file's vectors as an array and its words as JSON, the words last: they say that all is there."""
    folder.mkdir(parents=True, exist_ok=True)
    array, document = (folder / f"{name}.{os.getpid()}" for name in (_ARRAY, _WORDS))
    try:
        words, duplicates = _write_array(file, array)
        document.write_text(
            json.dumps({"words": words, "duplicates": duplicates}, ensure_ascii=False), encoding="utf-8"
        )
        array.replace(folder / _ARRAY)
        document.replace(folder / _WORDS)
    finally:
        array.unlink(missing_ok=True)
        document.unlink(missing_ok=True)


def _write_array(file: Path, array: Path) -> tuple[list[str], int]:
    """Write the vectors of a text file, which may be larger than memory; returns the words, and how many repeat."""
    with file.open("rb") as lines:
        first = lines.readline().split()
        # word2vec and fastText begin with the numbers of words and dimensions.
        header = len(first) == 2 and all(number.isdigit() for number in first)
        dimensions = int(first[1]) if header else len(first) - 1
        if dimensions < 1:
            raise DataError(f"{file}: line 1: a word and its numbers are expected, separated by spaces")
        lines.seek(0)
        count = sum(chunk.count(b"\n") for chunk in iter(lambda: lines.read(1 << 24), b"")) + 1
        lines.seek(0)
        if header:
            lines.readline()
        words: dict[str, None] = {}
        seen = 0
        matrix = np.lib.format.open_memmap(array, mode="w+", dtype=np.float32, shape=(count, dimensions))
        for block_words, block in _blocks(file, lines, dimensions, number=1 + header):
            new = [row for row, word in enumerate(block_words) if not _known(words, word)]
            matrix[len(words) - len(new) : len(words)] = block[new]
            seen += len(block_words)
        matrix.flush()
    if not words:
        raise DataError(f"{file}: there is no word in it")
    return list(words), seen - len(words)


def _known(words: dict[str, None], word: str) -> bool:
    before = len(words)
    words.setdefault(word)
    return len(words) == before


def _blocks(file: Path, lines: BinaryIO, dimensions: int, number: int) -> Iterator[tuple[list[str], Matrix]]:
    """Words and vectors of some thousand lines at a time; `number` is that of the next line."""
    while block := list(islice(lines, _LINES_A_BLOCK)):
        if not block[-1].strip():  # an empty last line
            block.pop()
        if block:
            yield _parsed(block, dimensions) or _parsed_one_by_one(file, block, dimensions, number)
        number += len(block)


def _parsed(block: Sequence[bytes], dimensions: int) -> tuple[list[str], Matrix] | None:
    """Words and vectors of lines, by Arrow's parser; None when anything about them is unusual."""
    import pyarrow
    from pyarrow import csv

    columns = {f"f{number}": pyarrow.float32() for number in range(1, dimensions + 1)}
    try:
        table = csv.read_csv(
            io.BytesIO(b"".join(line.rstrip() + b"\n" for line in block)),
            read_options=csv.ReadOptions(autogenerate_column_names=True, use_threads=False),
            parse_options=csv.ParseOptions(delimiter=" ", quote_char=False, ignore_empty_lines=False),
            convert_options=csv.ConvertOptions(column_types={"f0": pyarrow.string(), **columns}),
        )
    except pyarrow.ArrowInvalid:
        return None
    if table.num_columns != dimensions + 1 or table.num_rows != len(block):
        return None
    vectors = np.empty((len(block), dimensions), np.float32)
    for number, name in enumerate(columns):
        vectors[:, number] = table.column(name).to_numpy()
    words = table.column("f0").to_pylist()
    return (words, vectors) if all(words) and np.isfinite(vectors).all() else None


def _parsed_one_by_one(file: Path, block: Sequence[bytes], dimensions: int, number: int) -> tuple[list[str], Matrix]:
    """Words and vectors of lines among which some hold spaces in a word, as in GloVe 840B, or are malformed."""
    words = []
    vectors = np.empty((len(block), dimensions), np.float32)
    for place, line in enumerate(block):
        where = f"{file}: line {number + place}"
        word, *numbers = line.rstrip().rsplit(b" ", dimensions)
        # What is left over of a line with too many numbers is no word with a space in it.
        surplus = _numbers_at_end(word) if b" " in word else 0
        if len(numbers) != dimensions or not word or surplus:
            given = len(numbers) + surplus
            raise DataError(f"{where}: {given} numbers after a word, where the first line has {dimensions}")
        try:
            vectors[place] = numbers
        except ValueError:
            wrong = next(given for given in numbers if not _is_number(given)).decode(errors="replace")
            raise DataError(f"{where}: {wrong!r} is not a number") from None
        if not np.isfinite(vectors[place]).all():
            raise DataError(f"{where}: a number is not finite")
        try:
            words.append(word.decode())
        except UnicodeDecodeError:
            raise DataError(f"{where}: the word is not UTF-8") from None
    return words, vectors


def _is_number(text: bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbers_at_end(text: bytes) -> int:
    return sum(1 for _ in takewhile(_is_number, reversed(text.split(b" ")[1:])))
