"""Candidates of every replaceable word of a data set: computed once a text, kept on disk block by block."""

import hashlib
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compression.augmentation.config import AugmentConfig
from compression.augmentation.masked_words import MaskedWordModel
from compression.augmentation.neighbours import nearest_words
from compression.augmentation.vectors import WordVectors
from compression.augmentation.words import ENGLISH_STOP_WORDS, Word, replaceable_words
from compression.control import Control
from compression.errors import UserError

_TEXTS_A_BLOCK = 512  # what a killed run loses at most; enough for full batches of every length
_BLOCKS_IN_MEMORY = 16


@dataclass(frozen=True)
class Slot:
    """A word that may be replaced.

    Attributes:
        word: the word and its place in the text.
        candidates: what may take its place, at least one.
    """

    word: Word
    candidates: Sequence[str]


class CandidateTable:
    """Candidates of the words of some texts (Jiao et al. 2019, arXiv:1909.10351, Algorithm 1, lines 5 to 10).

    A word of one piece gets the masked LM's most probable words in its place, every other word its neighbours among the
    word vectors. A word with neither has no candidates. Candidates come from the text as it is, not from one in which
    other words are replaced already.

    Args:
        texts: all texts that will be asked for.
        config: method, number of candidates, stop words.
        masked: the masked LM, or None.
        vectors: the word vectors, or None.
        folder: where finished blocks are kept, by a digest of the texts; of this model, these vectors and this number
            of candidates alone.
        control: where to report progress, and whether to stop.

    Attributes:
        without_vector: different words that were looked for among the vectors and are not there.

    Raises:
        Interrupted: a stop was asked for; the same call goes on after the last whole block.
    """

    def __init__(
        self,
        texts: Sequence[str],
        config: AugmentConfig,
        *,
        masked: MaskedWordModel | None,
        vectors: WordVectors | None,
        folder: Path,
        control: Control,
    ) -> None:
        self._texts = list(dict.fromkeys(texts))
        self._number = {text: number for number, text in enumerate(self._texts)}
        self._config, self._masked, self._vectors = config, masked, vectors
        self._folder = folder / _digest(self._texts)
        self._stop_words = ENGLISH_STOP_WORDS if config.stop_words is None else frozenset(config.stop_words)
        self._block = lru_cache(maxsize=_BLOCKS_IN_MEMORY)(self._read_block)
        self._folder.mkdir(parents=True, exist_ok=True)
        if masked is not None:
            self._ask_masked_lm(masked, control)
        self.without_vector = 0
        self._near: dict[int, NDArray[np.int32]] = {}
        if vectors is not None:
            self._search_vectors(vectors, control)

    def words(self, text: str) -> list[Word]:
        """The words of a text that may be replaced, with or without candidates."""
        return replaceable_words(text, self._stop_words)

    def slots(self, text: str) -> list[Slot]:
        """The words of a text that have candidates.

        Args:
            text: one of the table's texts.

        Returns:
            The words in their order.
        """
        by_model = self._by_model(text)
        slots = []
        for number, word in enumerate(self.words(text)):
            if number in by_model and self._masked is not None:
                slots.append(Slot(word, [self._masked.spellings[entry] for entry in by_model[number].tolist()]))
            elif self._vectors is not None and (row := self._vectors.row(word.text)) is not None:
                near = self._near[row]
                slots.append(Slot(word, [self._vectors.words[entry] for entry in near[near >= 0].tolist()]))
        return [slot for slot in slots if slot.candidates]

    def _by_model(self, text: str) -> dict[int, NDArray[np.int32]]:
        """Number of each word that the masked LM was asked for -> vocabulary entries."""
        if self._masked is None:
            return {}
        block, place = divmod(self._number[text], _TEXTS_A_BLOCK)
        arrays = self._block(block)
        part = slice(*arrays["starts"][place : place + 2].tolist())
        return dict(zip(arrays["words"][part].tolist(), arrays["entries"][part], strict=True))

    def _ask_masked_lm(self, masked: MaskedWordModel, control: Control) -> None:
        blocks = range(-(-len(self._texts) // _TEXTS_A_BLOCK))
        missing = [number for number in blocks if _read_arrays(self._path(number)) is None]
        waiting = sum(len(self._texts_of(number)) for number in missing)
        done = len(self._texts) - waiting
        control.progress.start("masked-LM candidates", len(self._texts), unit="text", done=done)
        for number in missing:
            texts = masked.read(self._texts_of(number), self._stop_words)
            entries = masked.most_probable(
                texts, self._config.candidates, exclude_original=self._config.exclude_original, control=control
            )
            _write_arrays(
                self._path(number),
                starts=np.cumsum([0, *(len(text.words) for text in texts)]),
                words=np.concatenate([np.asarray(text.words, np.int32) for text in texts]),
                entries=np.concatenate(entries),
            )
            control.progress.advance(len(texts))
        control.progress.finish()

    def _texts_of(self, block: int) -> list[str]:
        return self._texts[block * _TEXTS_A_BLOCK : (block + 1) * _TEXTS_A_BLOCK]

    def _path(self, block: int) -> Path:
        return self._folder / f"masked-lm-{block:05d}.npz"

    def _read_block(self, block: int) -> dict[str, NDArray[Any]]:
        arrays = _read_arrays(self._path(block))
        if arrays is None:
            raise UserError(f"{self._path(block)} was removed or damaged while it was in use; run the study again")
        return arrays

    def _search_vectors(self, vectors: WordVectors, control: Control) -> None:
        """Find the neighbours of every word that the masked LM was not asked for, once a word."""
        rows: set[int] = set()
        absent: set[str] = set()
        for place, text in enumerate(self._texts):
            if place % _TEXTS_A_BLOCK == 0:
                control.check()
            by_model = self._by_model(text)
            for number, word in enumerate(self.words(text)):
                if number not in by_model:
                    row = vectors.row(word.text)
                    absent.add(word.text.lower()) if row is None else rows.add(row)
        self.without_vector = len(absent)
        asked = np.array(sorted(rows), np.int64)
        path = self._folder / "neighbours.npz"
        kept = _read_arrays(path)
        if kept is None or not np.array_equal(kept["rows"], asked):
            found = nearest_words(vectors, asked.tolist(), self._config.candidates, control=control)
            _write_arrays(path, rows=asked, found=found)
            kept = {"rows": asked, "found": found}
        self._near = dict(zip(asked.tolist(), kept["found"], strict=True))


def _digest(texts: Sequence[str]) -> str:
    lengths = np.fromiter(map(len, texts), "<i8", len(texts))
    digest = hashlib.sha256(lengths.tobytes())
    for text in texts:
        digest.update(text.encode())
    return digest.hexdigest()[:32]


def _write_arrays(path: Path, **arrays: NDArray[Any]) -> None:
    """Write arrays so that they are there whole or not at all."""
    aside = path.with_name(f"{path.name}.{os.getpid()}.npz")  # savez insists on the ending
    np.savez(aside, allow_pickle=False, **arrays)
    aside.replace(path)


def _read_arrays(path: Path) -> dict[str, NDArray[Any]] | None:
    """What `_write_arrays` wrote; None when it is not there or damaged."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, zipfile.BadZipFile):
        return None
