"""Ranges of activations: what a layer's inputs were on some rows, and how much of it is worth a code."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compression.quantization.config import Observer
from compression.quantization.int8_static import LEVELS, ActivationCode

BINS = 2048
"""Bins of a histogram; eight for each code of the whole range."""

_FRACTIONS = np.linspace(1.0, 0.125, 113)
"""Shares of the range that are tried; the least still has a bin for every code."""

_SMALLEST = 1e-9  # probability that stands for none in a divergence


@dataclass(frozen=True)
class Observed:
    """Inputs of a layer.

    Attributes:
        low: the smallest of them.
        high: the largest.
        histogram: (BINS,) how many lie in each of equal parts of that range.
    """

    low: float
    high: float
    histogram: NDArray[np.float64]


def activation_code(observed: Observed, observer: Observer, percentile: float) -> ActivationCode:
    """The code for a layer's inputs.

    Args:
        observed: what they were.
        observer: how the range is chosen. `min-max`: everything; `percentile`: all but the tails; `mse` and `entropy`:
            that share of the range, both ends shrunk alike, whose rounding and clipping give the least mean squared
            error, or the least KL divergence of the histogram (Migacz 2017, "8-bit inference with TensorRT").
        percentile: share of the inputs, in per cent, that neither end of the range cuts off.

    Returns:
        The code.

    Example:
        >>> flat = Observed(0.0, 255.0, np.ones(BINS))
        >>> activation_code(flat, "min-max", 100.0)
        ActivationCode(scale=1.0, zero_point=0)
    """
    low, high = min(observed.low, 0.0), max(observed.high, 0.0)
    # One value alone has no range to choose from.
    if observed.high > observed.low and observer != "min-max":
        if observer == "percentile":
            low, high = _without_tails(observed, percentile)
        else:
            cost = squared_error if observer == "mse" else divergence
            costs = [cost(observed, ActivationCode.of_range(share * low, share * high)) for share in _FRACTIONS]
            share = float(_FRACTIONS[int(np.argmin(costs))])
            low, high = share * low, share * high
    return ActivationCode.of_range(low, high)


def squared_error(observed: Observed, code: ActivationCode) -> float:
    """Mean squared error of coding a histogram, each bin taken at its centre.

    Args:
        observed: the inputs.
        code: the code.

    Returns:
        The error, in the inputs' squared unit.
    """
    centres = _centres(observed)
    error = code.scale * (_codes(centres, code) - code.zero_point) - centres
    return float(np.average(error**2, weights=observed.histogram))


def divergence(observed: Observed, code: ActivationCode) -> float:
    """KL divergence of a clipped histogram from what its codes can tell of it.

    Args:
        observed: the inputs.
        code: the code.

    Returns:
        The divergence in nats: of P, where inputs beyond the range count in its outermost bins, from Q, where the
        inputs within the range are spread evenly over the bins of each code that have any.
    """
    centres = _centres(observed)
    low, high = -code.scale * code.zero_point, code.scale * (LEVELS - code.zero_point)
    inside = np.flatnonzero((centres >= low) & (centres <= high))
    if len(inside) == 0:
        return float("inf")
    first, last = inside[0], inside[-1]
    within = observed.histogram[first : last + 1]
    clipped = within.copy()
    clipped[0] += observed.histogram[:first].sum()
    clipped[-1] += observed.histogram[last + 1 :].sum()
    codes = _codes(centres[first : last + 1], code).astype(np.int64)
    used = clipped > 0
    mass = np.bincount(codes, within, LEVELS + 1)
    bins = np.bincount(codes, used, LEVELS + 1)
    spread = np.where(used, mass[codes] / np.maximum(bins[codes], 1), 0.0)
    if spread.sum() == 0:
        return float("inf")
    true, told = clipped / clipped.sum(), np.maximum(spread / spread.sum(), _SMALLEST)
    return float(np.sum(true[used] * np.log(true[used] / told[used])))


def _without_tails(observed: Observed, percentile: float) -> tuple[float, float]:
    edges = np.linspace(observed.low, observed.high, BINS + 1)
    share = np.cumsum(observed.histogram) / observed.histogram.sum()
    tail = 1 - percentile / 100
    low = edges[np.searchsorted(share, tail, side="right")] if tail > 0 else observed.low
    high = edges[min(int(np.searchsorted(share, 1 - tail, side="left")) + 1, BINS)]
    return float(low), float(high)


def _centres(observed: Observed) -> NDArray[np.float64]:
    edges = np.linspace(observed.low, observed.high, BINS + 1)
    return np.asarray((edges[1:] + edges[:-1]) / 2)


def _codes(values: NDArray[np.float64], code: ActivationCode) -> NDArray[np.float64]:
    return np.asarray(np.clip(np.round(values / code.scale) + code.zero_point, 0, LEVELS))
