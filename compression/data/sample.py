"""A sample of rows for what needs to see some of the data, without a seed."""

import numpy as np
from numpy.typing import NDArray


def evenly_spaced(rows: int, sample: int) -> NDArray[np.int64]:
    """Positions of a sample that reaches from the first row to the last, evenly spaced.

    Args:
        rows: number of rows.
        sample: how many to take at most.

    Returns:
        (min(rows, sample),) ascending positions.

    Example:
        >>> evenly_spaced(10, 4).tolist(), evenly_spaced(2, 4).tolist()
        ([0, 3, 6, 9], [0, 1])
    """
    return np.linspace(0, rows - 1, min(rows, sample)).round().astype(np.int64)
