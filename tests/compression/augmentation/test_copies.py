from collections import Counter
from functools import cache

import literal_algorithm
import numpy as np
import pytest
import tiny_masked_lm
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import binom, chi2_contingency, chisquare

from compression.augmentation import candidates
from compression.augmentation.candidates import CandidateTable, Slot
from compression.augmentation.config import AugmentConfig
from compression.augmentation.copies import draws, edit_words, replace_words
from compression.augmentation.masked_words import MaskedWordModel
from compression.augmentation.words import ENGLISH_STOP_WORDS, find_words, match_case
from compression.control import Control
from compression.errors import Interrupted
from compression.runtime import Runtime

TEXT = "the good film was slowly darkish and loudly xyz so sad"


@cache
def masked_words(masked_input):
    model, tokenizer = tiny_masked_lm.masked_lm(), tiny_masked_lm.tokenizer()
    return MaskedWordModel(model, tokenizer, masked_input=masked_input, runtime=Runtime())


def table(tmp_path, texts, method="glove+mlm", control=None, **changes):
    config = AugmentConfig(method=method, **{"candidates": 4, **changes})
    return CandidateTable(
        texts,
        config,
        masked=masked_words(config.masked_input) if config.uses_masked_lm else None,
        vectors=tiny_masked_lm.vectors() if config.uses_vectors else None,
        folder=tmp_path,
        control=control or Control(),
    )


@pytest.mark.parametrize("two_copies", [False, True])
def test_candidates_are_those_of_the_literal_algorithm(tmp_path, two_copies):
    texts = [TEXT, "calm music is not sadly dark", "word3 word7 film", "was the"]
    found = table(tmp_path, texts, masked_input="two-copies" if two_copies else "sentence")
    for text in texts:
        expected = literal_algorithm.candidates(
            text,
            tiny_masked_lm.masked_lm(),
            tiny_masked_lm.tokenizer(),
            tiny_masked_lm.vectors(),
            4,
            ENGLISH_STOP_WORDS,
            two_copies=two_copies,
        )
        places = {word.start: place for place, word in enumerate(find_words(text))}
        slots = {places[slot.word.start]: set(slot.candidates) for slot in found.slots(text)}
        assert slots == {place: set(words) for place, words in expected.items()}
    assert len(found.slots(TEXT)) == 6, (
        "of one piece: good film sad; by vectors: slowly darkish loudly; xyz has neither"
    )


def test_replacements_have_the_distribution_of_the_literal_algorithm(tmp_path):
    slots = table(tmp_path, [TEXT]).slots(TEXT)
    places = {word.start: place for place, word in enumerate(find_words(TEXT))}
    found = {places[slot.word.start]: list(slot.candidates) for slot in slots}
    copies = 4000
    literal = literal_algorithm.algorithm_1(TEXT, found, copies, 0.4, seed=0)
    # One draw at a time, as equal copies of one text are dropped.
    ours = []
    for number in range(copies):
        made = replace_words(TEXT, slots, 1, 0.4, draws(0, number, 0))
        ours.append(literal_algorithm.words_of(made[0].text if made else TEXT))
    for place, chosen in found.items():
        original = literal_algorithm.words_of(TEXT)[place]
        outcomes = sorted({original, *chosen})
        counted = [Counter(words[place] for words in made) for made in (literal, ours)]
        assert set(counted[1]) <= set(outcomes)
        pvalue = chi2_contingency([[counts[outcome] for outcome in outcomes] for counts in counted]).pvalue
        assert pvalue > 1e-3
        # And against what the algorithm says: 1 - p_t stays, p_t / K for each candidate.
        expected = np.array([0.6 * (outcome == original) + 0.4 * chosen.count(outcome) / 4 for outcome in outcomes])
        assert chisquare([counted[1][outcome] for outcome in outcomes], copies * expected).pvalue > 1e-3


def test_words_are_replaced_independently(tmp_path):
    slots = table(tmp_path, [TEXT], exclude_original=True).slots(TEXT)
    changed = Counter(
        sum(copy.changed for copy in replace_words(TEXT, slots, 1, 0.4, draws(1, number, 0))) for number in range(4000)
    )
    expected = 4000 * binom.pmf(range(7), 6, 0.4)
    assert chisquare([changed[number] for number in range(7)], expected).pvalue > 1e-3


def test_copies_of_one_text_are_independent_draws():
    slots = [Slot(word, ["x", "y"]) for word in find_words("a b c d e f g h")]
    made = replace_words("a b c d e f g h", slots, 200, 0.5, draws(0, 0, 0))
    assert len(made) > 190
    assert len({copy.text for copy in made}) == len(made)


@pytest.mark.parametrize(("probability", "copies"), [(0.0, 20), (0.4, 0)])
def test_no_replacement_leaves_no_copy(tmp_path, probability, copies):
    assert replace_words(TEXT, table(tmp_path, [TEXT]).slots(TEXT), copies, probability, draws(0, 0, 0)) == []


def test_probability_1_replaces_every_word_with_candidates(tmp_path):
    slots = table(tmp_path, [TEXT], exclude_original=True).slots(TEXT)
    for copy in replace_words(TEXT, slots, 30, 1.0, draws(0, 0, 0)):
        assert copy.changed == len(slots) == 6
        words = {word.start: word for word in find_words(TEXT)}
        for slot, new in zip(
            slots, [at for at in aligned(TEXT, copy.text) if at[0].start in starts(slots)], strict=True
        ):
            assert new[1] in slot.candidates
            assert new[1] != words[slot.word.start].text


