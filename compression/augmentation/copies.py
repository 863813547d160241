"""Copies of a text: words replaced by candidates (TinyBERT, Algorithm 1), or swapped and deleted at random (EDA)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compression.augmentation.candidates import Slot
from compression.augmentation.words import match_case

Draw = Callable[[int], NDArray[np.uint64]]
"""Number of draws -> as many random 64-bit integers."""


@dataclass(frozen=True)
class Copy:
    """A changed text.

    Attributes:
        text: the text.
        changed: words that differ from the original.
    """

    text: str
    changed: int


def draws(seed: int, row: int, part: int) -> Draw:
    """Random integers that belong to one text: they do not depend on what was drawn for others.

    Args:
        seed: seed of the augmentation.
        row: position of the row among the training rows.
        part: 0 for its first text, 1 for its second.

    Returns:
        Function that gives the next draws.

    Example:
        >>> bool((draws(0, 7, 0)(3) == draws(0, 7, 0)(3)).all()), bool((draws(0, 7, 0)(3) == draws(0, 8, 0)(3)).all())
        (True, False)
    """
    # Raw draws: only bit generators promise the same stream for ever.
    generator = np.random.PCG64(np.random.SeedSequence([seed, row, part]))
    return generator.random_raw


def replace_words(text: str, slots: Sequence[Slot], copies: int, probability: float, draw: Draw) -> list[Copy]:
    """Replace words by random candidates (Jiao et al. 2019, arXiv:1909.10351, Algorithm 1, lines 2 to 18).

    In each copy each word with candidates is replaced with the given probability, by one of its candidates, all of them
    equally likely. A candidate is written in capitals where the word was; everything else stays as it is.

    Args:
        text: the original.
        slots: its words with candidates, in their order.
        copies: copies to draw, N_a.
        probability: p_t.
        draw: source of random integers.

    Returns:
        The different copies that are not the original, in the order in which they were drawn; at most `copies`.

    Example:
        >>> from compression.augmentation.words import find_words
        >>> slots = [Slot(find_words("Good film!")[0], ["bad"])]
        >>> replace_words("Good film!", slots, copies=3, probability=1.0, draw=draws(0, 0, 0))
        [Copy(text='Bad film!', changed=1)]
    """
    numbers = draw(copies * len(slots) * 2).reshape(copies, len(slots), 2)
    replaced = _uniform(numbers[..., 0]) < probability
    # The bias of the remainder is below 2^-50.
    chosen = numbers[..., 1] % np.array([len(slot.candidates) for slot in slots], np.uint64)
    between = [
        text[start:end]
        for start, end in zip(
            [0, *(slot.word.end for slot in slots)], [*(slot.word.start for slot in slots), len(text)], strict=True
        )
    ]
    made = []
    for row_replaced, row_chosen in zip(replaced.tolist(), chosen.tolist(), strict=True):
        words = [
            match_case(slot.candidates[choice], slot.word.text) if is_replaced else slot.word.text
            for slot, is_replaced, choice in zip(slots, row_replaced, row_chosen, strict=True)
        ]
        changed = sum(word != slot.word.text for word, slot in zip(words, slots, strict=True))
        pieces = [part for pair in zip(between, [*words, ""], strict=True) for part in pair]
        made.append(Copy("".join(pieces), changed))
    return _different(text, made)


def edit_words(text: str, copies: int, share: float, draw: Draw) -> list[Copy]:
    """Swap or delete words at random: random swap and random deletion of EDA (Wei and Zou 2019, arXiv:1901.11196).

    Words are what stands between spaces. Every second copy swaps two random words, n = max(1, share · words) times
    over; the others delete each word with probability `share`, but never the last one that is left.

    Args:
        text: the original.
        copies: copies to draw.
        share: EDA's α.
        draw: source of random integers.

    Returns:
        The different copies that are not the original; at most `copies`.

    Example:
        >>> [copy.text for copy in edit_words("good film", 1, 0.1, draws(0, 0, 0))]
        ['film good']
    """
    words = text.split()
    if len(words) < 2:
        return []
    made = [(_swapped if number % 2 == 0 else _deleted)(words, share, draw) for number in range(copies)]
    return [copy for copy in _different(text, made) if copy.changed]


def _swapped(words: Sequence[str], share: float, draw: Draw) -> Copy:
    order = list(words)
    for _ in range(max(1, int(share * len(words)))):
        first = int(draw(1)[0] % len(words))
        second = (first + 1 + int(draw(1)[0] % (len(words) - 1))) % len(words)  # another place than the first
        order[first], order[second] = order[second], order[first]
    return Copy(" ".join(order), sum(new != old for new, old in zip(order, words, strict=True)))


def _deleted(words: Sequence[str], share: float, draw: Draw) -> Copy:
    survives = (_uniform(draw(len(words))) >= share).tolist()
    kept = [word for word, survivor in zip(words, survives, strict=True) if survivor]
    kept = kept or [words[int(draw(1)[0] % len(words))]]
    return Copy(" ".join(kept), len(words) - len(kept))


def _uniform(numbers: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Numbers in [0, 1) from random integers."""
    return (numbers >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _different(original: str, copies: Sequence[Copy]) -> list[Copy]:
    seen = {original}
    kept = []
    for copy in copies:
        if copy.text not in seen:
            seen.add(copy.text)
            kept.append(copy)
    return kept
