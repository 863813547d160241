"""From a text of a data set to its copies, by method."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from compression.augmentation.candidates import CandidateTable
from compression.augmentation.config import AugmentConfig
from compression.augmentation.copies import Copy, draws, edit_words, replace_words
from compression.augmentation.words import find_words


@dataclass(frozen=True)
class Drawn:
    """The copies of one text.

    Attributes:
        copies: the different ones.
        drawn: how many were drawn, equal ones included.
        words: words of the text.
        replaceable: of them, those that may be replaced.
        without_candidates: of those, those that cannot, for want of a candidate.
    """

    copies: Sequence[Copy] = ()
    drawn: int = 0
    words: int = 0
    replaceable: int = 0
    without_candidates: int = 0


Copier = Callable[[str, int, int], Drawn]
"""A text, the position of its row, and 0 or 1 for the row's first or second text -> its copies."""


def word_replacer(table: CandidateTable, config: AugmentConfig, copies: int, seed: int) -> Copier:
    """Copies by TinyBERT's Algorithm 1.

    Args:
        table: candidates of all texts that will be asked for.
        config: the probability.
        copies: copies to draw of each text.
        seed: seed of the draws.

    Returns:
        The copier.
    """

    def copy(text: str, row: int, part: int) -> Drawn:
        slots, replaceable = table.slots(text), len(table.words(text))
        made = replace_words(text, slots, copies, config.replace_probability, draws(seed, row, part))
        return Drawn(made, copies, len(find_words(text)), replaceable, replaceable - len(slots))

    return copy


def random_editor(config: AugmentConfig, copies: int, seed: int) -> Copier:
    """Copies by EDA's random swap and random deletion.

    Args:
        config: the share of words.
        copies: copies to draw of each text.
        seed: seed of the draws.

    Returns:
        The copier.
    """

    def copy(text: str, row: int, part: int) -> Drawn:
        words = len(text.split())
        return Drawn(edit_words(text, copies, config.edit_share, draws(seed, row, part)), copies, words, words)

    return copy


def no_copies(text: str, row: int, part: int) -> Drawn:
    """The rows as they are."""
    del text, row, part
    return Drawn()
