"""Latency over cells, and the speed-up against the teacher with its noise."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from compression.analysis.cells import Cell
from compression.analysis.paired import Interval, combined_interval, seed_interval
from compression.analysis.resampling import Array
from compression.analysis.results import Latency, Pace, Speedup
from compression.analysis.wording import count, listing

# Quartiles of a normal distribution lie 1.349 standard deviations apart.
_QUARTILE_RANGE = 1.349
# Wall time of a pass over its processor time, above which the pass must have waited.
_BUSY = 1.25


def latency(cells: Sequence[Cell]) -> Latency | None:
    """Latency of a variant over its cells.

    Args:
        cells: cells of one variant, all tasks and seeds.

    Returns:
        For each figure the median over the cells that have it, milliseconds; None when no cell was timed.

    Example:
        >>> timed = [Cell("a", "rte", seed, {}, {"latency_ms": {"median": ms}}) for seed, ms in ((0, 4.0), (1, 6.0))]
        >>> latency(timed).median
        5.0
    """
    timed = [timing for timing in map(_timing, cells) if timing is not None]
    if not timed:
        return None

    def middle(name: str) -> float | None:
        values = [float(timing[name]) for timing in timed if timing.get(name) is not None]
        return float(np.median(values)) if values else None

    return Latency(float(middle("median") or 0.0), middle("q1"), middle("q3"), middle("p95"))


def speedup(
    pairs: Sequence[tuple[Cell, Cell]], *, confidence: float = 0.95, samples: int = 2000, seed: int = 0
) -> Speedup | None:
    """How many times faster a variant is than the teacher, and whether that stands out of the noise.

    Each pair of cells gives one log ratio of medians. Its own noise comes from a bootstrap of the single passes in
    blocks (passes that follow each other share the machine's state), or, where the passes were not kept, from a
    log-normal with their quartiles, which is wider: it is the noise of one pass, not of a median. The noise between
    pairs, measured minutes apart, enters as that of seeds does in `paired.combined_interval`.

    Args:
        pairs: (variant, teacher) cells of the same task and seed.
        confidence: level of the interval, 0..1.
        samples: number of resamples.
        seed: seed of the resampling.

    Returns:
        The ratio with its interval; None when no pair was timed under the same conditions.

    Example:
        >>> def timed(name, ms):
        ...     return Cell(name, "rte", 0, {}, {"latency_ms": {"median": ms, "q1": 0.99 * ms, "q3": 1.01 * ms}})
        >>> result = speedup([(timed("small", 5.0), timed("teacher", 20.0))])
        >>> round(result.value, 6), result.verdict
        (4.0, 'faster')
        >>> speedup([(timed("small", 19.9), timed("teacher", 20.0))]).verdict
        'no difference'
    """
    timed = [(_timing(ours), _timing(theirs)) for ours, theirs in pairs]
    usable = [(ours, theirs) for ours, theirs in timed if ours and theirs and _comparable(ours, theirs)]
    if not usable:
        return None
    ours, theirs = (np.log([timing["median"] for timing in side]) for side in zip(*usable, strict=True))
    generator = np.random.default_rng(seed)
    our_draws, their_draws = (_draws(side, samples, generator) for side in zip(*usable, strict=True))
    interval: Interval | None
    if our_draws is None or their_draws is None:
        interval = seed_interval(theirs - ours, confidence=confidence)
    else:
        interval = combined_interval(theirs, ours, their_draws, our_draws, confidence=confidence, unit="repeats")
    value = math.exp(float((theirs - ours).mean()))
    if interval is None:
        return Speedup(value, None, None, None)
    verdict: Pace = "faster" if interval.low > 0 else "slower" if interval.high < 0 else "no difference"
    return Speedup(value, math.exp(interval.low), math.exp(interval.high), verdict)


def busy_note(cells: Sequence[Cell]) -> str | None:
    """The warning that latency was measured while the machine did other things.

    Args:
        cells: cells whose `latency_ms` may hold `cpu_median`, the processor time of a pass in milliseconds.

    Returns:
        One sentence; None when no pass waited long for the processor.

    Example:
        >>> waited = Cell("a", "rte", 0, {}, {"latency_ms": {"median": 9.0, "cpu_median": 5.0, "threads": 1}})
        >>> busy_note([waited])
        'Latency: the machine was busy while 1 cell was timed (a on rte); trust no small difference in speed.'
    """
    busy = [
        f"{cell.variant} on {cell.task}"
        for cell in cells
        if (timing := _timing(cell)) and timing["median"] > _BUSY * (timing.get("cpu_median") or math.inf)
    ]
    if not busy:
        return None
    names = list(dict.fromkeys(busy))
    told = listing([*names[:2], f"{len(names) - 2} more"] if len(names) > 3 else names)
    return (
        f"Latency: the machine was busy while {count(len(busy), 'cell')} {'was' if len(busy) == 1 else 'were'} timed "
        f"({told}); trust no small difference in speed."
    )


def _timing(cell: Cell) -> Mapping[str, Any] | None:
    timing = cell.efficiency.get("latency_ms")
    return timing if timing and (timing.get("median") or 0) > 0 else None


def _comparable(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Same input length and threads, as far as both say."""
    return all(ours[name] == theirs[name] for name in ("length", "threads") if name in ours and name in theirs)


def _draws(timings: Sequence[Mapping[str, Any]], samples: int, generator: np.random.Generator) -> Array | None:
    """Log medians of resampled passes, (samples, timings); None when some timing has neither passes nor quartiles."""
    # A teacher without a seed is the partner of every seed: its noise is one and the same in all pairs.
    columns: dict[int, Array | None] = {}
    for timing in timings:
        if id(timing) not in columns:
            columns[id(timing)] = _draw(timing, samples, generator)
    drawn = [column for timing in timings if (column := columns[id(timing)]) is not None]
    return np.column_stack(drawn) if len(drawn) == len(timings) else None


def _draw(timing: Mapping[str, Any], samples: int, generator: np.random.Generator) -> Array | None:
    """Log medians of resampled passes, (samples,)."""
    passes = np.asarray(timing.get("samples") or [], dtype=float)
    if len(passes) >= 5:
        block = math.isqrt(len(passes))
        starts = generator.integers(0, len(passes), size=(samples, math.ceil(len(passes) / block)))
        rows = (starts[:, :, None] + np.arange(block)).reshape(samples, -1)[:, : len(passes)] % len(passes)
        return np.asarray(np.log(np.median(passes[rows], axis=1)), dtype=float)
    if timing.get("q1") and timing.get("q3"):
        spread = math.log(timing["q3"] / timing["q1"]) / _QUARTILE_RANGE
        return generator.normal(math.log(timing["median"]), spread, size=samples)
    return None
