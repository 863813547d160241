"""Pairs of segments for the sentence objectives: are these two swapped, or from two documents?"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from compression.data.packed_corpus import PackedCorpus
from compression.pretraining.masking import Tokens, uniform
from compression.pretraining.vocabulary import Vocabulary

PairObjective = Literal["sentence_order", "next_sentence"]
Pair = tuple[Tokens, Tokens]


def make_pairs(
    corpus: PackedCorpus,
    rows: Sequence[int] | NDArray[np.int64],
    bits: np.random.PCG64,
    objective: PairObjective,
    vocabulary: Vocabulary,
) -> tuple[list[Pair], NDArray[np.int64]]:
    """Cut sequences in two, and make half of the pairs wrong.

    A sequence is cut where a paragraph or a sentence ends, at one such place drawn at random; one without any, between
    two words. A wrong pair of `sentence_order` is the same two segments swapped (Lan et al. 2019, arXiv:1909.11942,
    section 3.1). A wrong pair of `next_sentence` has for its second segment one of another document (Devlin et al.
    2018, arXiv:1810.04805, section 3.1), cut to the length of the right one.

    Args:
        corpus: packed sequences, none of which crosses documents.
        rows: (b,) their numbers.
        bits: generator; four numbers a row are drawn from it.
        objective: how wrong pairs are made.
        vocabulary: which word pieces begin words and end sentences.

    Returns:
        The pairs, and (b,) labels: 0 for right, 1 for wrong. A sequence of one word piece, and for `next_sentence` any
        sequence of a corpus of one document, makes right pairs only.
    """
    draws = uniform(bits, 4 * len(rows)).reshape(len(rows), 4)
    pairs, labels = [], np.zeros(len(rows), np.int64)
    for place, (row, (where, wrong, other, elsewhere)) in enumerate(zip(map(int, rows), draws, strict=True)):
        first, second = _cut(corpus, row, where, vocabulary)
        if wrong < 0.5 and len(first) and len(second):
            if objective == "sentence_order":
                first, second, labels[place] = second, first, 1
            elif (stranger := _of_another_document(corpus, row, other)) is not None:
                start, end = _cut(corpus, stranger, elsewhere, vocabulary)
                second, labels[place] = (end if len(end) else start)[: len(second)], 1
        pairs.append((first, second))
    return pairs, labels


def cut_points(corpus: PackedCorpus, row: int, vocabulary: Vocabulary) -> NDArray[np.int64]:
    """Where a sequence may be cut in two.

    Args:
        corpus: packed sequences.
        row: number of the sequence.
        vocabulary: which word pieces begin words and end sentences.

    Returns:
        Positions before which a second segment may begin: after paragraphs and sentences; without any, before words;
        without those either, before every piece but the first.
    """
    tokens = corpus.sequence(row)
    starts = vocabulary.starts_word[tokens]
    # A run of marks, as in "?!" or "...", ends one sentence, at its last.
    ends = (
        np.flatnonzero(vocabulary.ends_sentence[tokens[:-1]] & ~vocabulary.ends_sentence[tokens[1:]] & starts[1:]) + 1
    )
    points = np.union1d(corpus.breaks_within(row), ends)
    if not len(points):
        points = np.flatnonzero(starts[1:]) + 1
    return points if len(points) else np.arange(1, len(tokens))


def _cut(corpus: PackedCorpus, row: int, draw: float, vocabulary: Vocabulary) -> Pair:
    tokens = corpus.sequence(row)
    points = cut_points(corpus, row, vocabulary)
    if not len(points):
        return tokens, tokens[:0]
    point = int(points[int(draw * len(points))])
    return tokens[:point], tokens[point:]


def _of_another_document(corpus: PackedCorpus, row: int, draw: float) -> int | None:
    """A sequence drawn from all those of other documents; sequences of one document stand together."""
    first, last = np.searchsorted(corpus.documents, [corpus.documents[row], corpus.documents[row] + 1])
    others = len(corpus) - int(last - first)
    if others == 0:
        return None
    number = int(draw * others)
    return number if number < first else number + int(last - first)
