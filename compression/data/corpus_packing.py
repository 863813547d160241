"""A corpus to packed word pieces: tokenised in parts, held-out documents apart."""

import copy
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compression.control import Control
from compression.data.corpus import Corpus
from compression.data.corpus_config import without_places
from compression.data.corpus_files import Document
from compression.data.packed_corpus import PackedCorpus, PackedWriter, open_packed
from compression.data.splits import is_held_out
from compression.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# A stop request is answered, and memory bounded, between parts.
_CHARACTERS_A_PART = 1 << 20
_DOCUMENTS_A_PART = 4096


@dataclass(frozen=True)
class PackedSplits:
    """A packed corpus and what was held out of it.

    Attributes:
        train: sequences to learn from.
        validation: held-out sequences; None when nothing is held out.
    """

    train: PackedCorpus
    validation: PackedCorpus | None

    def summary(self) -> dict[str, int | bool]:
        """Counts by name, ready for JSON."""
        held_out = self.validation.text_tokens if self.validation else 0
        return {
            "tokens": self.train.text_tokens,
            "sequences": len(self.train),
            "limited": self.train.limited,
            "validation_tokens": held_out,
        }


def pack(
    corpus: Corpus,
    tokenizer: "PreTrainedTokenizerBase",
    folder: Path,
    *,
    special_tokens: int,
    max_length: int,
    control: Control,
) -> PackedSplits:
    """Tokenise a corpus and cut it into sequences on disk; what an earlier attempt finished is opened again.

    Args:
        corpus: the corpus.
        tokenizer: a Hugging Face tokenizer with a separator token.
        folder: where to write.
        special_tokens: special tokens that a sequence will have at its ends: 2, or 3 for a pair.
        max_length: longest sequence in word pieces, special tokens included.
        control: where to report progress, and whether to stop.

    Returns:
        Training sequences, and held-out ones when the corpus asks for them.

    Raises:
        DataError: the corpus cannot be read, holds no text, or too little to hold some out.
        Interrupted: a stop was asked for; packing begins anew.
    """
    config = corpus.config
    settings = [corpus.identity(), without_places(config.model_dump()), tokenizer_identity(tokenizer)]
    owner = hashlib.sha256(json.dumps([*settings, special_tokens, max_length]).encode()).hexdigest()
    train, validation = (open_packed(folder / split, owner) for split in ("train", "validation"))
    if train is not None and (validation is not None or config.validation_fraction == 0):
        return PackedSplits(train, validation)

    def writer(split: str, limit: int | None) -> PackedWriter:
        return PackedWriter(
            folder / split,
            vocabulary_size=vocabulary_size(tokenizer),
            body_length=max_length - special_tokens,
            separator=tokenizer.sep_token_id if config.cross_documents else None,
            limit=limit,
        )

    writers = writer("train", config.limit_tokens), writer("validation", config.limit_validation_tokens)
    documents = _write(corpus, tokenizer, *writers, control=control)
    if documents == 0:
        raise DataError(f"corpus {config.name!r} holds no text")
    if config.validation_fraction > 0 and 0 in (writers[0].text_tokens, writers[1].text_tokens):
        which = "was held out for the validation loss" if writers[0].text_tokens else "is left to train on"
        raise DataError(
            f"corpus {config.name!r}: of {documents} documents none {which}; change validation_fraction (now "
            f"{config.validation_fraction:g}; 0 measures none), or `documents` (now {config.documents!r})"
        )
    # The training part comes last: where it is, both are whole.
    held_out = writers[1].finish(owner)
    return PackedSplits(writers[0].finish(owner), held_out if config.validation_fraction > 0 else None)


def _write(
    corpus: Corpus,
    tokenizer: "PreTrainedTokenizerBase",
    train: PackedWriter,
    validation: PackedWriter,
    *,
    control: Control,
) -> int:
    """Write documents until the limit; returns how many were read."""
    config, count = corpus.config, 0
    control.progress.start("packing the corpus", config.limit_tokens or 0, unit="word piece")
    for part in _parts(corpus.documents()):
        control.check()
        lines = tokenizer(
            [paragraph for document in part for paragraph in document],
            add_special_tokens=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )["input_ids"]
        ids = iter(np.asarray(line, np.int64) for line in lines)
        before = train.text_tokens
        for document in part:
            held_out = config.validation_fraction > 0 and is_held_out(
                "\n".join(document), config.validation_fraction, config.split_seed, "validation"
            )
            (validation if held_out else train).add([next(ids) for _ in document])
        count += len(part)
        control.progress.advance(train.text_tokens - before)
        if train.limited:
            break
    control.progress.finish()
    return count


def _parts(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Documents in parts of about a megabyte."""
    part: list[Document] = []
    characters = 0
    for document in documents:
        part.append(document)
        characters += sum(map(len, document))
        if characters >= _CHARACTERS_A_PART or len(part) == _DOCUMENTS_A_PART:
            yield part
            part, characters = [], 0
    if part:
        yield part


def vocabulary_size(tokenizer: "PreTrainedTokenizerBase") -> int:
    """Rows that an embedding needs for a tokenizer.

    Args:
        tokenizer: a Hugging Face tokenizer.

    Returns:
        One more than the highest number of a word piece; some numbers may be unused.
    """
    return int(max(tokenizer.get_vocab().values())) + 1


def tokenizer_identity(tokenizer: "PreTrainedTokenizerBase") -> str:
    """Digest of how a tokenizer cuts texts.

    Args:
        tokenizer: a Hugging Face tokenizer.

    Returns:
        SHA-256 in hexadecimal; padding and truncation, which a tokenizer's last call leaves switched on, do not count.
    """
    parts = [tokenizer.get_vocab(), {name: str(token) for name, token in tokenizer.special_tokens_map.items()}]
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        clean = copy.deepcopy(backend)
        clean.no_padding()
        clean.no_truncation()
        parts.append(json.loads(clean.to_str()))
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
