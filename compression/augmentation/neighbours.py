"""Nearest words by cosine: exact, a block of words at a time, without sorting the vocabulary."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from compression.augmentation.vectors import WordVectors
from compression.control import Control
from compression.errors import DataError

_QUERIES_A_BLOCK = 128
_WORDS_A_BLOCK = 4096  # similarities of a block stay in the processor's cache
_GROUP = 32  # words whose largest similarity stands for them when the vocabulary is searched
_SPARE = 4  # groups beyond those needed, so that fp32 rounding cannot push one of these out


def nearest_words(
    vectors: WordVectors, rows: Sequence[int], count: int, *, control: Control | None = None
) -> NDArray[np.int32]:
    r"""Find the nearest other words of some words.

    .. math:: \cos(u, v) = u \cdot v / (|u| |v|)

    The vocabulary is searched in fp32, and the best groups of it are compared again in fp64, so the result does not
    depend on how many words are searched at once. Of equally near words the one that comes first is nearer; a word with
    a zero vector is near to none.

    Args:
        vectors: the vocabulary.
        rows: rows of the words to find neighbours of.
        count: neighbours of each.
        control: where to report progress, and whether to stop.

    Returns:
        (len(rows), count) rows of the neighbours, the nearest first; -1 where the vocabulary has no more.

    Raises:
        DataError: a vector is not finite.

    Example:
        >>> matrix = np.array([[1, 0], [1, 0.1], [0, 1], [-1, 0]], np.float32)
        >>> nearest_words(WordVectors(["a", "b", "c", "d"], matrix), [0], 2).tolist()
        [[1, 2]]
    """
    control = control or Control()
    lengths = _lengths(vectors)
    found = np.full((len(rows), count), -1, np.int32)
    control.progress.start("nearest words", len(rows), unit="word")
    for start in range(0, len(rows), _QUERIES_A_BLOCK):
        control.check()
        block = np.asarray(rows[start : start + _QUERIES_A_BLOCK], np.int64)
        # One more, as the word itself is among them.
        candidates = _best_groups(vectors.matrix, lengths, block, count + 1 + _SPARE)
        for place, row in enumerate(block.tolist()):
            if lengths[row] == 0:
                continue
            near = _nearest_first(vectors.matrix, lengths, row, candidates[place])[:count]
            found[start + place, : len(near)] = near
        control.progress.advance(len(block))
    control.progress.finish()
    return found


def _blocks(words: int) -> list[slice]:
    return [slice(start, min(start + _WORDS_A_BLOCK, words)) for start in range(0, words, _WORDS_A_BLOCK)]


def _lengths(vectors: WordVectors) -> NDArray[np.float32]:
    """(words,) Euclidean norms."""
    lengths = np.concatenate([np.linalg.norm(vectors.matrix[part], axis=1) for part in _blocks(len(vectors.matrix))])
    if not np.isfinite(lengths).all():
        word = vectors.words[int(np.flatnonzero(~np.isfinite(lengths))[0])]
        raise DataError(f"the vector of word {word!r} has a number that is not finite")
    return lengths


def _best_groups(
    matrix: NDArray[np.float32], lengths: NDArray[np.float32], rows: NDArray[np.int64], count: int
) -> NDArray[np.int64]:
    """(rows, at most count) numbers of the groups whose best words are most similar to each row, in fp32.

    A group that is not among the `count` best holds none of the `count` best words, because each of those groups has a
    word at least as good as any of it.
    """
    best = torch.full((len(rows), -(-len(matrix) // _GROUP)), -torch.inf)
    queries = torch.from_numpy(matrix[rows].astype(np.float32))
    similarity = torch.empty(len(rows), _WORDS_A_BLOCK)
    for part in _blocks(len(matrix)):
        norms = lengths[part, None]
        unit = np.zeros((_WORDS_A_BLOCK, matrix.shape[1]), np.float32)
        np.divide(matrix[part], norms, out=unit[: len(norms)], where=norms > 0)
        torch.mm(queries, torch.from_numpy(unit).T, out=similarity)
        if len(norms) < _WORDS_A_BLOCK or not norms.all():
            no_words = np.ones(_WORDS_A_BLOCK, np.bool_)
            no_words[: len(norms)] = norms[:, 0] == 0
            similarity.masked_fill_(torch.from_numpy(no_words), -torch.inf)
        groups = similarity.view(len(rows), -1, _GROUP).amax(dim=2)
        first = part.start // _GROUP
        best[:, first : first + groups.shape[1]] = groups[:, : best.shape[1] - first]
    numbers: NDArray[np.int64] = best.topk(min(count, best.shape[1]), dim=1).indices.numpy()
    return numbers


def _nearest_first(
    matrix: NDArray[np.float32], lengths: NDArray[np.float32], row: int, groups: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The words of some groups, but `row` itself and zero vectors, from near to far; in fp64."""
    words = (np.sort(groups)[:, None] * _GROUP + np.arange(_GROUP)).ravel()
    words = words[words < len(matrix)]
    words = words[(words != row) & (lengths[words] > 0)]
    vectors = matrix[words].astype(np.float64)
    similarity = vectors @ matrix[row].astype(np.float64) / np.linalg.norm(vectors, axis=1)
    ordered: NDArray[np.int64] = words[np.argsort(-similarity, kind="stable")]
    return ordered
