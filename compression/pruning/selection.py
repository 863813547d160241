"""Which heads, neurons and layers go in a round, by the importance that is asked for."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from compression.architecture.conversion import shape_of_model
from compression.architecture.shape import EncoderShape
from compression.pruning.amounts import heads_to_remove, layers_to_remove, neurons_to_remove
from compression.pruning.choices import least_important
from compression.pruning.config import HeadPruning, LayerPruning, NeuronPruning
from compression.pruning.contribution import least_contributing, similarities
from compression.pruning.evidence import Evidence
from compression.pruning.gates import gate_gradients
from compression.pruning.importance import (
    fisher_information,
    magnitudes,
    mean_absolute,
    normalized,
    random_importance,
)
from compression.pruning.units import units_of

if TYPE_CHECKING:
    from compression.architecture.encoder.modeling_bertpress import BertpressPreTrainedModel


def importances(
    model: "BertpressPreTrainedModel",
    config: HeadPruning | NeuronPruning,
    evidence: Evidence | None,
    seed: int,
) -> dict[str, NDArray[np.float64]]:
    """Importance of each head or neuron, by the criterion of a configuration.

    Args:
        model: the encoder; with a head for the task where gradient and fisher need its loss.
        config: whose importance, and which.
        evidence: rows for gradient and fisher.
        seed: seed of random.

    Returns:
        Block -> (units,) importance, normalised where that is asked for.
    """
    kind = "attention" if isinstance(config, HeadPruning) else "feed_forward"
    if config.importance == "random":
        return random_importance(model, kind, seed)
    if config.importance == "magnitude":
        found = magnitudes(model, kind)
    else:
        assert evidence is not None  # noqa: S101  # `apply` sees to it
        gradients = gate_gradients(model, evidence, (kind,))
        found = mean_absolute(gradients) if config.importance == "gradient" else fisher_information(gradients)
    return normalized(found) if config.normalize else found


def units_to_remove(
    found: Mapping[str, NDArray[np.float64]],
    config: HeadPruning | NeuronPruning,
    *,
    whole: EncoderShape,
    present: EncoderShape,
    share: float,
) -> dict[str, NDArray[np.int64]]:
    """The least important units, so many that a share of all that is to be removed is gone afterwards.

    Args:
        found: importance of each unit that is there.
        config: how much is removed in the end, and whether from all layers together.
        whole: shape before the first round.
        present: shape before this one.
        share: share of the removal that is done after this round.

    Returns:
        Block -> positions of the units to remove.
    """
    if isinstance(config, HeadPruning):
        kind, amounts = "attention", heads_to_remove(config, whole)
    else:
        kind, amounts = "feed_forward", neurons_to_remove(config, whole)
    before, now = units_of(whole, kind), units_of(present, kind)
    gone = {block: size - now.get(block, 0) for block, size in before.items()}
    if config.scope == "global":
        return least_important(found, round(share * sum(amounts.values())) - sum(gone.values()))
    removed: dict[str, NDArray[np.int64]] = {}
    for block in found:
        removed |= least_important({block: found[block]}, round(share * amounts[block]) - gone[block])
    return removed


def next_layers(
    model: "BertpressPreTrainedModel",
    config: LayerPruning,
    evidence: Evidence | None,
    *,
    left: Sequence[int],
    depth: int,
    share: float,
) -> tuple[int, ...]:
    """The layers to remove in a round; of several rounds the first ones take the upper layers of a strategy.

    Args:
        model: the encoder as it is before the round.
        config: how many, and which strategy.
        evidence: rows for contribution.
        left: the layers that are there, by their numbers before the first round.
        depth: layers before the first round.
        share: share of the removal that is done after this round.

    Returns:
        Their numbers before the first round, ascending.
    """
    done = round(share * config.count)
    chosen = layers_to_remove(config, depth)
    if chosen is not None:
        return tuple(layer for layer in chosen[len(chosen) - done :] if layer in left)
    assert evidence is not None  # noqa: S101  # `apply` sees to it
    count = done - (depth - shape_of_model(model).layers)
    return tuple(left[position] for position in least_contributing(similarities(model, evidence), count))
