"""Timing of several things in turn, so that a busy machine is busy for all of them: only ratios are worth anything."""

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Timing:
    """Times of one thing, as ratios to the first one of the same round.

    Attributes:
        milliseconds: median processor time of a call.
        ratio: median over rounds of the first one's processor time over this one's: above 1 is faster.
        low: 25th percentile of the ratio.
        high: 75th percentile of the ratio.
    """

    milliseconds: float
    ratio: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.milliseconds:9.2f} ms  {self.ratio:6.3f}x ({self.low:.3f}-{self.high:.3f})"


def interleaved(calls: Mapping[str, Callable[[], object]], *, rounds: int, warmup: int = 2) -> dict[str, Timing]:
    """Time calls in rounds, in each of which every call comes once, at another place than in the round before.

    Processor time is taken, which a busy machine stretches less than wall time; use one thread.

    Args:
        calls: name -> what to time; the first is what the others are compared with.
        rounds: number of rounds.
        warmup: untimed rounds before.

    Returns:
        Name -> its timing.
    """
    names = list(calls)
    times: dict[str, list[float]] = {name: [] for name in names}
    gc.collect()
    gc.disable()
    try:
        for number in range(warmup + rounds):
            for place in range(len(names)):
                name = names[(number + place) % len(names)]
                started = time.process_time()
                calls[name]()
                if number >= warmup:
                    times[name].append(time.process_time() - started)
    finally:
        gc.enable()
    first = np.array(times[names[0]])
    found = {}
    for name, taken in times.items():
        ratios = first / np.array(taken)
        low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
        found[name] = Timing(float(1000 * np.median(taken)), float(middle), float(low), float(high))
    return found
