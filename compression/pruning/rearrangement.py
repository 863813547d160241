"""Exchange of pruned units within a block by its Fisher matrix (Kwon et al. 2022, arXiv:2204.09656, section 4.2)."""

import numpy as np
from numpy.typing import NDArray


def rearranged(gradients: NDArray[np.float32], pruned: int) -> NDArray[np.int64]:
    """Choose which units of a block to prune, so that their joint effect on the loss is small.

    Units that each matter little can matter much together: with the Fisher matrix I = Σ_x g_x g_xᵀ of the block's gates
    the loss grows by about (1-m)ᵀ I (1-m) = Σ_x (Σ_{i pruned} g_{x,i})². Starting from the units of smallest I_ii,
    every other one, in ascending order of I_ii, is offered in exchange for the one whose return lowers the sum most.

    Args:
        gradients: (examples, units) gradients by the block's gates.
        pruned: how many units to prune.

    Returns:
        (pruned,) ascending positions of the units to prune. Their sum is never above that of the smallest I_ii.

    Example:
        >>> rearranged(np.array([[1.0, 1.0, -1.1]], np.float32), 2).tolist()
        [1, 2]
    """
    values = gradients.astype(np.float64)
    fisher = values.T @ values
    order = np.argsort(np.diag(fisher), kind="stable")
    if pruned in (0, len(order)):
        return np.sort(order[:pruned])
    members = order[: pruned + 1].copy()  # the last place is for the unit on offer
    joint = fisher[:, members[:-1]].sum(axis=1)  # for each unit its product with the sum of the pruned ones
    for offered in order[pruned:].tolist():
        members[-1] = offered
        joint += fisher[:, offered]
        # |s - g_j|² = |s|² - 2 s·g_j + |g_j|², with s the sum over all members.
        gain = fisher[members, members] - 2 * joint[members]
        leaving = int(np.argmin(gain))
        joint -= fisher[:, members[leaving]]
        members[leaving] = members[-1]
    return np.sort(members[:-1])
