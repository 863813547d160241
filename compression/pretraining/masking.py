"""Dynamic masking: which word pieces are to be predicted, drawn anew in every step."""

import math

import numpy as np
from numpy.typing import NDArray

from compression.pretraining.config import MaskingConfig
from compression.pretraining.vocabulary import Vocabulary

Tokens = NDArray[np.int64]


def generator(*numbers: int) -> np.random.PCG64:
    """A bit generator for a few whole numbers, such as (seed, step, purpose).

    What is drawn from it is a function of these numbers for ever: only raw bits are used, whose stream numpy promises.

    Args:
        numbers: non-negative integers.

    Returns:
        The generator.
    """
    return np.random.PCG64(np.random.SeedSequence(numbers))


def uniform(bits: np.random.PCG64, count: int) -> NDArray[np.float64]:
    """Random numbers of [0, 1).

    Args:
        bits: a bit generator.
        count: how many.

    Returns:
        (count,) multiples of 2^-53.

    Example:
        >>> uniform(generator(0), 2).round(3)
        array([0.637, 0.27 ])
    """
    raw: NDArray[np.uint64] = bits.random_raw(count)
    return (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53


def mask_tokens(
    tokens: Tokens,
    bits: np.random.PCG64,
    config: MaskingConfig,
    vocabulary: Vocabulary,
    weights: NDArray[np.float64] | None = None,
) -> tuple[Tokens, NDArray[np.bool_]]:
    """Choose word pieces to predict, and replace most of them (Devlin et al. 2018, arXiv:1810.04805, section 3.1).

    Each word piece that is no special token is chosen with the configured probability, independently; or each whole
    word is; or, frequency-smoothed, exactly ceil(probability × tokens) pieces of the whole batch are, without
    replacement and with the given weights, as in DistilBERT's released code. Of the chosen pieces, each by itself
    becomes the mask token, a random word piece that is no special token, or stays as it is.

    Args:
        tokens: (n,) word pieces of one or more sequences, one after another: with special tokens, without padding.
        bits: generator; three numbers a word piece are drawn from it.
        config: shares and way of choosing.
        vocabulary: which word pieces are special, and which begin a word.
        weights: (vocabulary,) weights of frequency-smoothed choice, see `smoothed_weights`.

    Returns:
        (n,) what the model sees, and (n,) which word pieces it is to predict.
    """
    candidate = ~vocabulary.is_special[tokens]
    draws = uniform(bits, len(tokens))
    if config.choice == "frequency_smoothed":
        if weights is None:
            raise ValueError("frequency-smoothed choice needs weights")
        chosen = _weighted(weights[tokens] * candidate, draws, math.ceil(config.probability * len(tokens)))
    else:
        if config.whole_words:
            draws = draws[_words(tokens, vocabulary)]
        chosen = (draws < config.probability) & candidate
    kind, which = uniform(bits, len(tokens)), uniform(bits, len(tokens))
    ordinary = np.flatnonzero(~vocabulary.is_special)
    random = ordinary[(which * len(ordinary)).astype(np.int64)]
    seen = np.where(kind < config.mask_share + config.random_share, random, tokens)
    seen = np.where(kind < config.mask_share, vocabulary.mask, seen)
    return np.where(chosen, seen, tokens), chosen


def smoothed_weights(counts: NDArray[np.int64], exponent: float) -> NDArray[np.float64]:
    """Weights that favour rare word pieces: count^-exponent.

    Args:
        counts: (vocabulary,) occurrences in the corpus; what never occurs counts once.
        exponent: 0.7 in DistilBERT's released code.

    Returns:
        (vocabulary,) weights.

    Example:
        >>> smoothed_weights(np.array([1, 4, 0]), 0.5)
        array([1. , 0.5, 1. ])
    """
    return np.maximum(counts, 1).astype(np.float64) ** -exponent


def _words(tokens: Tokens, vocabulary: Vocabulary) -> NDArray[np.int64]:
    """Number of the word that each piece belongs to; a piece after a special token begins one, whatever it is."""
    special = vocabulary.is_special[tokens]
    starts = vocabulary.starts_word[tokens] | np.append(True, special[:-1])
    return np.cumsum(starts) - 1


def _weighted(weights: NDArray[np.float64], draws: NDArray[np.float64], count: int) -> NDArray[np.bool_]:
    """Draw without replacement: the smallest of exponential variables of these rates come as successive draws would."""
    with np.errstate(divide="ignore"):
        times = -np.log1p(-draws) / weights
    chosen = np.zeros(len(weights), np.bool_)
    count = min(count, int((weights > 0).sum()))
    chosen[np.argpartition(times, count - 1)[:count] if count else []] = True
    return chosen & (weights > 0)
