"""What masking and pairing need to know of a tokenizer's vocabulary."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from compression.data.corpus_packing import vocabulary_size
from compression.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_NEEDED = ("mask", "cls", "sep", "pad")
_SENTENCE_ENDS = frozenset(".!?。！？")


@dataclass(frozen=True)
class Vocabulary:
    """Word pieces by what they are.

    Attributes:
        mask: mask token.
        cls: token before a sequence.
        sep: token after a segment.
        pad: token that fills short sequences.
        is_special: (size,) whether a word piece is a special token.
        starts_word: (size,) whether a word piece begins a word; special tokens do.
        ends_sentence: (size,) whether a word piece is the punctuation that ends a sentence.
    """

    mask: int
    cls: int
    sep: int
    pad: int
    is_special: NDArray[np.bool_]
    starts_word: NDArray[np.bool_]
    ends_sentence: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.is_special)

    @classmethod
    def of(cls, tokenizer: "PreTrainedTokenizerBase") -> "Vocabulary":
        """Look a tokenizer over.

        Args:
            tokenizer: a Hugging Face tokenizer.

        Returns:
            Its vocabulary.

        Raises:
            UserError: it lacks a token that masked-language modelling needs.
        """
        absent = [name for name in _NEEDED if getattr(tokenizer, f"{name}_token_id") is None]
        if absent:
            raise UserError(f"masked-language modelling needs a {absent[0]} token, which the tokenizer does not have")
        pieces = [""] * vocabulary_size(tokenizer)
        for piece, number in tokenizer.get_vocab().items():
            pieces[number] = piece
        special = np.zeros(len(pieces), np.bool_)
        special[list(tokenizer.all_special_ids)] = True
        continuation, beginning = _word_marks(tokenizer)
        starts = [
            not piece.startswith(continuation) if continuation else piece.startswith(beginning) for piece in pieces
        ]
        ends = [piece.removeprefix(beginning) in _SENTENCE_ENDS for piece in pieces]
        return cls(
            mask=tokenizer.mask_token_id,
            cls=tokenizer.cls_token_id,
            sep=tokenizer.sep_token_id,
            pad=tokenizer.pad_token_id,
            is_special=special,
            starts_word=np.asarray(starts) | special,
            ends_sentence=np.asarray(ends) & ~special,
        )


def _word_marks(tokenizer: "PreTrainedTokenizerBase") -> tuple[str, str]:
    """Prefix of pieces that continue a word, or else of those that begin one; without either every piece is a word."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    model = json.loads(backend.to_str())["model"] if backend is not None else {}
    if model.get("type") == "WordPiece":
        return model["continuing_subword_prefix"], ""
    vocabulary = tokenizer.get_vocab()
    for mark in ("▁", "Ġ"):  # SentencePiece, byte-level BPE
        if sum(piece.startswith(mark) for piece in vocabulary) > len(vocabulary) / 20:
            return "", mark
    return ("##", "") if any(piece.startswith("##") for piece in vocabulary) else ("", "")
