"""Metrics on weighted rows against scikit-learn and SciPy on the rows spelled out."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from compression.analysis.resampling import METRICS, observed, predicted, resample
from compression.evaluation.metrics import compute

REFERENCE = {
    "accuracy": metrics.accuracy_score,
    "f1": lambda gold, found: metrics.f1_score(gold, found, zero_division=0.0),
    "macro_f1": lambda gold, found: metrics.f1_score(gold, found, average="macro", zero_division=0.0),
    "matthews": metrics.matthews_corrcoef,
    "pearson": lambda gold, found: stats.pearsonr(gold, found)[0],
    "spearman": lambda gold, found: stats.spearmanr(gold, found)[0],
    "multi_label_micro_f1": lambda gold, found: metrics.f1_score(gold, found, average="micro", zero_division=0.0),
    "multi_label_macro_f1": lambda gold, found: metrics.f1_score(gold, found, average="macro", zero_division=0.0),
    "multi_label_exact_match": metrics.accuracy_score,
    "span_f1": lambda gold, found: found[:, 0].mean(),
    "span_exact_match": lambda gold, found: found[:, 1].mean(),
}


def _rows(metric, rng, rows):
    if METRICS[metric].problem == "regression":
        # Rounded, so that ranks are tied.
        gold = rng.integers(0, 6, rows).astype(float)
        return gold, np.round(gold + rng.normal(size=rows), 1)
    if METRICS[metric].problem == "multi_label":
        gold = rng.integers(0, 2, (rows, 3)).astype(float)
        return gold, np.where(rng.random((rows, 3)) < 0.6, gold, 1 - gold)
    if METRICS[metric].problem == "span":
        return np.zeros(rows), np.round(rng.random((rows, 2)), 1)
    classes = 2 if metric == "f1" else int(rng.integers(2, 5))
    gold = rng.integers(0, classes, rows)
    return gold.astype(float), np.where(rng.random(rows) < 0.6, gold, rng.integers(0, classes, rows)).astype(float)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("metric", METRICS)
@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_counted_rows_score_as_repeated_rows(metric, seed):
    rng = np.random.default_rng(seed)
    gold, found = _rows(metric, rng, 30)
    counts = rng.multinomial(30, np.full(30, 1 / 30), size=3)
    scores = METRICS[metric].function(gold, found, counts.astype(float))
    for score, count in zip(scores, counts, strict=True):
        right = REFERENCE[metric](np.repeat(gold, count, axis=0), np.repeat(found, count, axis=0))
        assert score == pytest.approx(0.0 if np.isnan(right) else right, abs=1e-9)


@pytest.mark.parametrize("metric", [name for name, metric in METRICS.items() if metric.problem != "span"])
@given(seed=st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_agrees_with_what_evaluation_records(metric, seed):
    rng = np.random.default_rng(seed)
    gold, found = _rows(metric, rng, 25)
    problem = METRICS[metric].problem
    if problem == "classification":
        logits = np.eye(max(2, int(max(gold.max(), found.max())) + 1))[found.astype(int)]
    else:
        logits = found - 0.5 if problem == "multi_label" else found[:, None]
    name = metric.removeprefix("multi_label_")
    recorded = compute([name], gold, logits, problem)[name]
    assert observed(metric, gold, predicted(metric, logits)) == pytest.approx(recorded, abs=1e-9)


SINGLE = [name for name, metric in METRICS.items() if metric.problem in ("classification", "regression")]


@pytest.mark.parametrize("metric", SINGLE)
def test_a_constant_prediction_has_a_stated_value(metric):
    gold = np.array([0.0, 1, 1, 0, 1])
    # 0.1 is no binary fraction: its mean is off by rounding, which must not pass for a spread.
    constant = np.full(5, 0.1 if METRICS[metric].problem == "regression" else 0.0)
    score = observed(metric, gold, constant)
    assert score == {"accuracy": 0.4, "macro_f1": pytest.approx(2 / 7)}.get(metric, 0.0)
    draws = resample(metric, gold, [constant], samples=50, generator=np.random.default_rng(0))
    assert np.isfinite(draws).all()


def test_rows_of_several_columns_are_drawn_as_a_whole():
    gold = np.array([[0.0, 1], [1, 1], [0, 0], [1, 0]])
    found = np.array([[0.0, 1], [0, 1], [0, 1], [1, 0]])
    names = ["multi_label_exact_match", "multi_label_micro_f1"]
    exact, micro = (
        resample(name, gold, [found, gold], samples=500, generator=np.random.default_rng(3)) for name in names
    )
    assert (micro[:, 0] >= exact[:, 0] - 1e-12).all()  # the same rows were drawn for both
    assert (exact[:, 1] == 1).all()
    assert exact[:, 0].mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "matthews", "spearman"])
def test_resampling_has_the_moments_of_all_resamples(metric):
    gold = np.array([0.0, 1, 1, 0, 2])
    found = np.array([0.0, 1, 0, 2, 2])
    everything = [
        observed(metric, gold[list(rows)], found[list(rows)]) for rows in itertools.product(range(5), repeat=5)
    ]
    draws = resample(metric, gold, [found], samples=40_000, generator=np.random.default_rng(0))[:, 0]
    assert draws.mean() == pytest.approx(np.mean(everything), abs=0.005)
    assert draws.std() == pytest.approx(np.std(everything), abs=0.005)


def test_systems_are_scored_on_the_same_rows():
    gold = np.arange(40) % 2.0
    better, worse = gold.copy(), gold.copy()
    better[:4], worse[:8] = 1 - gold[:4], 1 - gold[:8]
    draws = resample("accuracy", gold, [better, worse], samples=500, generator=np.random.default_rng(0))
    assert (draws[:, 0] >= draws[:, 1]).all()


def test_blocks_do_not_change_what_is_drawn(monkeypatch):
    gold = np.linspace(0, 5, 30)
    found = gold + np.sin(gold)
    whole = resample("pearson", gold, [found], samples=64, generator=np.random.default_rng(5))
    monkeypatch.setattr("compression.analysis.resampling._BLOCK", 30 * 10)
    assert np.array_equal(resample("pearson", gold, [found], samples=64, generator=np.random.default_rng(5)), whole)
