import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compression.analysis.aggregate import group, headline_metrics, pair, summarise
from compression.analysis.cells import Cell

values = st.lists(st.floats(-1, 1), min_size=1, max_size=8)


@given(values)
def test_mean_and_sample_deviation(numbers):
    summary = summarise([Cell("a", "rte", seed, {"accuracy": value}) for seed, value in enumerate(numbers)], "accuracy")
    assert summary.mean == pytest.approx(np.mean(numbers))
    if len(numbers) == 1:
        assert summary.std is None
    else:
        assert summary.std == pytest.approx(np.std(numbers, ddof=1))


def test_a_value_that_is_not_finite_is_left_out():
    cells = [
        Cell("a", "rte", 0, {"accuracy": 0.5}),
        Cell("a", "rte", 1, {"accuracy": float("nan")}),
        Cell("a", "rte", 2, {}),
    ]
    assert summarise(cells, "accuracy").values == ((0, 0.5),)
    assert summarise(cells, "f1") is None


def test_two_cells_of_one_place_are_refused():
    with pytest.raises(ValueError, match="two cells for variant 'a', task 'rte', seed 3"):
        group([Cell("a", "rte", 3, {}), Cell("a", "rte", 3, {})])


def test_only_common_seeds_are_paired():
    ours = [Cell("a", "rte", seed, {}) for seed in (0, 1, 2)]
    theirs = [Cell("b", "rte", seed, {}) for seed in (1, 2, 3)]
    assert [(left.seed, right.seed) for left, right in pair(ours, theirs)] == [(1, 1), (2, 2)]


def test_headline_of_a_task_that_nobody_measured():
    assert headline_metrics([Cell("a", "rte", 0, {"accuracy": 1.0})], "cola") == ()


def test_headline_keeps_a_metric_that_is_not_resampled():
    assert headline_metrics([Cell("a", "squad", 0, {"em": 0.8, "em_token": 0.9})], "squad") == ("em",)
