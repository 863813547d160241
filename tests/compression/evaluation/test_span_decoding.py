"""Decoding against a search through every span of every window."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import tiny_tokenizer

from compression.data.config import SpanConfig
from compression.data.span_encoding import NOWHERE, encode_spans
from compression.evaluation.span_decoding import decode_spans
from compression.training.span_logits import SpanLogits

CONTEXTS = ["good bad fine poor great", "the film was a very good so the film was fine", ""]


def encoded(max_length=12, stride=2):
    labels = [np.array([-1, -1])] * len(CONTEXTS)
    rows = pd.DataFrame({"text": ["good", "bad film", "was"], "text_pair": CONTEXTS, "label": labels})
    return encode_spans(rows, tiny_tokenizer(), max_length, SpanConfig(stride=stride))


def random_logits(features, seed):
    logits = SpanLogits.empty(features.encoded.lengths)
    logits.values[:] = np.random.default_rng(seed).normal(size=logits.values.shape)
    return logits


def every_span(features, logits, row, longest):
    """Text -> best score, by trying everything."""
    found = {}
    for window in np.flatnonzero(features.rows == row):
        places, scores = features.offsets[window], logits.window(window).astype(float)
        for start in range(len(places)):
            for end in range(start, min(start + longest, len(places))):
                if NOWHERE not in (places[start, 0], places[end, 0]):
                    text = CONTEXTS[row][places[start, 0] : places[end, 1]]
                    found[text] = max(found.get(text, -np.inf), scores[start, 0] + scores[end, 1])
    return found


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6))
def test_with_enough_candidates_it_is_exhaustive(seed, longest):
    features = encoded()
    logits = random_logits(features, seed)
    decoded = decode_spans(features, logits, CONTEXTS, SpanConfig(max_answer_length=longest, n_best=200))
    assert len(decoded) == 3
    for row, answer in enumerate(decoded):
        expected = every_span(features, logits, row, longest)
        assert {candidate.text: candidate.score for candidate in answer.candidates} == pytest.approx(expected)
        scores = [candidate.score for candidate in answer.candidates]
        assert scores == sorted(scores, reverse=True)
        nulls = [logits.window(window)[0].astype(float).sum() for window in np.flatnonzero(features.rows == row)]
        assert answer.null_score == pytest.approx(min(nulls))


def test_the_best_answers_come_first_and_no_more_than_asked_for():
    features = encoded(max_length=24)
    logits = random_logits(features, 5)
    all_of_them = decode_spans(features, logits, CONTEXTS, SpanConfig(n_best=200))
    few = decode_spans(features, logits, CONTEXTS, SpanConfig(n_best=3))
    for many, some in zip(all_of_them, few, strict=True):
        assert some.candidates == many.candidates[: len(some.candidates)]
        assert len(some.candidates) == min(3, len(many.candidates))
        assert some.text == many.text


def test_a_context_without_words_has_no_answer():
    features = encoded()
    empty = decode_spans(features, random_logits(features, 1), CONTEXTS, SpanConfig())[2]
    assert (empty.text, empty.candidates, empty.null_odds) == ("", (), np.inf)


def test_odds_compare_no_answer_with_the_best_one():
    features = encoded(max_length=24)
    logits = SpanLogits.empty(features.encoded.lengths)
    logits.window(0)[0] = [1.0, 2.0]  # no answer
    logits.window(0)[4] = [3.0, 0.0]
    logits.window(0)[5] = [0.0, 0.5]
    answer = decode_spans(features, logits, CONTEXTS, SpanConfig())[0]
    assert (answer.text, answer.candidates[0].score, answer.null_odds) == ("bad fine", 3.5, -0.5)
