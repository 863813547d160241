import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_models import WORDS, tiny_tokenizer

from compression.control import Control
from compression.data.corpus import Corpus
from compression.data.corpus_config import CorpusConfig
from compression.data.corpus_packing import pack, tokenizer_identity
from compression.data.packed_corpus import PackedWriter, open_packed
from compression.errors import DataError, Interrupted

WORD = st.sampled_from(WORDS[5:])
DOCUMENTS = st.lists(st.lists(st.lists(WORD, min_size=1, max_size=9), min_size=1, max_size=4), min_size=1, max_size=12)


class Documents(Corpus):
    """A corpus in memory."""

    def __init__(self, given, **config):
        super().__init__(CorpusConfig(files="a.txt", **config))
        object.__setattr__(self, "given", given)

    def documents(self):
        return iter(self.given)

    def identity(self):
        return str(self.given)


def packed(corpus, folder, max_length=8, control=None, **options):
    options = {"special_tokens": 2, **options}
    return pack(corpus, tiny_tokenizer(), folder, max_length=max_length, control=control or Control(), **options)


def ids(text: str) -> list[int]:
    return [WORDS.index(word) for word in text.split()]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(DOCUMENTS, st.integers(4, 12), st.booleans())
def test_nothing_is_lost_and_order_is_kept(tmp_path_factory, drawn, max_length, crossed):
    given_documents = [[" ".join(line) for line in document] for document in drawn]
    corpus = Documents(given_documents, validation_fraction=0, cross_documents=crossed)
    train = packed(corpus, tmp_path_factory.mktemp("packed"), max_length).train
    body = max_length - 2
    whole = [ids(" ".join(document)) for document in given_documents]
    assert [token for token in train.tokens.tolist() if token != 3] == [token for text in whole for token in text]
    sequences = [train.sequence(number).tolist() for number in range(len(train))]
    assert [token for sequence in sequences for token in sequence] == train.tokens.tolist()
    assert (train.lengths == [len(sequence) for sequence in sequences]).all()
    assert train.lengths.min() >= 1
    if crossed:
        assert set(train.lengths[:-1]) <= {body}
        assert sequences[-1][-1] == 3
        assert train.tokens.tolist() == [token for text in whole for token in [*text, 3]]
    else:
        expected = [text[start : start + body] for text in whole for start in range(0, len(text), body)]
        assert sequences == expected
        numbers = [number for number, text in enumerate(whole) for _ in range(0, len(text), body)]
        assert train.documents.tolist() == numbers
    assert train.counts.tolist() == np.bincount(train.tokens, minlength=len(WORDS)).tolist()


def test_breaks_are_where_paragraphs_end(tmp_path):
    corpus = Documents([["good film", "bad", "the film was bad"], ["so"]], validation_fraction=0, cross_documents=False)
    train = packed(corpus, tmp_path, max_length=6).train
    assert [train.sequence(number).tolist() for number in range(3)] == [
        ids("good film bad the"),
        ids("film was bad"),
        ids("so"),
    ]
    assert [train.breaks_within(number).tolist() for number in range(3)] == [[2, 3], [], []]


@pytest.mark.parametrize("crossed", [True, False])
@pytest.mark.parametrize("limit", [1, 5, 6, 11, 12])
def test_the_limit_is_exact_and_told(tmp_path, limit, crossed):
    given_documents = [["good film was", "bad"], ["the film"], ["so very bad film was good"]]  # 12 word pieces
    corpus = Documents(given_documents, validation_fraction=0, limit_tokens=limit, cross_documents=crossed)
    splits = packed(corpus, tmp_path)
    whole = ids(" ".join(" ".join(document) for document in given_documents))
    assert [token for token in splits.train.tokens.tolist() if token != 3] == whole[:limit]
    assert splits.summary() == {
        "tokens": limit,
        "sequences": len(splits.train),
        "limited": limit < 12,
        "validation_tokens": 0,
    }


def test_held_out_documents_are_never_trained_on(tmp_path):
    texts = [" ".join(words) for words in np.random.default_rng(0).choice(WORDS[5:], (300, 5))]
    corpus = Documents([[text] for text in texts] * 2, validation_fraction=0.2, cross_documents=False)
    splits = packed(corpus, tmp_path)
    rows = {part: {tuple(split.sequence(row)) for row in range(len(split))}
            for part, split in (("train", splits.train), ("validation", splits.validation))}  # fmt: skip
    assert not rows["train"] & rows["validation"]
    assert rows["train"] | rows["validation"] == {tuple(ids(text)) for text in texts}
    assert 0.1 < len(rows["validation"]) / len(rows["train"]) < 0.4
    other = packed(
        Documents(corpus.given, validation_fraction=0.2, cross_documents=False, split_seed=1), tmp_path / "b"
    )
    assert other.validation.digest != splits.validation.digest


