"""Vocabularies built in code."""

import numpy as np

from compression.pretraining.vocabulary import Vocabulary

SPECIAL = 5


def vocabulary(size: int = 1000) -> Vocabulary:
    """Special tokens 0 to 4 (pad, unk, cls, sep, mask); every fourth piece continues a word, every ninth ends a sentence."""
    numbers = np.arange(size)
    special = numbers < SPECIAL
    return Vocabulary(
        mask=4,
        cls=2,
        sep=3,
        pad=0,
        is_special=special,
        starts_word=special | (numbers % 4 != 0),
        ends_sentence=~special & (numbers % 9 == 7),
    )


def random_sequences(count: int, length: int, seed: int = 0, size: int = 1000) -> np.ndarray:
    """[CLS] … [SEP] of random ordinary pieces, one after another."""
    random = np.random.default_rng(seed)
    body = random.integers(SPECIAL, size, (count, length))
    ends = np.full((count, 1), 2), np.full((count, 1), 3)
    return np.hstack([ends[0], body, ends[1]]).ravel().astype(np.int64)