def starts(slots):
    return {slot.word.start for slot in slots}


def aligned(text, copy):
    return list(zip(find_words(text), [word.text for word in find_words(copy)], strict=True))


WORD = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        [
            "good",
            "Film",
            "SLOWLY",
            "the",
            "xyz",
            "😀",
            "👨‍👩‍👧",
            "שלום",
            "مرحبا",
            "电影",
            "e\u0301a",
            "don't",
            "[MASK]",
            "##s",
            "\u200f",
            "\x00",
            "3.14",
            "a@b.c",
        ]
    ),
)


@settings(max_examples=80, deadline=None)
@given(st.lists(WORD, max_size=12).map(" ".join), st.floats(0, 1), st.integers(0, 2**32 - 1))
@example("", 1.0, 0)
@example("?!... --- \t\n", 1.0, 0)
@example("x" * 10_000 + " good", 1.0, 0)
@example("good film " * 300, 0.5, 0)
@example("😀" * 50, 1.0, 0)
def test_odd_text(tmp_path_factory, text, probability, seed):
    folder = tmp_path_factory.mktemp("table")
    slots = table(folder, [text]).slots(text)
    copies = replace_words(text, slots, 5, probability, draws(seed, 0, 0))
    assert len({copy.text for copy in copies} | {text}) == len(copies) + 1, "different, and none is the original"
    outside = [
        text[a:b]
        for a, b in zip([0, *(s.word.end for s in slots)], [*(s.word.start for s in slots), len(text)], strict=True)
    ]
    for copy in copies:
        # What is not a slot is as it was, and what is one holds a candidate or what was there.
        rest = copy.text
        for before, slot in zip(outside, slots, strict=False):
            assert rest.startswith(before)
            rest = rest.removeprefix(before)
            allowed = {slot.word.text, *(match_case(word, slot.word.text) for word in slot.candidates)}
            options = [word for word in allowed if rest.startswith(word)]
            assert options
            rest = rest.removeprefix(max(options, key=len))
        assert copy.text.endswith(outside[-1])


def test_draws_do_not_depend_on_each_other():
    one = draws(0, 5, 0)(100)
    np.testing.assert_array_equal(one, draws(0, 5, 0)(100))
    for other in (draws(1, 5, 0), draws(0, 6, 0), draws(0, 5, 1)):
        assert (one != other(100)).all()
    split = draws(0, 5, 0)
    np.testing.assert_array_equal(one, np.concatenate([split(30), split(70)]))


def test_candidates_go_on_after_the_last_whole_block(tmp_path, monkeypatch):
    monkeypatch.setattr(candidates, "_TEXTS_A_BLOCK", 2)
    texts = [f"{word} film was slowly" for word in ("good", "bad", "sad", "calm", "loud")]
    expected = {text: table(tmp_path / "whole", texts).slots(text) for text in texts}
    looks = iter(range(1000))
    with pytest.raises(Interrupted):
        table(tmp_path / "part", texts, control=Control(should_stop=lambda: next(looks) == 2))
    blocks = sorted(path.name for path in (tmp_path / "part").rglob("*.npz"))
    assert blocks == ["masked-lm-00000.npz", "masked-lm-00001.npz"]
    (damaged,) = (tmp_path / "part").rglob("masked-lm-00001.npz")
    damaged.write_bytes(damaged.read_bytes()[:100])
    asked = []
    read = MaskedWordModel.read
    monkeypatch.setattr(
        MaskedWordModel, "read", lambda self, texts, stop: asked.append(len(texts)) or read(self, texts, stop)
    )
    resumed = table(tmp_path / "part", texts)
    assert asked == [2, 1], "the damaged block and the missing one"
    assert {text: resumed.slots(text) for text in texts} == expected


@pytest.mark.parametrize("method", ["mlm", "glove"])
def test_one_source_alone(tmp_path, method):
    slots = table(tmp_path, [TEXT], method).slots(TEXT)
    words = [slot.word.text for slot in slots]
    assert words == (
        ["good", "film", "sad"] if method == "mlm" else ["good", "film", "slowly", "darkish", "loudly", "sad"]
    )


def test_words_without_vector_are_counted(tmp_path):
    assert table(tmp_path, [TEXT, "Xyz qq good"]).without_vector == 2


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(["good", "bad", "film!", "the", "😀"]), max_size=12).map(" ".join), st.integers(0, 1000)
)
def test_random_edits(text, seed):
    words = text.split()
    for copy in edit_words(text, 6, 0.3, draws(seed, 0, 0)):
        new = copy.text.split()
        assert copy.text != text
        assert copy.changed > 0
        swapped, deleted = (
            Counter(new) == Counter(words),
            not Counter(new) - Counter(words) and 0 < len(new) < len(words),
        )
        assert swapped or deleted


def test_random_edits_change_the_share_that_is_asked_for():
    text = " ".join(f"w{number}" for number in range(40))
    made = edit_words(text, 400, 0.1, draws(0, 0, 0))
    lengths = [len(copy.text.split()) for copy in made]
    deleted = [40 - length for length in lengths if length < 40]
    assert 3.2 < np.mean(deleted) / (1 - 0.9**40) < 4.8
    swaps = [copy.changed for copy in made if len(copy.text.split()) == 40]
    assert max(swaps) <= 8, "four swaps move at most eight words"
    assert np.mean(swaps) > 6
