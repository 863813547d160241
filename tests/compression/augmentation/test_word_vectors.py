import json

import numpy as np
import pandas
import pytest

from compression.augmentation.vectors import load_vectors
from compression.errors import DataError


def load(folder, text, **changes):
    path = folder / "vectors.txt"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_vectors(path, None, changes.get("limit"), folder / "converted")


@pytest.mark.parametrize(
    "text", ["a 1 2\nb -3 4e-1\n", "2 2\na 1 2\nb -3 4e-1", "a 1 2 \nb -3 4e-1 \n\n", "a 1 2\r\nb -3 0.4\r\n"]
)
def test_text_of_every_kind(tmp_path, text):
    vectors = load(tmp_path, text)
    assert list(vectors.words) == ["a", "b"]
    np.testing.assert_array_equal(np.asarray(vectors.matrix), np.array([[1, 2], [-3, 0.4]], np.float32))
    assert isinstance(vectors.matrix, np.memmap)
    assert vectors.duplicates == 0


def test_words_with_spaces_quotes_and_odd_letters(tmp_path):
    vectors = load(tmp_path, 'plain 1 2\n. . . 3 4\nat name@domain.com 5 6\n" 7 8\nnull 9 10\nétoile\u00a0x 11 12\n')
    assert list(vectors.words) == ["plain", ". . .", "at name@domain.com", '"', "null", "étoile\u00a0x"]
    np.testing.assert_array_equal(vectors.matrix[:, 1], [2, 4, 6, 8, 10, 12])


def test_words_that_stand_twice_count_once(tmp_path):
    vectors = load(tmp_path, "a 1 2\nb 3 4\na 5 6\nc 7 8\nb 9 9\n")
    assert list(vectors.words) == ["a", "b", "c"]
    assert vectors.duplicates == 2
    np.testing.assert_array_equal(vectors.matrix, [[1, 2], [3, 4], [7, 8]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a 1 2\nb 3\n", "line 2: 1 numbers after a word, where the first line has 2"),
        ("a 1 2\nb 3 4 5\n", "line 2: 3 numbers after a word, where the first line has 2"),
        ("a 1 2\nb c 3 4\nd 1 x\n", "line 3: 'x' is not a number"),
        ("2 2\na 1 2\nb 3 nan\n", "line 3: a number is not finite"),
        ("a 1 2\nb 3 inf\n", "line 2: a number is not finite"),
        ("a 1 2\n\nb 3 4\n", "line 2: 0 numbers"),
        (b"a 1 2\n\xff\xfe 3 4\n", "line 2: the word is not UTF-8"),
        ("", "line 1: a word and its numbers"),
        ("word\n", "line 1: a word and its numbers"),
        ("2 2\n", "there is no word in it"),
    ],
)
def test_malformed_lines_are_named(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        load(tmp_path, text)
    assert not list((tmp_path / "converted").glob("*")), "nothing half-made is left behind"


def test_a_malformed_line_far_down(tmp_path):
    lines = [f"w{number} {number} 1" for number in range(20_000)]
    lines[17_000] = "w17000 1"
    with pytest.raises(DataError, match="line 17001: 1 numbers"):
        load(tmp_path, "\n".join(lines))


def test_text_is_read_once(tmp_path):
    first = load(tmp_path, "a 1 2\nb 3 4\n")
    (tmp_path / "vectors.txt").unlink()
    again = load_vectors(tmp_path / "vectors.txt", None, None, tmp_path / "converted")
    assert list(again.words) == list(first.words)
    np.testing.assert_array_equal(again.matrix, first.matrix)


def test_the_first_words_alone(tmp_path):
    vectors = load(tmp_path, "a 1 2\nb 3 4\nc 5 6\n", limit=2)
    assert list(vectors.words) == ["a", "b"]
    assert vectors.matrix.shape == (2, 2)
    assert vectors.row("c") is None


def test_case_of_a_word(tmp_path):
    vectors = load(tmp_path, "May 1 2\nmay 3 4\nparis 5 6\n")
    assert [vectors.row(word) for word in ("May", "may", "MAY", "Paris", "absent")] == [0, 1, 1, 2, None]


@pytest.mark.parametrize("ending", ["txt", "json", "parquet"])
def test_an_array_with_its_vocabulary(tmp_path, ending):
    words, matrix = ["b", "a", "a"], np.arange(6, dtype=np.float32).reshape(3, 2)
    np.save(tmp_path / "v.npy", matrix)
    path = tmp_path / f"words.{ending}"
    if ending == "txt":
        path.write_text("\n".join(words) + "\n")
    elif ending == "json":
        path.write_text(json.dumps(words))
    else:
        pandas.DataFrame({"index": words, "count": [3, 2, 1]}).to_parquet(path)
    vectors = load_vectors(tmp_path / "v.npy", path, None, tmp_path / "converted")
    assert list(vectors.words) == words
    assert vectors.duplicates == 1
    assert vectors.row("a") == 1, "the first counts"
    np.testing.assert_array_equal(vectors.matrix, matrix)


@pytest.mark.parametrize(
    ("words", "matrix", "message"),
    [
        ('["a"]', np.ones((2, 2), np.float32), r"has 1 words, but .* has 2 vectors"),
        ('["a", 2]', np.ones((2, 2), np.float32), "is not a list of words"),
        ('{"a": 1}', np.ones((1, 2), np.float32), "is not a list of words"),
        ("[", np.ones((1, 2), np.float32), "is not JSON"),
        ('["a"]', np.ones((1, 2), np.int64), "is not a .* array of floating-point numbers"),
        ('["a"]', np.ones(1, np.float32), "is not a .* array of floating-point numbers"),
        ('["a"]', np.array([["x"]], dtype=object), "cannot be read as a NumPy array"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path, words, matrix, message):
    np.save(tmp_path / "v.npy", matrix, allow_pickle=True)
    (tmp_path / "words.json").write_text(words)
    with pytest.raises(DataError, match=message):
        load_vectors(tmp_path / "v.npy", tmp_path / "words.json", None, tmp_path / "converted")


def test_a_vocabulary_without_one_text_column(tmp_path):
    np.save(tmp_path / "v.npy", np.ones((1, 2), np.float32))
    pandas.DataFrame({"a": ["x"], "b": ["y"]}).to_parquet(tmp_path / "words.parquet")
    with pytest.raises(DataError, match="has 2 text columns, but a vocabulary has one; a, b"):
        load_vectors(tmp_path / "v.npy", tmp_path / "words.parquet", None, tmp_path / "converted")
