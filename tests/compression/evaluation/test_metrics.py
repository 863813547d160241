"""Metrics against their textbook formulas, computed here with NumPy alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from compression.data.glue import GLUE_TASKS
from compression.errors import UserError
from compression.evaluation.metrics import METRICS, compute, correct


def one_hot(classes, number):
    return np.eye(number)[np.asarray(classes)]


@st.composite
def answers(draw, classes):
    rows = draw(st.integers(1, 40))
    labels = st.integers(0, classes - 1)
    gold = np.array(draw(st.lists(labels, min_size=rows, max_size=rows)))
    return gold, np.array(draw(st.lists(labels, min_size=rows, max_size=rows)))


def counts(gold, predicted, label):
    return (
        np.sum((gold == label) & (predicted == label)),
        np.sum((gold != label) & (predicted == label)),
        np.sum((gold == label) & (predicted != label)),
        np.sum((gold != label) & (predicted != label)),
    )


def f1_formula(gold, predicted, label):
    true_positive, false_positive, false_negative, _ = counts(gold, predicted, label)
    denominator = 2 * true_positive + false_positive + false_negative
    return 2 * true_positive / denominator if denominator else 0.0


@settings(deadline=None)  # the first call imports scikit-learn
@given(answers(2))
def test_binary_metrics_match_their_formulas(case):
    gold, predicted = case
    found = compute(["accuracy", "f1", "matthews"], gold, one_hot(predicted, 2), "classification")
    tp, fp, fn, tn = counts(gold, predicted, 1)
    assert found["accuracy"] == pytest.approx((tp + tn) / len(gold))
    assert found["f1"] == pytest.approx(f1_formula(gold, predicted, 1))
    denominator = float((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)) ** 0.5
    assert found["matthews"] == pytest.approx((tp * tn - fp * fn) / denominator if denominator else 0.0)


@settings(deadline=None)  # the first call imports scikit-learn
@given(answers(4))
def test_macro_f1_is_the_mean_over_the_classes_that_occur(case):
    gold, predicted = case
    found = compute(["macro_f1"], gold, one_hot(predicted, 4), "classification")
    expected = np.mean([f1_formula(gold, predicted, label) for label in set(gold) | set(predicted)])
    assert found["macro_f1"] == pytest.approx(expected)


def test_correlations_match_their_formulas():
    random = np.random.default_rng(0)
    gold = random.normal(size=200)
    output = (gold + random.normal(size=200)).astype(np.float32)
    found = compute(["pearson", "spearman"], gold, output[:, None], "regression")
    assert found["pearson"] == pytest.approx(np.corrcoef(gold, output)[0, 1])
    ranks = [np.argsort(np.argsort(values)) for values in (gold, output)]
    assert found["spearman"] == pytest.approx(np.corrcoef(*ranks)[0, 1])


def test_spearman_gives_ties_their_mean_rank():
    found = compute(["spearman"], np.array([1.0, 2, 2, 3]), np.array([1.0, 2, 3, 4]), "regression")
    assert found["spearman"] == pytest.approx(np.corrcoef([1, 2.5, 2.5, 4], [1, 2, 3, 4])[0, 1])


@settings(deadline=None)
@given(st.data())
def test_regression_metrics_are_finite_whatever_the_model_says(data):
    values = st.floats(-(2.0**100), 2.0**100, width=32)
    rows = data.draw(st.integers(1, 20))
    gold, output = (data.draw(hnp.arrays(np.float32, rows, elements=values)) for _ in range(2))
    for value in compute(["pearson", "spearman"], gold, output, "regression").values():
        assert -1 - 1e-9 <= value <= 1 + 1e-9


@pytest.mark.parametrize("constant", [0, 1])
def test_constant_predictions_score_zero_not_nan(constant):
    gold = np.array([0, 1, 1, 0])
    found = compute(["f1", "matthews"], gold, one_hot([constant] * 4, 2), "classification")
    assert found["matthews"] == 0.0
    assert found["f1"] == (0.0 if constant == 0 else pytest.approx(2 / 3))
    assert compute(["pearson", "spearman"], gold, np.full(4, 0.3), "regression") == {"pearson": 0.0, "spearman": 0.0}


def test_correct_tells_rows_apart_and_averages_to_accuracy():
    random = np.random.default_rng(1)
    gold, logits = random.integers(0, 3, 50), random.normal(size=(50, 3))
    right = correct(gold, logits)
    assert right.dtype == bool
    assert right.mean() == pytest.approx(compute(["accuracy"], gold, logits, "classification")["accuracy"])


def test_every_glue_metric_is_known_and_fits_its_task():
    for task in GLUE_TASKS.values():
        for name in task.metrics:
            assert METRICS[name].problems[0] == ("classification" if task.labels else "regression")


@pytest.mark.parametrize(
    ("names", "logits", "problem", "said"),
    [
        (["acuracy"], np.zeros((2, 2)), "classification", "unknown metric 'acuracy'; allowed: accuracy"),
        (["pearson"], np.zeros((2, 2)), "classification", "not defined for classification; allowed: accuracy, f1"),
        (["f1"], np.zeros((2, 3)), "classification", "defined for 2 classes, not 3"),
        (["accuracy"], np.zeros((3, 2)), "classification", "do not fit"),
        (["pearson"], np.zeros((2, 2)), "regression", "cannot have 2 output"),
        (["accuracy"], np.array([[0.0, np.nan], [0, 1]]), "classification", "1 of 2 model outputs are not finite"),
    ],
)
def test_what_cannot_be_scored_is_refused_with_the_reason(names, logits, problem, said):
    with pytest.raises(UserError, match=said):
        compute(names, np.array([0, 1]), logits, problem)


def test_no_rows_are_refused():
    with pytest.raises(UserError, match="no rows"):
        compute(["accuracy"], np.array([]), np.zeros((0, 2)), "classification")
