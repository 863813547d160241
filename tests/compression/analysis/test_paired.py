"""The paired comparison against SciPy, an analysis of variance, and simulated studies."""

import itertools

import numpy as np
import pytest
from scipy import stats

from compression.analysis.paired import combined_interval, compare, seed_interval


def _systems(rng, rows, seeds, *, spread, effect=0.0):
    """Two systems whose expected accuracies differ by `effect` on a latent scale, with the noises of a real study.

    Rows differ in difficulty, each system has its own taste in rows, each training its own level and its own lapses.
    """
    difficulty = rng.normal(size=rows)

    def system(level):
        taste = 0.5 * rng.normal(size=rows)
        return [
            (level + difficulty + taste + spread * rng.normal() + 0.7 * rng.normal(size=rows) > 0).astype(float)
            for _ in range(seeds)
        ]

    return np.ones(rows), system(1.0 + effect), system(1.0)


def _verdicts(studies, rows, seeds, spread, effect=0.0, samples=300):
    """Shares of studies in which the variant comes out better and worse."""
    rng = np.random.default_rng(20)
    intervals = [
        compare(
            "accuracy", *_systems(rng, rows, seeds, spread=spread, effect=effect), samples=samples, seed=study
        ).interval
        for study in range(studies)
    ]
    return np.mean([one.low > 0 for one in intervals]), np.mean([one.high < 0 for one in intervals])


def _macro_f1(gold, found):
    return np.mean(
        [2 * ((gold == k) & (found == k)).sum() / ((gold == k).sum() + (found == k).sum()) for k in range(3)]
    )


def _matthews(gold, found):
    """R_K as the correlation of one-hot codes (Gorodkin 2004, eq. 1-2)."""
    left, right = np.eye(3)[gold.astype(int)], np.eye(3)[found.astype(int)]
    left, right = left - left.mean(0), right - right.mean(0)
    return (left * right).sum() / ((left**2).sum() * (right**2).sum()) ** 0.5


_SCORES = {"accuracy": lambda gold, found: (gold == found).mean(), "macro_f1": _macro_f1, "matthews": _matthews}


@pytest.mark.parametrize("metric", _SCORES)
def test_one_seed_gives_scipys_paired_bootstrap(metric):
    rng = np.random.default_rng(3)
    gold = rng.integers(0, 3, 150).astype(float)
    ours = np.where(rng.random(150) < 0.8, gold, (gold + 1) % 3)
    theirs = np.where(rng.random(150) < 0.7, gold, (gold + 2) % 3)
    result = compare(metric, gold, [ours], [theirs], samples=8000)

    score = _SCORES[metric]
    reference = stats.bootstrap(
        (gold, ours, theirs),
        lambda gold, ours, theirs: score(gold, ours) - score(gold, theirs),
        paired=True,
        vectorized=False,
        method="percentile",
        n_resamples=1500,
        rng=1,
    ).confidence_interval
    assert result.value == pytest.approx(score(gold, ours) - score(gold, theirs))
    # Two Monte Carlo quantiles: they agree to a fraction of the interval's width.
    assert (result.interval.low, result.interval.high) == pytest.approx(
        tuple(reference), abs=0.12 * (reference[1] - reference[0])
    )


def test_one_seed_gives_the_quantiles_of_all_resamples():
    gold = np.array([1.0, 1, 1, 1, 1, 1])
    ours, theirs = np.array([1.0, 1, 1, 1, 0, 1]), np.array([1.0, 0, 0, 1, 1, 0])
    gain = ours - theirs
    everything = [gain[list(rows)].mean() for rows in itertools.product(range(6), repeat=6)]
    result = compare("accuracy", gold, [ours], [theirs], samples=20_000, confidence=0.8)
    assert (result.interval.low, result.interval.high) == pytest.approx(tuple(np.quantile(everything, [0.1, 0.9])))


def test_seeds_enter_as_in_an_analysis_of_variance():
    rng = np.random.default_rng(11)
    rows, seeds = 500, 4
    level = np.array([0.10, -0.05, 0.02, 0.15])
    gold = np.ones(rows)
    # The baseline does not depend on the seed, so the spread of the differences is that of the variant alone.
    theirs = (rng.random(rows) < 0.6).astype(float)
    ours = [(rng.random(rows) < 0.7 + shift).astype(float) for shift in level]
    interval = compare("accuracy", gold, ours, [theirs] * seeds, samples=20_000).interval

    gain = np.array(ours) - theirs
    of_seeds, of_rows, all_of_it = gain.mean(1), gain.mean(0), gain.mean()
    mean_square_seeds = rows * ((of_seeds - all_of_it) ** 2).sum() / (seeds - 1)
    mean_square_rows = seeds * ((of_rows - all_of_it) ** 2).sum() / (rows - 1)
    rest = gain - of_seeds[:, None] - of_rows + all_of_it
    mean_square_rest = (rest**2).sum() / ((seeds - 1) * (rows - 1))
    variance = (mean_square_seeds + mean_square_rows - mean_square_rest) / (seeds * rows)
    freedom = variance**2 / ((mean_square_seeds / (seeds * rows)) ** 2 / (seeds - 1))
    half = stats.t.ppf(0.975, freedom) * variance**0.5
    assert mean_square_seeds > mean_square_rest
    assert (interval.low, interval.high) == pytest.approx((all_of_it - half, all_of_it + half), abs=0.03 * half)


