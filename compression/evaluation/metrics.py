"""Task metrics, in natural units: accuracy and F1 lie in 0..1, correlations in -1..1. Higher is better for all of them.

Every metric is a finite number: 0.0 where its formula divides 0 by 0, as for a model that says the same on every row.
Those of spans, which compare texts, are in `span_metrics`.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from compression.errors import UserError
from compression.problems import Problem

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Metric:
    """One metric: what it is called in a table, where it applies, and how it is computed.

    Attributes:
        title: name in table headings.
        problems: the problems it is defined for.
        score: gold values and predictions, both of shape (rows,) or, of several labels, (rows, labels), to one number.
        classes: number of classes it is defined for; None is any.
    """

    title: str
    problems: tuple[Problem, ...]
    score: Callable[[Array, Array], float]
    classes: int | None = None


def compute(names: Sequence[str], gold: Array, logits: Array, problem: Problem) -> dict[str, float]:
    """Score a model's outputs on one split.

    Args:
        names: metric names, keys of `METRICS`.
        gold: class indices, or values of a regression, (rows,); of several labels 0 or 1 each, (rows, labels).
        logits: the model's outputs; shape (rows, classes), or (rows, 1) or (rows,) for a regression.
        problem: what the outputs mean. The largest logit is the class; of several labels, those above 0 are predicted.

    Returns:
        Name -> value in natural units, in the order of `names`; always finite.

    Raises:
        UserError: an unknown metric, one that is not defined for the problem, no rows, shapes that do not fit, or
            outputs that are not finite (a diverged model).

    Example:
        >>> logits = np.array([[0.1, 0.9], [0.8, 0.2], [0.6, 0.4]])
        >>> compute(["accuracy", "f1"], np.array([1, 0, 1]), logits, "classification")
        {'accuracy': 0.6666666666666666, 'f1': 0.6666666666666666}
    """
    gold, logits = _checked(gold, logits, problem)
    for name in names:
        _check_defined(name, problem, logits)
    predicted = predictions(logits, problem)
    with warnings.catch_warnings():
        # scikit-learn and SciPy warn of a single class and of nearly constant values; what is returned is stated above.
        warnings.simplefilter("ignore")
        return {name: METRICS[name].score(gold, predicted) for name in names}


def predictions(logits: Array, problem: Problem) -> Array:
    """What a model says, from its outputs.

    Args:
        logits: (rows, outputs).
        problem: what the outputs mean.

    Returns:
        (rows,) index of the largest logit, the first of equal ones; (rows,) the output of a regression; (rows, labels)
        0 or 1 of several labels, 1 where the probability exceeds one half.

    Example:
        >>> predictions(np.array([[0.1, 0.9], [-0.8, 0.2]]), "multi_label").tolist()
        [[1, 1], [0, 1]]
    """
    if problem == "multi_label":
        return (logits > 0).astype(np.int64)
    return cast("Array", logits.argmax(axis=1) if problem == "classification" else logits[:, 0])


def correct(gold: Array, logits: Array) -> npt.NDArray[np.bool_]:
    """Tell which rows a classifier got right: what paired tests compare.

    Args:
        gold: class indices; shape (rows,).
        logits: class scores; shape (rows, classes). The first of equal scores wins.

    Returns:
        One boolean a row.

    Example:
        >>> correct(np.array([0, 1]), np.array([[2.0, 1.0], [2.0, 1.0]])).tolist()
        [True, False]
    """
    gold, logits = _checked(gold, logits, "classification")
    return cast("npt.NDArray[np.bool_]", logits.argmax(axis=1) == gold)


def _checked(gold: Array, logits: Array, problem: Problem) -> tuple[Array, Array]:
    gold = np.asarray(gold)
    # fp64, so that a correlation of fp32 outputs does not lose digits.
    logits = np.asarray(logits, dtype=np.float64)
    if logits.ndim == 1:
        logits = logits[:, None]
    if not len(gold):
        raise UserError("there are no rows to score")
    expected = logits.shape if problem == "multi_label" else logits.shape[:1]
    if gold.shape != expected or logits.ndim != 2:
        raise UserError(f"{gold.shape} gold values do not fit model outputs of shape {logits.shape}")
    if problem != "multi_label" and (problem == "regression") != (logits.shape[1] == 1):
        raise UserError(f"a {problem} model cannot have {logits.shape[1]} output(s) a row")
    if not np.isfinite(logits).all():
        bad = int((~np.isfinite(logits)).any(axis=1).sum())
        raise UserError(
            f"{bad} of {len(logits)} model outputs are not finite: the model has diverged; lower learning_rate"
        )
    return gold, logits


def _check_defined(name: str, problem: Problem, logits: Array) -> None:
    metric = METRICS.get(name)
    if metric is None:
        raise UserError(f"unknown metric {name!r}; allowed: {', '.join(METRICS)}")
    if problem not in metric.problems:
        allowed = ", ".join(key for key, value in METRICS.items() if problem in value.problems) or "none"
        raise UserError(f"metric {name!r} is not defined for {problem}; allowed: {allowed}")
    if metric.classes not in (None, logits.shape[1]):
        raise UserError(
            f"metric {name!r} is defined for {metric.classes} classes, not {logits.shape[1]}; use 'macro_f1' instead"
        )


def _accuracy(gold: Array, predicted: Array) -> float:
    return float((gold == predicted).mean())


def _f1(gold: Array, predicted: Array) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(gold, predicted, pos_label=1, average="binary", zero_division=0.0))


def _macro_f1(gold: Array, predicted: Array) -> float:
    """Mean over the classes that occur in the gold labels or the predictions; of several labels, over all of them."""
    from sklearn.metrics import f1_score

    return float(f1_score(gold, predicted, average="macro", zero_division=0.0))


def _micro_f1(gold: Array, predicted: Array) -> float:
    """F1 of all (row, label) pairs together."""
    from sklearn.metrics import f1_score

    return float(f1_score(gold, predicted, average="micro", zero_division=0.0))


def _exact_match(gold: Array, predicted: Array) -> float:
    """Share of rows of which every label is right."""
    return float((gold == predicted).all(axis=1).mean())


def _matthews(gold: Array, predicted: Array) -> float:
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(gold, predicted))


def _pearson(gold: Array, predicted: Array) -> float:
    from scipy.stats import pearsonr

    return _correlation(pearsonr, gold, predicted)


def _spearman(gold: Array, predicted: Array) -> float:
    from scipy.stats import spearmanr

    return _correlation(spearmanr, gold, predicted)


def _correlation(function: Callable[[Array, Array], Any], gold: Array, predicted: Array) -> float:
    if np.ptp(gold) == 0 or np.ptp(predicted) == 0:
        return 0.0
    value = float(function(np.asarray(gold, dtype=np.float64), predicted)[0])
    return value if np.isfinite(value) else 0.0


METRICS: dict[str, Metric] = {
    "accuracy": Metric("Accuracy", ("classification",), _accuracy),
    "f1": Metric("F1", ("classification",), _f1, classes=2),
    "micro_f1": Metric("Micro F1", ("multi_label",), _micro_f1),
    "macro_f1": Metric("Macro F1", ("classification", "multi_label"), _macro_f1),
    "exact_match": Metric("Exact match", ("multi_label",), _exact_match),
    "matthews": Metric("Matthews", ("classification",), _matthews),
    "pearson": Metric("Pearson", ("regression",), _pearson),
    "spearman": Metric("Spearman", ("regression",), _spearman),
}
"""Every metric by the name that study files and tables use; the positive class of F1 is class 1."""
