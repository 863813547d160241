"""A tokenised corpus on disk, cut into sequences, and read through memory maps: its size is no matter of memory."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

_INDEX = "index.json"


@dataclass(frozen=True)
class PackedCorpus:
    """Word pieces of many documents, one after another, and where each sequence begins.

    Special tokens at the ends of a sequence are not stored. Only bounds and lengths are ever wholly in memory: 16 bytes
    a sequence.

    Attributes:
        folder: where it lies.
        tokens: (n,) word pieces, uint16 or uint32, memory-mapped.
        bounds: (sequences + 1,) int64; sequence i is `tokens[bounds[i]:bounds[i + 1]]`.
        breaks: (lines,) int64, memory-mapped; ends of paragraphs in `tokens`, ascending.
        documents: (sequences,) int64, memory-mapped; number of the document that a sequence begins in.
        counts: (vocabulary,) int64 occurrences of each word piece.
        digest: SHA-256 of word pieces and bounds.
        text_tokens: word pieces of text, separators not counted.
        limited: whether the corpus had more text than was asked for.
    """

    folder: Path
    tokens: NDArray[Any]
    bounds: NDArray[np.int64]
    breaks: NDArray[np.int64]
    documents: NDArray[np.int64]
    counts: NDArray[np.int64]
    digest: str
    text_tokens: int
    limited: bool

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def __reduce__(self) -> tuple[Callable[..., "PackedCorpus"], tuple[Any, ...]]:
        # A data loader's worker process opens the files itself.
        return _reopened, (self.folder,)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(sequences,) word pieces of each sequence, without special tokens."""
        return np.diff(self.bounds)

    def sequence(self, number: int) -> NDArray[np.int64]:
        """Word pieces of a sequence.

        Args:
            number: number of the sequence.

        Returns:
            (length,) word pieces, without special tokens.
        """
        tokens: NDArray[np.int64] = self.tokens[self.bounds[number] : self.bounds[number + 1]].astype(np.int64)
        return tokens

    def breaks_within(self, number: int) -> NDArray[np.int64]:
        """Where paragraphs end inside a sequence.

        Args:
            number: number of the sequence.

        Returns:
            Positions in the sequence before which a new paragraph begins; neither 0 nor its length.
        """
        start, end = self.bounds[number], self.bounds[number + 1]
        first, last = np.searchsorted(self.breaks, [start, end], side="left")
        inside: NDArray[np.int64] = np.asarray(self.breaks[first:last], np.int64) - start
        return inside[inside > 0]


def open_packed(folder: Path, owner: str | None = None) -> PackedCorpus | None:
    """Open a packed corpus.

    Args:
        folder: where it was written.
        owner: what it must have been made of; None takes any.

    Returns:
        The corpus; None when it is absent, unfinished, or was made of something else.
    """
    try:
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    if owner is not None and index["owner"] != owner:
        return None
    return PackedCorpus(
        folder=folder,
        tokens=_mapped(folder / "tokens.npy"),
        bounds=np.load(folder / "bounds.npy"),
        breaks=_mapped(folder / "breaks.npy"),
        documents=_mapped(folder / "documents.npy"),
        counts=np.load(folder / "counts.npy"),
        digest=index["digest"],
        text_tokens=index["text"],
        limited=index["limited"],
    )


def _reopened(folder: Path) -> PackedCorpus:
    packed = open_packed(folder)
    if packed is None:
        raise FileNotFoundError(folder)
    return packed


def _mapped(path: Path) -> NDArray[Any]:
    # Slices of a plain view are cheaper than those of a memmap.
    mapped: NDArray[Any] = np.load(path, mmap_mode="r").view(np.ndarray)
    return mapped


class GrowingArray:
    r"""A one-dimensional .npy file that is written piece by piece.

    Args:
        path: the file.
        dtype: type of its elements.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "numbers.npy"
        >>> numbers = GrowingArray(path, np.dtype(np.uint16))
        >>> numbers.extend(np.array([1, 2])), numbers.extend(np.array([3]))
        (b'\x01\x00\x02\x00', b'\x03\x00')
        >>> numbers.close()
        >>> np.load(path)
        array([1, 2, 3], dtype=uint16)
    """

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        self._dtype = dtype.newbyteorder("<")
        self._file: BinaryIO = path.open("wb")
        self.length = 0
        self._write_header()

    def extend(self, values: NDArray[Any]) -> bytes:
        """Append values.

        Args:
            values: (n,) integers that fit the type.

        Returns:
            Their bytes as written.
        """
        content = values.astype(self._dtype).tobytes()
        self._file.write(content)
        self.length += len(values)
        return content

    def close(self) -> None:
        """Write how long the array became."""
        # numpy leaves room in the header of an array that grows along its first axis.
        self._file.seek(0)
        self._write_header()
        self._file.close()

    def _write_header(self) -> None:
        header = {"shape": (self.length,), "fortran_order": False, "descr": self._dtype.str}
        np.lib.format.write_array_header_1_0(self._file, header)


