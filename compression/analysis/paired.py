"""Paired comparison of two systems that were evaluated on the same rows.

Two sources of noise decide whether a difference would show again: the evaluated rows are a sample, and the seeds of the
trainings are a sample. Resampling two to five seeds as if they were rows understates the second one badly (with two
seeds such an interval can miss the truth 40 % of the time), so the two are combined by their variances instead.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compression.analysis.resampling import Array, observed, resample

# A variance below this is rounding: scores and log ratios are known to nine digits at most.
_DUST = 1e-18


@dataclass(frozen=True)
class Interval:
    """A confidence interval.

    Attributes:
        low: lower end.
        high: upper end.
        noise: what the interval covers, of "examples", "seeds" and "repeats".
    """

    low: float
    high: float
    noise: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """The mean difference of two systems over their common seeds.

    Attributes:
        value: mean over seeds of metric(variant) - metric(baseline), natural units.
        interval: its confidence interval; None when neither rows nor a second seed allow one.
        seeds: number of paired seeds.
        examples: evaluated rows that were resampled; 0 when predictions were not at hand.
        identical: whether both predict the same on every row and seed.
    """

    value: float
    interval: Interval | None
    seeds: int
    examples: int
    identical: bool = False


def combined_interval(
    ours: Array, theirs: Array, our_draws: Array, their_draws: Array, *, confidence: float, unit: str = "examples"
) -> Interval:
    """Interval of the mean difference of two systems, over what was resampled and over seeds.

    With one seed, or when seeds differ by no more than resampling explains, it is the percentile interval of the paired
    bootstrap (Efron & Tibshirani 1993, ch. 13). Otherwise the variance of the mean difference is that of a two-way
    random-effects analysis of variance,

        what all seeds share (mean covariance between seeds of the resampled differences) + S / n,

    and the interval is Student's with the degrees of freedom of Welch and Satterthwaite. S is the variance between
    seeds. Few seeds may agree by luck, so it is the larger of two estimates: the variance of the n differences, and
    `a + b - 2 r sqrt(a b)` from the variances a and b of each side alone, where r tells how far the two sides' seeds
    move together (high for a checkpoint and its quantised copy), estimated on the resamples.

    Simulated false verdicts at 95 % when both sides are equally noisy: 2-5 % for any mixture of the noises, with two,
    three and five seeds. When only one side depends on the seed and seeds outweigh everything else, up to 12 % with two
    seeds and 7 % with three.

    Args:
        ours: (n,) the variant's value of each seed on the data as they are.
        theirs: (n,) the baseline's, seed by seed.
        our_draws: (B, n) the variant's values on each resample.
        their_draws: (B, n) the baseline's on the same resamples.
        confidence: share of repetitions in which the interval holds the true difference, 0..1.
        unit: what was resampled, for the record.

    Returns:
        The interval around the mean of `ours - theirs`.

    Example:
        >>> draws, still = np.tile(np.linspace(-1, 1, 201)[:, None], 2), np.zeros((201, 2))
        >>> near = combined_interval(np.zeros(2), np.zeros(2), draws, still, confidence=0.9)
        >>> round(near.low, 2), round(near.high, 2)
        (-0.9, 0.9)
        >>> combined_interval(np.array([-1.0, 1.0]), np.zeros(2), draws, still, confidence=0.9).low < -1.5
        True
    """
    seeds = len(ours)
    tail = (1 - confidence) / 2
    values, draws = ours - theirs, our_draws - their_draws
    noise = (unit, "seeds") if seeds > 1 else (unit,)
    if seeds > 1:
        shared, own = _variances(draws)
        between, freedom = _between_seeds(ours, theirs, our_draws, their_draws)
        if between > own * (1 + 1e-9) + _DUST:
            variance = shared + between / seeds
            half = _student(1 - tail, variance**2 / ((between / seeds) ** 2 / freedom)) * variance**0.5
            return Interval(float(values.mean()) - half, float(values.mean()) + half, noise)
    low, high = np.quantile(draws.mean(axis=1), [tail, 1 - tail])
    return Interval(float(low), float(high), noise)


def _variances(draws: Array) -> tuple[float, float]:
    """Variance over resamples that all seeds share, and that each has on its own."""
    covariance = np.cov(draws, rowvar=False)
    shared = max(0.0, _off_diagonal(covariance))
    return shared, max(0.0, float(np.diag(covariance).mean()) - shared)


def _off_diagonal(matrix: Array) -> float:
    """Mean of what lies beside the diagonal."""
    return float((matrix.sum() - np.trace(matrix)) / (len(matrix) * (len(matrix) - 1)))


def _between_seeds(ours: Array, theirs: Array, our_draws: Array, their_draws: Array) -> tuple[float, float]:
    """Variance of the differences between seeds, and its degrees of freedom."""
    seeds = len(ours)
    left, right = float(ours.var(ddof=1)), float(theirs.var(ddof=1))
    if left + right == 0:
        return 0.0, float(seeds - 1)
    cross = np.cov(our_draws, their_draws, rowvar=False)[:seeds, seeds:]
    scale = (_variances(our_draws)[1] * _variances(their_draws)[1]) ** 0.5
    together = float(np.diag(cross).mean()) - _off_diagonal(cross)
    correlation = min(1.0, max(0.0, together / scale)) if scale > 0 else 0.0
    apart = left + right - 2 * correlation * (left * right) ** 0.5
    freedom = (seeds - 1) * (left + right) ** 2 / (left**2 + right**2)
    return max(float((ours - theirs).var(ddof=1)), apart), freedom


def seed_interval(values: Array, *, confidence: float) -> Interval | None:
    """Student's interval of the mean over seeds, for what cannot be resampled.

    It covers the noise of the seeds on the evaluated rows, not that of another sample of rows.

    Args:
        values: (n,) paired difference of each seed.
        confidence: 0..1.

    Returns:
        The interval, or None with fewer than two seeds.

    Example:
        >>> interval = seed_interval(np.array([0.01, 0.03]), confidence=0.95)
        >>> round(interval.low, 3), round(interval.high, 3)
        (-0.107, 0.147)
    """
    seeds = len(values)
    if seeds < 2:
        return None
    half = _student((1 + confidence) / 2, seeds - 1) * float(values.std(ddof=1)) / seeds**0.5
    return Interval(float(values.mean()) - half, float(values.mean()) + half, ("seeds",))


def compare(
    metric: str,
    gold: Array,
    variant: Sequence[Array],
    baseline: Sequence[Array],
    *,
    confidence: float = 0.95,
    samples: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Paired bootstrap of the difference between two systems on the same rows.

    The metric is recomputed on each resample for every seed and averaged over the seeds; see `combined_interval` for
    how the noise of the seeds enters.

    Args:
        metric: one of `compression.analysis.resampling.METRICS`.
        gold: (rows,) or (rows, labels).
        variant: predictions of each seed, as `resampling.predicted` gives them.
        baseline: the same of the baseline, seed by seed.
        confidence: level of the interval, 0..1.
        samples: number of resamples.
        seed: seed of the resampling; the same arguments give the same numbers.

    Returns:
        The difference with its interval.

    Raises:
        ValueError: the two have different numbers of seeds, or none.

    Example:
        >>> gold = np.tile([0.0, 1.0], 200)
        >>> worse = np.where(np.arange(400) < 40, 1 - gold, gold)
        >>> result = compare("accuracy", gold, [gold], [worse])
        >>> round(result.value, 3), result.interval.low > 0.06
        (0.1, True)
    """
    if not variant or len(variant) != len(baseline):
        raise ValueError(f"{len(variant)} seeds of the variant cannot be paired with {len(baseline)} of the baseline")
    seeds = len(variant)
    ours = np.array([observed(metric, gold, system) for system in variant])
    theirs = np.array([observed(metric, gold, system) for system in baseline])
    drawn = resample(metric, gold, [*variant, *baseline], samples=samples, generator=np.random.default_rng(seed))
    return Comparison(
        value=float((ours - theirs).mean()),
        interval=combined_interval(ours, theirs, drawn[:, :seeds], drawn[:, seeds:], confidence=confidence),
        seeds=seeds,
        examples=len(gold),
        identical=all(np.array_equal(left, right) for left, right in zip(variant, baseline, strict=True)),
    )


def _student(probability: float, freedom: float) -> float:
    """Quantile of Student's t."""
    from scipy.special import stdtrit  # scipy.stats takes half a second to import

    return float(stdtrit(freedom, probability))
