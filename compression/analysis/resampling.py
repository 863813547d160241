"""Task metrics on resampled rows, for all resamples at once.

A bootstrap resample of N rows is a vector of counts: how often each row was drawn. Rows that agree in the gold label
and in every system's prediction are interchangeable, so they are merged first and the counts of the merged rows are
drawn from one multinomial distribution. That is the same bootstrap; for classification its cost hardly grows with N.

Of several labels, gold and predictions are rows of 0 and 1. Of spans the scores of each question are resampled.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compression.problems import DEFAULT_METRICS, Problem

Array = NDArray[np.float64]

# Draws are made in blocks of at most this many counts, so that memory stays below about 100 MB.
_BLOCK = 4_000_000


@dataclass(frozen=True)
class ResampledMetric:
    """A metric that can be recomputed on weighted rows.

    Attributes:
        problem: what it reads: class indices, real numbers, 0 and 1 for each label, or scores of each question.
        function: (gold (M,), predicted (M,), counts (B, M)) -> metric of each resample (B,); gold and predicted are
            (M, labels) of several labels and (M, scores) of spans.
    """

    problem: Problem
    function: Callable[[Array, Array, Array], Array]


def _ratio(numerator: Array, denominator: Array) -> Array:
    """The quotient, and 0 where the denominator is 0: the stated value of a constant prediction."""
    quotient: Array = np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)
    return quotient


def _total(flags: NDArray[np.bool_], counts: Array) -> Array:
    """How many drawn rows carry a flag: (B,) for flags (M,), (B, classes) for flags (M, classes)."""
    total: Array = counts @ flags.astype(float)
    return total


def _class_totals(gold: Array, predicted: Array, counts: Array) -> tuple[Array, Array, Array]:
    """Hits, predictions and gold rows of every class that occurs, each (B, classes)."""
    classes = np.union1d(gold, predicted)
    is_gold, is_predicted = gold[:, None] == classes, predicted[:, None] == classes
    return _total(is_gold & is_predicted, counts), _total(is_predicted, counts), _total(is_gold, counts)


def _accuracy(gold: Array, predicted: Array, counts: Array) -> Array:
    return _ratio(_total(gold == predicted, counts), counts.sum(axis=1))


def _f1(gold: Array, predicted: Array, counts: Array) -> Array:
    hits = _total((gold == 1) & (predicted == 1), counts)
    return _ratio(2 * hits, _total(predicted == 1, counts) + _total(gold == 1, counts))


def _macro_f1(gold: Array, predicted: Array, counts: Array) -> Array:
    hits, found, there = _class_totals(gold, predicted, counts)
    # A class that a resample holds neither as gold nor as prediction has no F1 and is left out of the mean.
    return _ratio(_ratio(2 * hits, found + there).sum(axis=1), (found + there > 0).sum(axis=1).astype(float))


def _matthews(gold: Array, predicted: Array, counts: Array) -> Array:
    """The K-class correlation R_K (Gorodkin 2004, eq. 8), which for two classes is Matthews'."""
    hits, found, there = _class_totals(gold, predicted, counts)
    rows = counts.sum(axis=1)
    covariance = hits.sum(axis=1) * rows - (found * there).sum(axis=1)
    spread = (rows**2 - (found**2).sum(axis=1)) * (rows**2 - (there**2).sum(axis=1))
    return _ratio(covariance, np.sqrt(spread))


def _correlation(left: Array, right: Array, counts: Array) -> Array:
    """Pearson's r of weighted rows; `left` and `right` are (M,) or (B, M)."""
    rows = counts.sum(axis=1, keepdims=True)
    left = left - (counts * left).sum(axis=1, keepdims=True) / rows
    right = right - (counts * right).sum(axis=1, keepdims=True) / rows
    spread = (counts * left**2).sum(axis=1) * (counts * right**2).sum(axis=1)
    # A constant resample leaves rounding dust instead of an exact zero.
    spread[spread < 1e-20 * rows[:, 0] ** 2] = 0.0
    return _ratio((counts * left * right).sum(axis=1), np.sqrt(spread))


def _scaled(values: Array) -> Array:
    """Zero mean and unit spread over the rows, so that the threshold for a constant does not depend on the unit."""
    if np.ptp(values) == 0:
        return np.zeros_like(values)
    scaled: Array = (values - values.mean()) / values.std()
    return scaled


def _pearson(gold: Array, predicted: Array, counts: Array) -> Array:
    return _correlation(_scaled(gold), _scaled(predicted), counts)


def _ranks(values: Array, counts: Array) -> Array:
    """Rank of every row in each resample, ties sharing their mean rank; scaled to 0..1; (B, M)."""
    levels, level = np.unique(values, return_inverse=True)
    order = np.argsort(level, kind="stable")
    starts = np.searchsorted(level[order], np.arange(len(levels)))
    totals = np.add.reduceat(counts[:, order], starts, axis=1)
    middle = np.cumsum(totals, axis=1) - totals / 2
    ranks: Array = middle / counts.sum(axis=1, keepdims=True)
    return ranks[:, level]


def _spearman(gold: Array, predicted: Array, counts: Array) -> Array:
    return _correlation(_ranks(gold, counts), _ranks(predicted, counts), counts)


def _label_totals(gold: Array, predicted: Array, counts: Array) -> tuple[Array, Array]:
    """Twice the hits of every label, and its predictions and gold rows together, each (B, labels)."""
    return 2 * (counts @ (gold * predicted)), counts @ (gold + predicted)


def _micro_f1_of_labels(gold: Array, predicted: Array, counts: Array) -> Array:
    hits, marks = _label_totals(gold, predicted, counts)
    return _ratio(hits.sum(axis=1), marks.sum(axis=1))