class PackedWriter:
    """Cuts documents into sequences and writes them to a folder.

    Across documents, every sequence but the last has `body_length` word pieces, and a separator stands between
    documents; else each document is cut by itself and its remainder is a sequence, too. Nothing is dropped.

    Args:
        folder: where to write.
        vocabulary_size: number of word pieces.
        body_length: longest sequence without the special tokens at its ends.
        separator: word piece between documents; None does not cross them.
        limit: word pieces to take at most, separators not counted.
    """

    def __init__(
        self, folder: Path, *, vocabulary_size: int, body_length: int, separator: int | None, limit: int | None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _INDEX).unlink(missing_ok=True)
        self._folder, self._body_length, self._separator, self._limit = folder, body_length, separator, limit
        self._tokens = GrowingArray(
            folder / "tokens.npy", np.dtype(np.uint16 if vocabulary_size <= 2**16 else np.uint32)
        )
        self._breaks = GrowingArray(folder / "breaks.npy", np.dtype(np.int64))
        self._bounds = GrowingArray(folder / "bounds.npy", np.dtype(np.int64))
        self._bounds.extend(np.zeros(1, np.int64))
        self._starts = GrowingArray(folder / "starts.npy", np.dtype(np.int64))  # first word piece of each document
        self._counts = np.zeros(vocabulary_size, np.int64)
        self._digest = hashlib.sha256()
        self.text_tokens = 0
        self.full = False
        self.limited = False

    def add(self, paragraphs: list[NDArray[np.int64]]) -> None:
        """Add a document; a part of it when the limit is near, nothing when it is reached.

        Args:
            paragraphs: word pieces of each of its paragraphs.
        """
        document = np.concatenate(paragraphs) if paragraphs else np.zeros(0, np.int64)
        if self.full or not len(document):
            self.limited |= bool(len(document))
            return
        ends = np.cumsum([len(paragraph) for paragraph in paragraphs])
        room = len(document) if self._limit is None else self._limit - self.text_tokens
        self.full = self._limit is not None and len(document) >= room
        if len(document) > room:
            document, ends, self.limited = document[:room], ends[ends <= room], True
        start = self._tokens.length
        self._starts.extend(np.array([start]))
        self._breaks.extend(start + ends)
        self.text_tokens += len(document)
        if self._separator is None:
            cuts = np.arange(self._body_length, len(document), self._body_length)
            self._bounds.extend(start + np.append(cuts, len(document)))
        else:
            document = np.append(document, self._separator)
        self._counts += np.bincount(document, minlength=len(self._counts))
        self._digest.update(self._tokens.extend(document))

    def finish(self, owner: str) -> PackedCorpus:
        """Write what is left and open the result.

        Args:
            owner: what the corpus was made of; see `open_packed`.

        Returns:
            The corpus.
        """
        length = self._tokens.length
        if self._separator is not None and length:
            self._bounds.extend(np.append(np.arange(self._body_length, length, self._body_length), length))
        for array in (self._tokens, self._breaks, self._bounds, self._starts):
            array.close()
        bounds, starts = np.load(self._folder / "bounds.npy"), _mapped(self._folder / "starts.npy")
        np.save(self._folder / "documents.npy", np.searchsorted(starts, bounds[:-1], side="right") - 1)
        np.save(self._folder / "counts.npy", self._counts)
        self._digest.update(bounds.tobytes())
        index = {"owner": owner, "digest": self._digest.hexdigest(), "limited": self.limited, "text": self.text_tokens}
        aside = self._folder / f"{_INDEX}.partial"
        aside.write_text(json.dumps(index), encoding="utf-8")
        aside.replace(self._folder / _INDEX)
        return _reopened(self._folder)
