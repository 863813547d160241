"""Held-out rows and limits, chosen by a hash of the text: the same whatever the order of the file.

Nothing is drawn from a random generator, so a split depends on the texts and `split_seed` alone.
"""

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from compression.data.rows import Rows
from compression.errors import DataError


def hold_out(rows: Rows, fraction: float, seed: int, split: str) -> tuple[Rows, Rows]:
    """Part a share of the rows off, never parting rows of the same text.

    Texts that differ only in case or white space count as the same, since they are the same to an uncased model. They
    are ordered by their hash, and the first are held out until the share is reached. Questions whose answers are spans
    go by their context: none is on both sides.

    Args:
        rows: what to part.
        fraction: share to hold out.
        seed: another seed holds out other texts.
        split: name of the held-out split; other splits hold out other texts.

    Returns:
        The rows that remain and those held out, both in the order given.

    Raises:
        DataError: there are too few different texts.

    Example:
        >>> rows = Rows(np.arange(1, 5), ["a", "b", "c", "A"], None, np.zeros(4))
        >>> rest, held_out = hold_out(rows, 0.25, seed=0, split="selection")
        >>> sorted(rest.texts + held_out.texts)
        ['A', 'a', 'b', 'c']
    """
    keys: Iterable[str] = map(_plain, rows.texts)
    if rows.pairs is not None and rows.answers is not None:
        keys = map(_plain, rows.pairs)
    elif rows.pairs is not None:
        keys = map("\n".join, zip(keys, map(_plain, rows.pairs), strict=True))
    hashes = _hashes(keys, f"{split}\n{seed}\n", len(rows))
    _, group, sizes = np.unique(hashes, return_inverse=True, return_counts=True)
    if len(sizes) < 2:
        raise DataError(
            f"cannot hold the {split} split out of {len(rows)} rows with {len(sizes)} different texts; "
            f"name a file of its own in `files.{split}`"
        )
    before = np.cumsum(sizes) - sizes
    wanted = before < max(1, round(fraction * len(rows)))
    wanted[-1] = False  # whatever the share, something must remain
    held_out = wanted[group]
    return rows.take(np.flatnonzero(~held_out)), rows.take(np.flatnonzero(held_out))


def is_held_out(text: str, fraction: float, seed: int, split: str) -> bool:
    """Whether a text belongs to a held-out split, decided for it alone: for texts too many to be ordered.

    Texts that differ only in case or white space are decided alike. The share is met on average, not exactly.

    Args:
        text: the text.
        fraction: share to hold out.
        seed: another seed holds out other texts.
        split: name of the held-out split; other splits hold out other texts.

    Returns:
        True for about `fraction` of all texts.

    Example:
        >>> sum(is_held_out(f"text {number}", 0.25, 0, "validation") for number in range(1000))
        252
        >>> is_held_out("A  b", 0.5, 0, "validation") == is_held_out("a b", 0.5, 0, "validation")
        True
    """
    return float(_hashes([_plain(text)], f"{split}\n{seed}\n", 1)[0]) < fraction * 2.0**64


def limit_rows(rows: Rows, limit: int | None, seed: int) -> Rows:
    """Keep at most some rows; a smaller limit keeps a part of what a larger one keeps.

    Args:
        rows: what to choose from.
        limit: how many to keep, or None for all.
        seed: another seed chooses others.

    Returns:
        The rows chosen, in the order given.

    Example:
        >>> rows = Rows(np.arange(1, 5), ["a", "b", "c", "d"], None, np.zeros(4))
        >>> len(limit_rows(rows, 2, seed=0))
        2
    """
    if limit is None or limit >= len(rows):
        return rows
    seconds = rows.pairs or [""] * len(rows)
    copies: dict[tuple[str, str, str], int] = {}
    keys = []
    for row in zip(rows.texts, seconds, map(repr, rows.labels.tolist()), strict=True):
        # Equal rows are told apart by their count, or a text that occurs 300 times would come whole or not at all.
        copies[row] = copies.get(row, 0) + 1
        keys.append("\n".join((*row, str(copies[row]))))
    hashes = _hashes(keys, f"limit\n{seed}\n", len(rows))
    return rows.take(np.sort(np.argsort(hashes, kind="stable")[:limit]))


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _hashes(keys: Iterable[str], salt: str, count: int) -> NDArray[np.uint64]:
    digests = (hashlib.blake2b((salt + key).encode(), digest_size=8).digest() for key in keys)
    return np.frombuffer(b"".join(digests), dtype="<u8", count=count)
