"""Exact match and F1 against the two official definitions, written out once more word for word."""

import collections
import re
import string

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compression.errors import UserError
from compression.evaluation.span_metrics import best_threshold, compute_spans, normalized, span_scores

# Words on which normalisation does something, and others.
PARTS = [
    "a",
    "an",
    "the",
    "The",
    "THEATRE",
    "cat",
    "cats",
    "1066",
    ".",
    ",",
    "--",
    "«",
    "é",
    "e\u0301",
    "İ",
    "ß",
    "\xa0",
    "\t",
    " ",
    "$5",
    "U.S.",
    "o'clock",
    "a.",
    "日本",
]
texts = st.lists(st.sampled_from(PARTS), max_size=5).map(" ".join) | st.lists(st.sampled_from(PARTS), max_size=5).map(
    "".join
)


class Official:
    """The definitions of evaluate-v1.1.py and evaluate-v2.0.py, one step a line, with nothing in common with ours."""

    @staticmethod
    def normalize(text):
        text = text.lower()
        text = "".join(character for character in text if character not in set(string.punctuation))
        text = re.sub(re.compile(r"\b(a|an|the)\b", re.UNICODE), " ", text)
        return " ".join(text.split())

    @classmethod
    def f1_v1(cls, prediction, truth):
        left, right = cls.normalize(prediction).split(), cls.normalize(truth).split()
        same = 0
        for word in set(left):
            same += min(left.count(word), right.count(word))
        if same == 0:
            return 0
        precision = 1.0 * same / len(left)
        recall = 1.0 * same / len(right)
        return (2 * precision * recall) / (precision + recall)

    @classmethod
    def v1(cls, prediction, truths):
        exact = max(cls.normalize(prediction) == cls.normalize(truth) for truth in truths)
        return max(cls.f1_v1(prediction, truth) for truth in truths), float(exact)

    @classmethod
    def f1_v2(cls, truth, prediction):
        gold = cls.normalize(truth).split() if truth else []
        given_words = cls.normalize(prediction).split() if prediction else []
        common = collections.Counter(gold) & collections.Counter(given_words)
        same = sum(common.values())
        if len(gold) == 0 or len(given_words) == 0:
            return int(gold == given_words)
        if same == 0:
            return 0
        precision = 1.0 * same / len(given_words)
        recall = 1.0 * same / len(gold)
        return (2 * precision * recall) / (precision + recall)

    @classmethod
    def v2(cls, prediction, truths):
        gold = [truth for truth in truths if cls.normalize(truth)]
        if not gold:
            gold = [""]
        exact = max(int(cls.normalize(truth) == cls.normalize(prediction)) for truth in gold)
        return max(cls.f1_v2(truth, prediction) for truth in gold), float(exact)


@given(st.lists(st.tuples(texts, st.lists(texts, min_size=1, max_size=3)), min_size=1, max_size=5))
def test_version_1(questions):
    predictions, answers = zip(*questions, strict=True)
    expected = [Official.v1(prediction, truths) for prediction, truths in questions]
    np.testing.assert_allclose(span_scores(predictions, answers, unanswerable=False), expected, rtol=1e-12)


@given(st.lists(st.tuples(texts, st.lists(texts, max_size=3)), min_size=1, max_size=5))
def test_version_2(questions):
    predictions, answers = zip(*questions, strict=True)
    expected = [Official.v2(prediction, truths) for prediction, truths in questions]
    np.testing.assert_allclose(span_scores(predictions, answers, unanswerable=True), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("prediction", "answers", "version_1", "version_2"),
    [
        ("The Denver Broncos!", ["Denver Broncos", "Broncos"], (1, 1), (1, 1)),
        ("Broncos of Denver", ["Denver Broncos"], (0.8, 0), (0.8, 0)),
        ("the the Broncos", ["Broncos"], (1, 1), (1, 1)),
        ("Broncos Broncos", ["Broncos"], (2 / 3, 0), (2 / 3, 0)),
        ("24–10", ["2410"], (0, 0), (0, 0)),  # an en dash is no ASCII punctuation
        ("24-10", ["2410"], (1, 1), (1, 1)),
        ("Ångström", ["ångström"], (1, 1), (1, 1)),
        ("theatre", ["atre"], (0, 0), (0, 0)),
        ("", ["Broncos"], (0, 0), (0, 0)),
        ("", [], (0, 0), (1, 1)),
        ("Broncos", [], (0, 0), (0, 0)),
        ("the", ["a"], (0, 1), (1, 1)),  # nothing is left of either
        ("the", ["a", "Broncos"], (0, 1), (0, 0)),
    ],
)
def test_edge_cases(prediction, answers, version_1, version_2):
    for unanswerable, expected in ((False, version_1), (True, version_2)):
        found = span_scores([prediction], [answers], unanswerable=unanswerable)
        assert found[0] == pytest.approx(expected)


def test_the_metrics_of_a_split_are_means():
    scores = span_scores(["1066", "in 1067", ""], [["1066"], ["1067"], ["never"]], unanswerable=False)
    assert compute_spans(scores) == {"f1": pytest.approx((1 + 2 / 3) / 3), "exact_match": pytest.approx(1 / 3)}
    with pytest.raises(UserError, match="no questions"):
        compute_spans(np.empty((0, 2)))
    with pytest.raises(ValueError, match="zip"):
        span_scores(["a"], [], unanswerable=False)


@given(
    st.lists(st.tuples(st.integers(-3, 3), st.sampled_from([0.0, 0.4, 1.0]), st.booleans()), min_size=1, max_size=12)
)
def test_no_threshold_scores_better(questions):
    odds = np.array([odd for odd, _, _ in questions], float)
    answered = np.array([0.0 if silent else score for _, score, silent in questions])
    empty = np.array([float(silent) for _, _, silent in questions])

    def total(threshold):
        return np.where(odds > threshold, empty, answered).sum()

    found = best_threshold(odds, answered, empty)
    assert total(found) == pytest.approx(max(total(threshold) for threshold in [-np.inf, *odds]))
    assert found == -np.inf or found in odds


def test_a_threshold_is_finite_or_silences_all():
    odds, answered, empty = np.array([np.inf, -1.0]), np.array([0.0, 1.0]), np.array([0.0, 0.0])
    assert best_threshold(odds, answered, empty) == -1.0
    assert best_threshold(odds, answered, np.ones(2)) == -np.inf


def test_normalisation_is_idempotent():
    for text in PARTS:
        assert normalized(normalized(text)) == normalized(text)
