"""What heads and neurons cost: the currency of budgets."""

from typing import Literal

from compression.architecture.counts import multiply_accumulates, parameters_by_part
from compression.architecture.shape import EncoderShape
from compression.pruning.units import resized, units_of

Cost = Literal["macs", "parameters"]


def unit_costs(shape: EncoderShape, cost: Cost, length: int) -> dict[str, int]:
    """Cost of one head or neuron of each block, counting every use of a shared block where it is computed.

    Multiply-accumulates are those of Kwon et al. 2022 (arXiv:2204.09656): length·(3Hd + 2·length·d + dH) a head,
    2·length·H a neuron.

    Args:
        shape: the encoder.
        cost: multiply-accumulates or parameters.
        length: word pieces that multiply-accumulates are counted at.

    Returns:
        Block -> cost of one of its units.

    Example:
        >>> shape = EncoderShape.regular(layers=1, hidden_size=768, heads=12, intermediate_size=3072)
        >>> unit_costs(shape, "macs", 10), unit_costs(shape, "parameters", 10)
        ({'attention.0': 1978880, 'feed_forward.0': 15360}, {'attention.0': 196800, 'feed_forward.0': 1537})
    """
    sizes = units_of(shape, "attention") | units_of(shape, "feed_forward")
    # Two against one unit: an empty block gives up more than its units, such as the other half of a factorised map.
    return {
        block: _count(resized(shape, {block: 2}), cost, length) - _count(resized(shape, {block: 1}), cost, length)
        for block in sizes
    }


def _count(shape: EncoderShape, cost: Cost, length: int) -> int:
    if cost == "macs":
        return multiply_accumulates(shape, length)
    return sum(parameters_by_part(shape).values())
