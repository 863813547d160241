"""How sparsity grows while a model is trained (Zhu and Gupta 2017, arXiv:1710.01878, equation 1)."""

import math


def pruning_steps(total_steps: int, dense_share: float, final_share: float) -> tuple[int, int]:
    """The first step that prunes, and the first that trains at the full sparsity.

    Args:
        total_steps: steps of the training.
        dense_share: share of the steps before the first pruning step.
        final_share: share of the steps at the full sparsity; the last step is at it in any case.

    Returns:
        The two steps, counted from 0.

    Example:
        >>> pruning_steps(10, 0.2, 0.3), pruning_steps(1, 0.1, 0.0)
        ((2, 7), (0, 0))
    """
    last = total_steps - max(1, math.ceil(round(final_share * total_steps, 6)))
    return min(last, math.floor(dense_share * total_steps)), last


def sparsity_at(step: int, begin: int, end: int, initial: float, final: float) -> float:
    """Share of zeros at a step: s_f + (s_i - s_f) (1 - (t - t_0) / (t_1 - t_0))³.

    Args:
        step: the step.
        begin: first step that prunes; before it nothing is zero.
        end: first step at the full sparsity.
        initial: share of zeros at `begin`.
        final: share of zeros from `end` on.

    Returns:
        The share.

    Example:
        >>> [round(sparsity_at(step, 1, 5, 0.0, 0.8), 3) for step in range(7)]
        [0.0, 0.0, 0.463, 0.7, 0.788, 0.8, 0.8]
    """
    if step >= end:
        return final
    if step < begin:
        return 0.0
    return final + (initial - final) * (1 - (step - begin) / (end - begin)) ** 3
