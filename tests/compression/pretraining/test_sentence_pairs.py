import math

import numpy as np
import pytest
from vocabularies import SPECIAL, vocabulary

from compression.data.packed_corpus import PackedCorpus, PackedWriter
from compression.pretraining.masking import generator
from compression.pretraining.sentence_pairs import cut_points, make_pairs


def corpus(folder, documents, body_length=10) -> PackedCorpus:
    writer = PackedWriter(folder, vocabulary_size=1000, body_length=body_length, separator=None, limit=None)
    for document in documents:
        writer.add([np.array(paragraph) for paragraph in document])
    return writer.finish("owner")


def random_corpus(folder, count=400, seed=0) -> PackedCorpus:
    """Documents of several paragraphs of random pieces."""
    random = np.random.default_rng(seed)
    documents = []
    for _ in range(count):
        lengths = random.integers(1, 9, random.integers(1, 5))
        documents.append([random.integers(SPECIAL, 1000, length).tolist() for length in lengths])
    return corpus(folder, documents)


@pytest.mark.parametrize("objective", ["sentence_order", "next_sentence"])
def test_half_of_the_pairs_are_wrong_and_both_kinds_are_what_they_say(tmp_path, objective):
    packed = random_corpus(tmp_path)
    rows = np.arange(len(packed))
    pairs, labels = make_pairs(packed, rows, generator(0), objective, vocabulary())
    able = packed.lengths > 1
    spread = 5 * math.sqrt(able.sum() / 4)
    assert abs(labels.sum() - able.sum() / 2) < spread
    assert not labels[~able].any()
    owner = {tuple(packed.sequence(row)): packed.documents[row] for row in rows}
    suffixes = {}
    for row in rows:
        tokens = packed.sequence(row).tolist()
        for start in range(len(tokens)):
            suffixes.setdefault(tuple(tokens[start : start + 3]), set()).add(packed.documents[row])
    for row, (first, second), label in zip(rows, pairs, labels, strict=True):
        whole = packed.sequence(row).tolist()
        if label == 0:
            assert [*first, *second] == whole
        elif objective == "sentence_order":
            assert [*second, *first] == whole
        else:
            assert list(first) == whole[: len(first)]
            assert 0 < len(second) <= len(whole) - len(first)
            others = suffixes[tuple(second[:3])] if len(second) >= 3 else {-1}
            assert others != {owner[tuple(whole)]}


def test_cuts_are_between_paragraphs_and_sentences(tmp_path):
    # 7 ends a sentence (7 % 9 == 7), 16 too but it also continues a word (16 % 4 == 0).
    documents = [[[5, 6], [9, 10, 11]], [[5, 7, 9, 10]], [[5, 7, 16, 9]], [[5, 8, 12, 9, 10]], [[8, 12]], [[5]]]
    packed = corpus(tmp_path, documents)
    expected = [[2], [2], [3], [3, 4], [1], []]
    assert [cut_points(packed, row, vocabulary()).tolist() for row in range(6)] == expected


def test_every_cut_is_drawn(tmp_path):
    packed = corpus(tmp_path, [[[5], [6], [9]]])
    lengths = set()
    for seed in range(40):
        [(first, second)], [label] = make_pairs(packed, [0], generator(seed), "sentence_order", vocabulary())
        lengths.add(len(second) if label else len(first))
    assert lengths == {1, 2}


def test_a_corpus_of_one_document_has_no_strangers(tmp_path):
    packed = corpus(tmp_path, [[list(range(5, 45))]])
    assert len(packed) == 4
    _, labels = make_pairs(packed, np.arange(4), generator(0), "next_sentence", vocabulary())
    assert not labels.any()


def test_a_pair_depends_on_the_generator_alone(tmp_path):
    packed = random_corpus(tmp_path, 50)
    rows = np.arange(len(packed))
    one, two, other = (
        make_pairs(packed, rows, generator(*seed), "sentence_order", vocabulary()) for seed in ((1, 2), (1, 2), (1, 3))
    )
    assert (one[1] == two[1]).all()
    assert all((a[0] == b[0]).all() for a, b in zip(one[0], two[0], strict=True))
    assert (one[1] != other[1]).any()
