"""What pruning came to, in the numbers that a table or a run page shows."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from compression.architecture.checkpoint import count_parameters
from compression.architecture.conversion import shape_of_model
from compression.architecture.counts import multiply_accumulates
from compression.architecture.editing import base_of
from compression.architecture.shape import EncoderShape

if TYPE_CHECKING:
    from compression.architecture.encoder.modeling_bertpress import BertpressPreTrainedModel

COUNTED_LENGTH = 128


def nonzero_parameters(model: "BertpressPreTrainedModel") -> int:
    """Number of parameters that are not 0, shared ones counted once.

    Args:
        model: any model.

    Returns:
        Their number.
    """
    return sum(int(parameter.count_nonzero()) for parameter in model.parameters())


def removed_by_layer(before: EncoderShape, after: EncoderShape, left: Sequence[int]) -> dict[str, list[int]]:
    """What each layer lost.

    Args:
        before: shape before pruning.
        after: shape after.
        left: for each layer of the shape after, its number before.

    Returns:
        `heads` and `neurons` that each layer left has lost, and the numbers of the `layers` that are gone.

    Example:
        >>> shape = EncoderShape.regular(layers=2, hidden_size=8, heads=4, intermediate_size=16)
        >>> removed_by_layer(shape, shape.edited(attention_heads=(4, 1)), [0, 1])
        {'heads': [0, 3], 'neurons': [0, 0], 'layers': []}
    """
    heads, neurons = (
        [
            getattr(before, sizes)[getattr(before, blocks)[old]] - getattr(after, sizes)[getattr(after, blocks)[new]]
            for new, old in enumerate(left)
        ]
        for sizes, blocks in (("attention_heads", "attention_blocks"), ("intermediate_sizes", "feed_forward_blocks"))
    )
    gone = [layer for layer in range(before.layers) if layer not in left]
    return {"heads": heads, "neurons": neurons, "layers": gone}


def summary(
    before: "BertpressPreTrainedModel", after: "BertpressPreTrainedModel", left: Sequence[int]
) -> dict[str, Any]:
    """The numbers of a pruning.

    Args:
        before: the model before.
        after: the model after.
        left: for each layer of the model after, its number before.

    Returns:
        `parameters` before and after, those that are not 0, multiply-accumulates at 128 word pieces, and what was
        `removed`. Zeros are counted, but dense arithmetic neither skips nor saves them: they are in `parameters` and in
        `macs` all the same.
    """
    whole, smaller = shape_of_model(before), shape_of_model(after)
    pooler = base_of(after).pooler is not None
    removed: dict[str, Any] = {**removed_by_layer(whole, smaller, left)}
    removed["word_pieces"] = whole.vocab_size - smaller.vocab_size
    return {
        "parameters": count_parameters(after),
        "parameters_before": count_parameters(before),
        "nonzero_parameters": nonzero_parameters(after),
        "macs": multiply_accumulates(smaller, COUNTED_LENGTH, pooler=pooler),
        "macs_before": multiply_accumulates(whole, COUNTED_LENGTH, pooler=pooler),
        "macs_length": COUNTED_LENGTH,
        "removed": removed,
    }
