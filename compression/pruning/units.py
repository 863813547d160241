"""What structured pruning removes, counted without torch or numpy: the heads and the neurons of each block."""

from collections.abc import Mapping

from compression.architecture.shape import EncoderShape


def units_of(shape: EncoderShape, kind: str) -> dict[str, int]:
    """Blocks of one kind with their heads or neurons; shared blocks come once, empty ones not at all.

    Args:
        shape: the encoder.
        kind: `attention` or `feed_forward`.

    Returns:
        Block, as `attention.0` -> number of heads or neurons.

    Example:
        >>> shape = EncoderShape.regular(layers=2, hidden_size=8, heads=2, intermediate_size=16, attention_groups=1)
        >>> units_of(shape, "attention"), units_of(shape, "feed_forward")
        ({'attention.0': 2}, {'feed_forward.0': 16, 'feed_forward.1': 16})
    """
    sizes = shape.attention_heads if kind == "attention" else shape.intermediate_sizes
    return {f"{kind}.{block}": size for block, size in enumerate(sizes) if size}


def resized(shape: EncoderShape, sizes: Mapping[str, int]) -> EncoderShape:
    """The shape with other numbers of heads or neurons in some blocks.

    Args:
        shape: the encoder.
        sizes: block -> its new number of units.

    Returns:
        The new shape; factorised maps of a block that becomes empty are gone.

    Example:
        >>> shape = EncoderShape.regular(layers=2, hidden_size=8, heads=2, intermediate_size=16)
        >>> resized(shape, {"attention.1": 0, "feed_forward.0": 5}).attention_heads
        (2, 0)
    """
    heads, widths = (
        tuple(sizes.get(f"{kind}.{block}", size) for block, size in enumerate(before))
        for kind, before in (("attention", shape.attention_heads), ("feed_forward", shape.intermediate_sizes))
    )
    changed = shape.edited(attention_heads=heads, intermediate_sizes=widths, ranks={})
    kept = changed.linear_maps()
    return changed.edited(ranks={name: rank for name, rank in shape.ranks.items() if name in kept})
