import pytest
from hypothesis import given
from hypothesis import strategies as st

from compression.augmentation.words import ENGLISH_STOP_WORDS, find_words, match_case, replaceable_words


def texts_of(words):
    return [word.text for word in words]


@given(st.text())
def test_words_are_parts_of_the_text_in_order(text):
    end = 0
    for word in find_words(text):
        assert end <= word.start < word.end
        assert text[word.start : word.end] == word.text
        assert word.text.isalnum()
        end = word.end


@given(st.text())
def test_no_letter_or_digit_is_outside_a_word(text):
    inside = {place for word in find_words(text) for place in range(word.start, word.end)}
    assert {place for place, character in enumerate(text) if character.isalnum()} == inside


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("?!... --- _ _", []),
        ("42 4th b2b 3.14", []),
        ("don't, won't, it's, they'll", []),
        ("THE End", ["End"]),
        ("@user #tag", ["user", "tag"]),
        ("well-made", ["well", "made"]),
        ("snake_case", ["snake", "case"]),
        ("电影很好", ["电", "影", "很", "好"]),
        ("a电影b", ["电", "影", "b"]),
        ("שלום עולם", ["שלום", "עולם"]),
        ("cafe\u0301 bar", ["bar"]),  # a decomposed accent belongs to the letter before it
        ("हिन्दी film", ["film"]),
        ("😀 great 👨‍👩‍👧", ["great"]),
        ("x" * 10_000, ["x" * 10_000]),
    ],
)
def test_what_may_be_replaced(text, expected):
    assert texts_of(replaceable_words(text)) == expected


def test_own_stop_words():
    assert texts_of(replaceable_words("der Film ist gut", {"der", "ist"})) == ["Film", "gut"]
    assert {"the", "not", "don", "t", "because"} <= ENGLISH_STOP_WORDS
    assert {word.lower() for word in ENGLISH_STOP_WORDS} == ENGLISH_STOP_WORDS


@pytest.mark.parametrize(
    ("candidate", "original", "expected"),
    [
        ("film", "movie", "film"),
        ("film", "Movie", "Film"),
        ("film", "MOVIE", "FILM"),
        ("film", "mOvie", "film"),
        ("Paris", "london", "Paris"),
        ("we", "I", "We"),
        ("NASA", "Agency", "NASA"),
        ("straße", "WEG", "STRASSE"),
    ],
)
def test_case(candidate, original, expected):
    assert match_case(candidate, original) == expected