def test_seeds_that_agree_leave_the_bootstrap_over_rows():
    rng = np.random.default_rng(0)
    gold, ours, theirs = _systems(rng, 400, 1, spread=0.0)
    once, thrice = compare("accuracy", gold, ours, theirs), compare("accuracy", gold, ours * 3, theirs * 3)
    assert (thrice.interval.low, thrice.interval.high) == pytest.approx(
        (once.interval.low, once.interval.high), abs=0.004
    )
    assert once.interval.noise == ("examples",)
    assert thrice.interval.noise == ("examples", "seeds")


def test_pairing_sees_a_small_loss_that_every_seed_repeats():
    # A quantised copy: seeds differ widely, the copy always loses the same half a point.
    rng = np.random.default_rng(4)
    gold = np.ones(4000)
    originals = [(rng.random(4000) < level).astype(float) for level in (0.80, 0.84, 0.88)]
    copies = []
    for original in originals:
        copy = original.copy()
        copy[rng.choice(np.flatnonzero(original), 25, replace=False)] = 0
        copies.append(copy)
    result = compare("accuracy", gold, copies, originals)
    assert result.value == pytest.approx(-25 / 4000)
    assert result.interval.high < 0


def test_sides_and_seeds_can_be_swapped():
    rng = np.random.default_rng(8)
    gold, ours, theirs = _systems(rng, 300, 3, spread=0.3, effect=0.1)
    there, back = compare("accuracy", gold, ours, theirs), compare("accuracy", gold, theirs, ours)
    assert back.value == pytest.approx(-there.value)
    assert back.interval.high - back.interval.low == pytest.approx(there.interval.high - there.interval.low, rel=0.1)
    turned = compare("accuracy", gold, ours[::-1], theirs[::-1])
    assert (turned.interval.low, turned.interval.high) == pytest.approx(
        (there.interval.low, there.interval.high), abs=0.005
    )


def test_the_same_arguments_give_the_same_numbers():
    gold, ours, theirs = _systems(np.random.default_rng(2), 200, 2, spread=0.1)
    assert compare("f1", gold, ours, theirs) == compare("f1", gold, ours, theirs)


def test_identical_predictions_differ_by_nothing():
    gold, ours, _ = _systems(np.random.default_rng(2), 200, 2, spread=0.1)
    result = compare("accuracy", gold, ours, ours)
    assert result.identical
    assert (result.value, result.interval.low, result.interval.high) == (0.0, 0.0, 0.0)


def test_seeds_are_paired_one_to_one():
    gold = np.ones(4)
    with pytest.raises(ValueError, match="2 seeds of the variant cannot be paired with 1"):
        compare("accuracy", gold, [gold, gold], [gold])


def test_seeds_alone_give_students_interval():
    values = np.array([0.01, 0.03, 0.02, 0.05])
    interval = seed_interval(values, confidence=0.9)
    reference = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert (interval.low, interval.high) == pytest.approx(tuple(reference))
    assert seed_interval(values[:1], confidence=0.9) is None


def test_a_side_without_spread_counts_the_seeds_of_the_other():
    ours, still = np.array([0.1, 0.3]), np.zeros(2)
    quiet = np.zeros((100, 2))
    interval = combined_interval(ours, still, quiet, quiet, confidence=0.95)
    reference = stats.ttest_1samp(ours, 0).confidence_interval(0.95)
    assert (interval.low, interval.high) == pytest.approx(tuple(reference))


# Of 400 studies at a true rate of 5 %, between 1.6 % and 8.4 % come out with a verdict, save in 2 of 1,000 such tests;
# two and three seeds err on the side of no difference.
@pytest.mark.parametrize(("seeds", "spread"), [(1, 0.0), (2, 0.05), (3, 0.05)])
def test_equal_systems_are_rarely_told_apart(seeds, spread):
    better, worse = _verdicts(400, 300, seeds, spread)
    assert 0.008 <= better + worse <= 0.084


def test_a_real_difference_is_mostly_found():
    better, worse = _verdicts(60, 1000, 3, 0.05, effect=0.35, samples=200)
    assert better >= 0.8
    assert worse == 0


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.0, 0.02, 0.05, 0.15])
@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
@pytest.mark.parametrize("rows", [300, 2000])
def test_equal_systems_are_told_apart_in_one_of_twenty_studies(rows, seeds, spread):
    better, worse = _verdicts(1000, rows, seeds, spread if seeds > 1 else 0.0)
    # The interval is meant to err on the side of no difference; six per cent and Monte Carlo error is the most.
    assert 0.015 <= better + worse <= 0.07
    assert abs(better - worse) < 0.025