def _macro_f1_of_labels(gold: Array, predicted: Array, counts: Array) -> Array:
    mean: Array = _ratio(*_label_totals(gold, predicted, counts)).mean(axis=1)
    return mean


def _exact_match_of_labels(gold: Array, predicted: Array, counts: Array) -> Array:
    return _ratio(_total((gold == predicted).all(axis=1), counts), counts.sum(axis=1))


def _span_score(place: int) -> Callable[[Array, Array, Array], Array]:
    def mean(gold: Array, predicted: Array, counts: Array) -> Array:
        del gold
        return _ratio(counts @ predicted[:, place], counts.sum(axis=1))

    return mean


METRICS: dict[str, ResampledMetric] = {
    "accuracy": ResampledMetric("classification", _accuracy),
    "f1": ResampledMetric("classification", _f1),
    "macro_f1": ResampledMetric("classification", _macro_f1),
    "matthews": ResampledMetric("classification", _matthews),
    "pearson": ResampledMetric("regression", _pearson),
    "spearman": ResampledMetric("regression", _spearman),
    "multi_label_micro_f1": ResampledMetric("multi_label", _micro_f1_of_labels),
    "multi_label_macro_f1": ResampledMetric("multi_label", _macro_f1_of_labels),
    "multi_label_exact_match": ResampledMetric("multi_label", _exact_match_of_labels),
    **{f"span_{name}": ResampledMetric("span", _span_score(at)) for at, name in enumerate(DEFAULT_METRICS["span"])},
}
"""What can be recomputed, by name; problems whose metrics share a name with another's stand before it."""

NAMES = frozenset(name.removeprefix(f"{metric.problem}_") for name, metric in METRICS.items())
"""Names that cells record."""


def resampled_name(name: str, problem: Problem) -> str:
    """Name under which a metric of a problem is recomputed.

    Args:
        name: as a cell records it, without its split.
        problem: what the predictions are.

    Returns:
        A key of `METRICS`, unless the metric cannot be recomputed.

    Example:
        >>> resampled_name("f1", "classification"), resampled_name("f1", "span")
        ('f1', 'span_f1')
    """
    own = f"{problem}_{name}"
    return own if own in METRICS else name


def split_name(metric: str) -> tuple[str, str]:
    """Tell a metric's own name from the reported split that it was measured on.

    Args:
        metric: name as a cell records it.

    Returns:
        The metric and the split, "" for the main one. A name that is none of `NAMES` comes back whole.

    Example:
        >>> split_name("accuracy_mismatched"), split_name("macro_f1")
        (('accuracy', 'mismatched'), ('macro_f1', ''))
    """
    known = [name for name in NAMES if metric == name or metric.startswith(f"{name}_")]
    if not known:
        return metric, ""
    name = max(known, key=len)
    return name, metric[len(name) + 1 :]


def predicted(metric: str, logits: Array) -> Array:
    """What a metric compares with the gold column.

    Args:
        metric: one of `METRICS`.
        logits: (rows, outputs); of spans (rows, scores) what each question scores.

    Returns:
        (rows,) index of the largest logit, or the single output of a regression; (rows, labels) 1 for each label above
        0; of spans the scores as they are.
    """
    problem = METRICS[metric].problem
    if problem == "regression":
        return logits[:, 0].astype(float)
    if problem == "multi_label":
        return (logits > 0).astype(float)
    return logits.astype(float) if problem == "span" else np.asarray(logits.argmax(axis=1), dtype=float)


def observed(metric: str, gold: Array, system: Array) -> float:
    """The metric on the rows as they are.

    Args:
        metric: one of `METRICS`.
        gold: (rows,) or (rows, labels).
        system: predictions, as `predicted` gives them.

    Returns:
        The value in natural units; 0.0 where it is not defined.

    Example:
        >>> observed("accuracy", np.array([0.0, 1, 1]), np.array([0.0, 1, 0]))
        0.6666666666666666
    """
    return float(METRICS[metric].function(gold, system, np.ones((1, len(gold))))[0])


def resample(
    metric: str, gold: Array, systems: Sequence[Array], *, samples: int, generator: np.random.Generator
) -> Array:
    """The metric of several systems on the same bootstrap resamples of the rows.

    Args:
        metric: one of `METRICS`.
        gold: (rows,) or (rows, labels).
        systems: predictions of each, as `predicted` gives them, aligned with `gold`.
        samples: number of resamples B.
        generator: source of the random draws.

    Returns:
        (B, systems): resample b holds the same rows for every system, so differences between columns are paired.

    Example:
        >>> gold, right = np.zeros(10), np.zeros(10)
        >>> resample("accuracy", gold, [right, 1 - right], samples=2, generator=np.random.default_rng(0))
        array([[1., 0.],
               [1., 0.]])
    """
    columns = [gold, *systems]
    rows, times = np.unique(np.column_stack(columns), axis=0, return_counts=True)
    ends = np.cumsum([1 if column.ndim == 1 else column.shape[1] for column in columns])
    parts = [
        part if column.ndim > 1 else part[:, 0]
        for part, column in zip(np.split(rows, ends[:-1], axis=1), columns, strict=True)
    ]
    function = METRICS[metric].function
    blocks = [
        np.column_stack([function(parts[0], system, counts) for system in parts[1:]])
        for counts in _draw(times, samples, generator)
    ]
    return np.concatenate(blocks)


def _draw(times: NDArray[np.int64], samples: int, generator: np.random.Generator) -> Iterator[Array]:
    """Multinomial counts of the merged rows, (block, M), in blocks that fit in memory."""
    total = int(times.sum())
    block = max(1, _BLOCK // len(times))
    for start in range(0, samples, block):
        size = min(block, samples - start)
        yield generator.multinomial(total, times / total, size=size).astype(float)
