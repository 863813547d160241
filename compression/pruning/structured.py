"""Heads and neurons under one budget (Kwon et al. 2022, arXiv:2204.09656): search, rearrangement, tuning."""

from typing import TYPE_CHECKING, Any

import numpy as np

from compression.architecture.conversion import shape_of_model
from compression.architecture.shape import EncoderShape
from compression.pruning.config import StructuredPruning
from compression.pruning.costs import unit_costs
from compression.pruning.evidence import Evidence
from compression.pruning.gates import gate_gradients
from compression.pruning.importance import fisher_information
from compression.pruning.mask_search import search
from compression.pruning.mask_tuning import tune
from compression.pruning.rearrangement import rearranged
from compression.pruning.removal import without_units
from compression.pruning.units import units_of

if TYPE_CHECKING:
    from compression.architecture.encoder.modeling_bertpress import BertpressPreTrainedModel


def within_budget(
    model: "BertpressPreTrainedModel",
    config: StructuredPruning,
    evidence: Evidence,
    *,
    whole: EncoderShape,
    sparsity: float,
) -> tuple["BertpressPreTrainedModel", dict[str, Any]]:
    """Prune a model to a share of the cost of all heads and neurons.

    Args:
        model: model with a head for the task; left as it is.
        config: cost, and which of the three steps are taken.
        evidence: rows that gradients and outputs are computed on.
        whole: shape whose heads and neurons are the whole cost.
        sparsity: share of that cost to remove.

    Returns:
        The pruned model, and what is told of the steps: the share of the cost that is left, and of each tuned block its
        largest factor and its residual relative to the untuned one.

    Raises:
        Interrupted: a stop was asked for.
    """
    shape = shape_of_model(model)
    length = config.length or max(1, round(evidence.mean_length))
    costs = unit_costs(whole, config.cost, length)
    total = sum(costs[block] * size for block, size in _units(whole).items())
    gradients = gate_gradients(model, evidence, ("attention", "feed_forward"))
    fisher = fisher_information(gradients)
    kept = search(
        {block: fisher[block] for block in units_of(shape, "attention")},
        {block: fisher[block] for block in units_of(shape, "feed_forward")},
        unit_costs(shape, config.cost, length),
        (1 - sparsity) * total,
    )
    removed = {}
    for block, units in kept.items():
        size = len(fisher[block])
        removed[block] = (
            rearranged(gradients[block], size - len(units))
            if config.rearrange
            else np.setdiff1d(np.arange(size), units)
        )
    pruned = without_units(model, removed)
    spent = sum(costs[block] * size for block, size in _units(shape_of_model(pruned)).items())
    told: dict[str, Any] = {"cost_left": spent / total, "length": length}
    if config.tune:
        tuning = tune(pruned, model, evidence)
        told["tuned"] = {
            block: {"largest_factor": float(np.abs(factors).max()), "residual": _ratio(*tuning.residuals[block])}
            for block, factors in tuning.factors.items()
        }
    return pruned, told


def _units(shape: EncoderShape) -> dict[str, int]:
    return units_of(shape, "attention") | units_of(shape, "feed_forward")


def _ratio(before: float, after: float) -> float:
    return after / before if before > 0 else 1.0