def test_the_held_out_part_has_a_limit_of_its_own(tmp_path):
    corpus = Documents(
        [[f"good film {word}"] for word in WORDS[5:]] * 20, validation_fraction=0.5, limit_validation_tokens=7
    )
    assert packed(corpus, tmp_path).validation.text_tokens == 7


def test_empty_and_small_corpora(tmp_path):
    with pytest.raises(DataError, match="holds no text"):
        packed(Documents([]), tmp_path)
    with pytest.raises(DataError, match=r"of 2 documents none was held out.*validation_fraction \(now 0.01"):
        packed(Documents([["good film"], ["bad film"]]), tmp_path)


def test_a_finished_corpus_is_opened_again_and_another_one_is_not(tmp_path, monkeypatch):
    corpus = Documents([["good film", "bad"]] * 30, validation_fraction=0)
    first = packed(corpus, tmp_path).train
    reads = []
    monkeypatch.setattr(Documents, "documents", lambda self: reads.append(1) or iter(self.given))
    assert packed(corpus, tmp_path).train.digest == first.digest
    assert not reads
    packed(corpus, tmp_path, max_length=9)
    packed(Documents([["good film", "so"]] * 30, validation_fraction=0), tmp_path, max_length=9)
    packed(Documents([["good film", "so"]] * 30, validation_fraction=0, cross_documents=False), tmp_path, max_length=9)
    assert len(reads) == 3


def test_an_interrupted_packing_begins_anew(tmp_path, monkeypatch):
    monkeypatch.setattr("compression.data.corpus_packing._DOCUMENTS_A_PART", 20)
    corpus = Documents([[f"good film was {word}"] for word in WORDS[5:]] * 9, validation_fraction=0.3)
    with pytest.raises(Interrupted):
        packed(corpus, tmp_path, control=Control(should_stop=iter([False, True]).__next__))
    assert open_packed(tmp_path / "train") is None
    assert packed(corpus, tmp_path).train.digest == packed(corpus, tmp_path / "undisturbed").train.digest


@pytest.mark.parametrize(("size", "dtype"), [(2**16, np.uint16), (2**16 + 1, np.uint32)])
def test_word_pieces_take_as_few_bytes_as_they_need(tmp_path, size, dtype):
    writer = PackedWriter(tmp_path, vocabulary_size=size, body_length=4, separator=None, limit=None)
    writer.add([np.array([1, size - 1])])
    train = writer.finish("owner")
    assert train.tokens.dtype == dtype
    assert train.sequence(0).tolist() == [1, size - 1]


def test_worker_processes_open_the_files_themselves(tmp_path):
    train = packed(Documents([["good film", "bad"]] * 500, validation_fraction=0), tmp_path).train
    sent = pickle.dumps(train)
    assert len(sent) < 1000
    assert pickle.loads(sent).digest == train.digest  # noqa: S301  # what this test made


def test_memory_does_not_grow_with_the_corpus(tmp_path):
    def peak(count: int, folder: Path) -> int:
        writer = PackedWriter(folder, vocabulary_size=1000, body_length=100, separator=3, limit=None)
        document = [np.arange(5, 905)] * 10
        tracemalloc.start()
        for _ in range(count):
            writer.add(document)
        packed_corpus = writer.finish("owner")
        assert len(packed_corpus.sequence(len(packed_corpus) - 1))
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert packed_corpus.tokens.nbytes > count * 18_000
        return highest

    few, many = peak(10, tmp_path / "few"), peak(300, tmp_path / "many")
    assert many - few < 300 * 18_000 / 4  # bounds and numbers of documents alone


def test_a_tokenizer_is_recognised_whatever_its_last_call_left_behind():
    tokenizer = tiny_tokenizer()
    before = tokenizer_identity(tokenizer)
    tokenizer(["good film"], padding="max_length", max_length=7, truncation=True)
    assert tokenizer_identity(tokenizer) == before
    tokenizer.add_tokens(["new"])
    assert tokenizer_identity(tokenizer) != before
