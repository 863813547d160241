"""The shape after pruning, as far as it is known before the run."""

from compression.architecture.shape import EncoderShape
from compression.architecture.student_shape import with_layers
from compression.errors import UserError
from compression.pruning.amounts import heads_to_remove, layers_to_remove, neurons_to_remove, spread
from compression.pruning.config import PruneConfig, StructuredPruning
from compression.pruning.costs import unit_costs
from compression.pruning.units import resized, units_of

# Word pieces that a budget is counted at where the data decide and have not been read yet.
PRESUMED_LENGTH = 128


def pruned_shape(config: PruneConfig, shape: EncoderShape) -> EncoderShape:
    """The shape after pruning.

    Numbers are exact for heads, neurons and layers; which heads, neurons or layers go may depend on data, so that
    blocks can come out differently. Under a budget heads and neurons are presumed to go in equal shares; the
    vocabulary is left as it is, since only the texts tell what they use.

    Args:
        config: what is removed.
        shape: the encoder before.

    Returns:
        The encoder after.

    Raises:
        UserError: the encoder does not have what is to be removed.

    Example:
        >>> shape = EncoderShape.regular(layers=6, hidden_size=384, heads=12, intermediate_size=1536)
        >>> pruned_shape(PruneConfig(heads={"sparsity": 0.25}), shape).attention_heads
        (9, 9, 9, 9, 9, 9)
        >>> pruned_shape(PruneConfig(layers={"count": 2}), shape).layers
        4
    """
    if config.heads is not None:
        return _smaller(shape, heads_to_remove(config.heads, shape))
    if config.neurons is not None:
        return _smaller(shape, neurons_to_remove(config.neurons, shape))
    if config.structured is not None:
        return _within_budget(config.structured, shape)
    if config.layers is not None:
        chosen = layers_to_remove(config.layers, shape.layers)
        removed = range(config.layers.count) if chosen is None else chosen
        return with_layers(shape, tuple(layer for layer in range(shape.layers) if layer not in removed))
    return shape


def _smaller(shape: EncoderShape, removed: dict[str, int]) -> EncoderShape:
    sizes = units_of(shape, "attention") | units_of(shape, "feed_forward")
    return resized(shape, {block: sizes[block] - count for block, count in removed.items()})


def _within_budget(config: StructuredPruning, shape: EncoderShape) -> EncoderShape:
    """Heads in the share of the budget, rounded up, and neurons for what is left of it."""
    heads, neurons = units_of(shape, "attention"), units_of(shape, "feed_forward")
    costs = unit_costs(shape, config.cost, config.length or PRESUMED_LENGTH)
    if not heads or not neurons:
        raise UserError("a budget for heads and neurons needs an encoder that has both")
    total = sum(costs[block] * size for block, size in (heads | neurons).items())
    fewer = _smaller(shape, spread(heads, int(config.sparsity * sum(heads.values()))))
    spent = sum(costs[block] * size for block, size in units_of(fewer, "attention").items())
    left = max(0.0, (1 - config.sparsity) * total - spent)
    dearest = sum(costs[block] * size for block, size in neurons.items())
    keep = int(min(1.0, left / dearest) * sum(neurons.values()))
    return _smaller(fewer, spread(neurons, sum(neurons.values()) - keep))
