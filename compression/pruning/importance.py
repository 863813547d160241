"""What heads and neurons contribute: by the loss's gradient, by their weights, or by chance."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from compression.architecture.conversion import shape_of_model
from compression.architecture.editing import base_of
from compression.pruning.units import units_of

if TYPE_CHECKING:
    from compression.architecture.encoder.modeling_bertpress import BertpressPreTrainedModel

Gradients = Mapping[str, NDArray[np.float32]]


def mean_absolute(gradients: Gradients) -> dict[str, NDArray[np.float64]]:
    """Mean over examples of the absolute gradient by the gate.

    For heads this is Michel et al. 2019 (arXiv:1905.10650), equation 2: |Att_h(x)ᵀ ∂L(x)/∂Att_h(x)|, the absolute value
    of each example before the mean. For neurons it is the first-order Taylor criterion (Molchanov et al. 2016,
    arXiv:1611.06440, equation 8).

    Args:
        gradients: block -> (examples, units).

    Returns:
        Block -> (units,) importance.

    Example:
        >>> mean_absolute({"attention.0": np.array([[1.0, -2.0], [-1.0, 0.0]])})["attention.0"].tolist()
        [1.0, 1.0]
    """
    return {block: np.abs(values.astype(np.float64)).mean(axis=0) for block, values in gradients.items()}


def fisher_information(gradients: Gradients) -> dict[str, NDArray[np.float64]]:
    """Diagonal of the empirical Fisher information of the gates: mean over examples of the squared gradient.

    Kwon et al. 2022, arXiv:2204.09656, equation 6.

    Args:
        gradients: block -> (examples, units).

    Returns:
        Block -> (units,) importance.

    Example:
        >>> fisher_information({"attention.0": np.array([[1.0, -2.0], [-1.0, 0.0]])})["attention.0"].tolist()
        [1.0, 2.0]
    """
    return {block: np.square(values.astype(np.float64)).mean(axis=0) for block, values in gradients.items()}


def magnitudes(model: "BertpressPreTrainedModel", kind: str) -> dict[str, NDArray[np.float64]]:
    """L2 norm of all weights of a head (its rows of query, key and value, its columns of the output) or of a neuron.

    Args:
        model: the encoder.
        kind: `attention` or `feed_forward`.

    Returns:
        Block -> (units,) importance.
    """
    base, found = base_of(model), {}
    for block, units in units_of(shape_of_model(model), kind).items():
        squares = torch.zeros(units, dtype=torch.float64)
        for name, module in base.get_submodule(block).named_children():
            if name in ("query", "key", "value", "intermediate", "output"):
                weight = effective_weight(module).double()
                by_feature = weight.square().sum(0 if name == "output" else 1)
                squares += by_feature.view(units, -1).sum(1).cpu()
        found[block] = squares.sqrt().numpy()
    return found


def effective_weight(module: torch.nn.Module) -> torch.Tensor:
    """The matrix of a linear map, multiplied out where it is factorised; (out, in), detached."""
    if isinstance(module, torch.nn.Linear):
        return module.weight.detach()
    down, up = module.get_submodule("down"), module.get_submodule("up")
    assert isinstance(down, torch.nn.Linear) and isinstance(up, torch.nn.Linear)  # noqa: S101, PT018
    return (up.weight @ down.weight).detach()


def random_importance(model: "BertpressPreTrainedModel", kind: str, seed: int) -> dict[str, NDArray[np.float64]]:
    """A random order: the baseline that any importance has to beat.

    Args:
        model: the encoder.
        kind: `attention` or `feed_forward`.
        seed: another seed gives another order.

    Returns:
        Block -> (units,) importance, uniform in [0, 1).
    """
    draws = np.random.PCG64(np.random.SeedSequence(seed))
    return {block: draws.random_raw(units) / 2.0**64 for block, units in units_of(shape_of_model(model), kind).items()}


def normalized(importances: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """Importances divided by their L2 norm in each block, after which blocks compare (Michel et al. 2019, section 2.3).

    Args:
        importances: block -> (units,).

    Returns:
        Block -> (units,) with norm 1; all 0 where the norm is 0.

    Example:
        >>> normalized({"attention.0": np.array([3.0, 4.0])})["attention.0"].tolist()
        [0.6, 0.8]
    """
    return {block: values / (np.linalg.norm(values) or 1.0) for block, values in importances.items()}
