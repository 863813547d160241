import numpy as np
import pytest

from compression.analysis.cells import Cell
from compression.analysis.speed import busy_note, latency, speedup


def _timed(name, passes, seed=0, **more):
    q1, median, q3 = np.quantile(passes, [0.25, 0.5, 0.75])
    timing = {"median": median, "q1": q1, "q3": q3, "samples": list(passes), **more}
    return Cell(name, "rte", seed, {}, {"latency_ms": timing})


def _passes(rng, milliseconds, drift=0.0):
    return milliseconds * np.exp(drift * rng.normal() + 0.05 * rng.normal(size=100))


def test_a_clear_speed_up_is_claimed_with_its_interval():
    rng = np.random.default_rng(0)
    pairs = [(_timed("small", _passes(rng, 5), seed), _timed("teacher", _passes(rng, 10), seed)) for seed in range(3)]
    result = speedup(pairs)
    assert result.verdict == "faster"
    assert result.low < 2 < result.high
    assert result.high / result.low < 1.1


def test_a_slower_variant_is_called_slower():
    rng = np.random.default_rng(0)
    assert speedup([(_timed("a", _passes(rng, 12)), _timed("teacher", _passes(rng, 10)))]).verdict == "slower"


def test_a_gain_smaller_than_the_drift_between_cells_is_no_difference():
    rng = np.random.default_rng(5)
    pairs = [
        (_timed("a", _passes(rng, 9.9, drift=0.1), seed), _timed("teacher", _passes(rng, 10, drift=0.1), seed))
        for seed in range(3)
    ]
    assert speedup(pairs).verdict == "no difference"


def test_equal_models_are_rarely_told_apart_on_a_drifting_machine():
    rng = np.random.default_rng(1)
    verdicts = [
        speedup(
            [(_timed("a", _passes(rng, 10, 0.03), s), _timed("t", _passes(rng, 10, 0.03), s)) for s in range(3)],
            samples=200,
        ).verdict
        for _ in range(120)
    ]
    assert np.mean([verdict != "no difference" for verdict in verdicts]) <= 0.1


def test_quartiles_stand_in_for_passes_and_are_more_careful():
    rng = np.random.default_rng(2)
    full = [_timed("a", _passes(rng, 5)), _timed("teacher", _passes(rng, 10))]
    bare = [
        Cell(
            c.variant,
            c.task,
            c.seed,
            {},
            {"latency_ms": {k: v for k, v in c.efficiency["latency_ms"].items() if k != "samples"}},
        )
        for c in full
    ]
    from_passes, from_quartiles = speedup([tuple(full)]), speedup([tuple(bare)])
    assert from_passes.value == pytest.approx(from_quartiles.value)
    assert from_quartiles.low < from_passes.low < from_passes.high < from_quartiles.high


def test_a_lone_median_is_not_tested():
    pairs = [
        (
            Cell("a", "rte", 0, {}, {"latency_ms": {"median": 5.0}}),
            Cell("t", "rte", 0, {}, {"latency_ms": {"median": 10.0}}),
        )
    ]
    result = speedup(pairs)
    assert (result.value, result.low, result.verdict) == (pytest.approx(2.0), None, None)


def test_other_conditions_are_not_compared():
    rng = np.random.default_rng(2)
    assert speedup([(_timed("a", _passes(rng, 5), threads=2), _timed("t", _passes(rng, 10), threads=1))]) is None
    assert speedup([]) is None


def test_latency_of_untimed_cells_is_unknown():
    assert latency([Cell("a", "rte", 0, {}), Cell("a", "rte", 1, {}, {"latency_ms": {"median": 0.0}})]) is None


def test_one_teacher_timing_for_all_seeds_is_one_source_of_noise():
    """A teacher without a seed was timed once: pairing it with three seeds must not make its noise average out."""
    teacher = Cell("t", "rte", None, {}, {"latency_ms": {"median": 10.0, "q1": 9.0, "q3": 11.0}})
    still = {"median": 5.0, "q1": 5.0, "q3": 5.0}
    one = speedup([(Cell("a", "rte", 0, {}, {"latency_ms": still}), teacher)])
    three = speedup([(Cell("a", "rte", seed, {}, {"latency_ms": dict(still)}), teacher) for seed in range(3)])
    assert (three.low, three.high) == pytest.approx((one.low, one.high), rel=0.02)


def test_a_quiet_machine_needs_no_warning():
    assert busy_note([Cell("a", "rte", 0, {}, {"latency_ms": {"median": 5.1, "cpu_median": 5.0}})]) is None
    assert busy_note([Cell("a", "rte", 0, {}, {"latency_ms": {"median": 5.1}}), Cell("b", "rte", 0, {})]) is None


def test_a_busy_machine_is_told_with_names():
    cells = [
        Cell(name, "rte", seed, {}, {"latency_ms": {"median": 9.0, "cpu_median": 5.0}})
        for name in "abcde"
        for seed in (0, 1)
    ]
    assert "10 cells were timed (a on rte, b on rte and 3 more)" in busy_note(cells)
