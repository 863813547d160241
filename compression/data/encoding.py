"""Texts to word pieces, and word pieces to batches that waste little on padding."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from compression.control import Control
from compression.data.config import Truncation

if TYPE_CHECKING:
    import pandas
    from transformers import PreTrainedTokenizerBase

_TEXTS_A_CALL = 1024  # a stop request is answered, and memory bounded, between calls
_BATCHES_A_POOL = 50


@dataclass(frozen=True)
class Encoded:
    """Tokenised rows without padding.

    Attributes:
        input_ids: for each row, its (length,) int32 word pieces with the special tokens.
        token_type_ids: for each row, its (length,) int32 segment numbers; None when they are all 0 or the tokeniser
            makes none, both of which models take by default.
        labels: (rows,) int64 class indices or float32 targets; (rows, labels) float32 0 or 1 of several labels;
            (rows, 2) int64 first and last word piece of spans. None when the frame had none.
        lengths: (rows,) int64 numbers of word pieces.
    """

    input_ids: list[NDArray[np.int32]]
    token_type_ids: list[NDArray[np.int32]] | None
    labels: NDArray[Any] | None
    lengths: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.input_ids)

    def digest(self) -> str:
        """SHA-256 of word pieces, segments and labels, in hexadecimal."""
        digest = hashlib.sha256()
        for column in (self.input_ids, self.token_type_ids or []):
            for ids in column:
                digest.update(ids.tobytes())
        digest.update(np.asarray(self.lengths).tobytes())
        if self.labels is not None:
            digest.update(self.labels.tobytes())
        return digest.hexdigest()


def encode(
    frame: "pandas.DataFrame",
    tokenizer: "PreTrainedTokenizerBase",
    max_length: int,
    *,
    truncation: Truncation = "head",
    control: Control | None = None,
) -> Encoded:
    """Tokenise a frame.

    A row that is too long is cut at its end; of a pair, word pieces go from the end of the longer text first. A single
    text may keep its tail instead, or both ends (Sun et al. 2019, arXiv:1905.05583, section 5.3.1).

    Args:
        frame: rows with `text`, and perhaps `text_pair` and `label`.
        tokenizer: a Hugging Face tokeniser.
        max_length: longest row in word pieces, special tokens included.
        truncation: what is kept of a row that is too long; other than its head for single texts alone.
        control: where to look for a stop request.

    Returns:
        The rows in the same order.

    Raises:
        Interrupted: a stop was asked for.
    """
    texts = frame["text"].tolist()
    pairs = frame["text_pair"].tolist() if "text_pair" in frame.columns else None
    input_ids: list[NDArray[np.int32]] = []
    token_types: list[NDArray[np.int32]] = []
    for start in range(0, len(texts), _TEXTS_A_CALL):
        (control or Control()).check()
        part = slice(start, start + _TEXTS_A_CALL)
        batch = tokenizer(
            texts[part],
            None if pairs is None else pairs[part],
            truncation=truncation == "head",
            max_length=max_length if truncation == "head" else None,
            padding=False,
            return_attention_mask=False,
            return_special_tokens_mask=truncation != "head",
            verbose=False,  # transformers would warn of long texts, which are cut below
        )
        if truncation != "head":
            kept = [kept_pieces(np.asarray(mask), max_length, truncation) for mask in batch["special_tokens_mask"]]
            for name in ("input_ids", "token_type_ids"):
                if name in batch:
                    batch[name] = [np.asarray(row)[places] for row, places in zip(batch[name], kept, strict=True)]
        input_ids += [np.asarray(row, np.int32) for row in batch["input_ids"]]
        token_types += [np.asarray(row, np.int32) for row in batch.get("token_type_ids", ())]
    return Encoded(
        input_ids=input_ids,
        token_type_ids=token_types if any(row.any() for row in token_types) else None,
        labels=labels_of(frame) if "label" in frame.columns else None,
        lengths=np.fromiter(map(len, input_ids), np.int64, len(input_ids)),
    )


def kept_pieces(special: NDArray[np.int64], max_length: int, truncation: Truncation) -> NDArray[np.intp]:
    """Positions of a single text that are kept when it is too long.

    Special tokens at both ends are kept. Of the rest, `head+tail` keeps 128/510 at the start, as Sun et al. 2019 do of
    510, and what is left at the end.

    Args:
        special: (length,) 1 on special tokens, 0 on word pieces of the text.
        max_length: longest row, special tokens included.
        truncation: what to keep.

    Returns:
        (min(length, max_length),) ascending positions.

    Example:
        >>> special = np.array([1, 0, 0, 0, 0, 0, 0, 0, 0, 1])
        >>> kept_pieces(special, 6, "tail").tolist(), kept_pieces(special, 6, "head+tail").tolist()
        ([0, 5, 6, 7, 8, 9], [0, 1, 6, 7, 8, 9])
    """
    places = np.arange(len(special))
    if len(special) <= max_length:
        return places
    text = np.flatnonzero(special == 0)
    room = max_length - (len(special) - len(text))
    head = {"head": room, "tail": 0, "head+tail": room * 128 // 510}[truncation]
    cut = text[head : len(text) - (room - head)]
    return np.delete(places, cut)


def labels_of(frame: "pandas.DataFrame") -> NDArray[Any]:
    """Labels of a frame of rows that are classified or given a number.

    Args:
        frame: rows with `label`.

    Returns:
        (rows,) int64 class indices or float32 targets; (rows, labels) float32 of several labels.
    """
    labels = frame["label"].to_numpy()
    if labels.dtype == object:
        return np.array(labels.tolist(), np.float32)
    return labels.astype(np.int64 if np.issubdtype(labels.dtype, np.integer) else np.float32)


def collate(encoded: Encoded, rows: NDArray[np.int64], pad_token_id: int) -> dict[str, torch.Tensor]:
    """Pad some rows to the longest among them.

    Args:
        encoded: tokenised rows.
        rows: (batch,) positions of the rows.
        pad_token_id: word piece to pad with.

    Returns:
        `input_ids`, `attention_mask` (1 on real word pieces) and, when there are any, `token_type_ids`, all
        (batch, longest) int64; and `labels`, (batch,) or (batch, ...), when there are any.

    Example:
        >>> two = [np.array([2, 7, 3], np.int32), np.array([2, 3], np.int32)]
        >>> collate(Encoded(two, None, None, np.array([3, 2])), np.array([0, 1]), pad_token_id=0)["input_ids"]
        tensor([[2, 7, 3],
                [2, 3, 0]])
    """
    lengths = encoded.lengths[rows]
    real = np.arange(lengths.max())[None, :] < lengths[:, None]
    batch = {
        "input_ids": _padded(encoded.input_ids, rows, real, pad_token_id),
        "attention_mask": torch.from_numpy(real.astype(np.int64)),
    }
    if encoded.token_type_ids is not None:
        batch["token_type_ids"] = _padded(encoded.token_type_ids, rows, real, 0)
    if encoded.labels is not None:
        batch["labels"] = torch.from_numpy(encoded.labels[rows])
    return batch


def _padded(
    values: Sequence[NDArray[np.int32]], rows: NDArray[np.int64], real: NDArray[np.bool_], padding: int
) -> torch.Tensor:
    filled = np.full(real.shape, padding, np.int64)
    filled[real] = np.concatenate([values[row] for row in rows.tolist()])
    return torch.from_numpy(filled)


class LengthBucketBatches:
    """Batches of similar length in random order, every row once an epoch.

    The rows are shuffled and cut into pools of 50 batches; within a pool rows are sorted by length and cut into
    batches; then the batches of all pools are shuffled. So a row meets other rows in every epoch, yet there is hardly
    any padding. The last, smaller batch is kept.

    Args:
        lengths: (rows,) word pieces of each row.
        batch_size: rows a batch.
        seed: seed of the order.
        bucketing: off, batches are cut from the shuffled rows whatever their length.

    Example:
        >>> batches = LengthBucketBatches(np.array([5, 9, 5, 9, 5]), batch_size=2, seed=0)
        >>> sorted(np.concatenate(batches.epoch(0)).tolist()), len(batches)
        ([0, 1, 2, 3, 4], 3)
    """

    def __init__(self, lengths: NDArray[np.int64], batch_size: int, seed: int, bucketing: bool = True) -> None:
        self._lengths = np.asarray(lengths)
        self._batch_size = batch_size
        self._seed = seed
        self._bucketing = bucketing

    def __len__(self) -> int:
        return math.ceil(len(self._lengths) / self._batch_size)

    def epoch(self, number: int) -> list[NDArray[np.int64]]:
        """Batches of one epoch.

        Args:
            number: the epoch, counted from 0; each has an order of its own.

        Returns:
            For each batch, the positions of its rows.
        """
        # Sorting raw draws rather than Generator.permutation: only bit generators promise the same stream for ever.
        draws = np.random.PCG64(np.random.SeedSequence([self._seed, number]))
        order = np.argsort(draws.random_raw(len(self._lengths)), kind="stable")
        if self._bucketing:
            pool = self._batch_size * _BATCHES_A_POOL
            order = np.concatenate(
                [self._sorted(order[start : start + pool]) for start in range(0, len(order), pool)] or [order]
            )
        batches = [order[start : start + self._batch_size] for start in range(0, len(order), self._batch_size)]
        if not self._bucketing:
            return batches
        return [batches[place] for place in np.argsort(draws.random_raw(len(batches)), kind="stable").tolist()]

    def _sorted(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return rows[np.argsort(self._lengths[rows], kind="stable")]
