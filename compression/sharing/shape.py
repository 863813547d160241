"""What sharing makes of a shape, and which shapes it cannot be applied to."""

from collections.abc import Sequence

from compression.architecture.shape import LINEAR_NAMES, EncoderShape, grouped
from compression.errors import UserError
from compression.sharing.config import ShareConfig

KINDS = {"none": (), "attention": ("attention",), "ffn": ("feed_forward",), "all": ("attention", "feed_forward")}
"""Kinds of block that each mode shares."""


def groups_of(config: ShareConfig, shape: EncoderShape) -> list[range]:
    """Layers of each group.

    Args:
        config: the stage's configuration.
        shape: the encoder before the stage.

    Returns:
        For each group its layers.

    Raises:
        UserError: the groups do not divide the layers.

    Example:
        >>> shape = EncoderShape.regular(layers=6, hidden_size=8, heads=2, intermediate_size=16)
        >>> groups_of(ShareConfig(groups=2), shape)
        [range(0, 3), range(3, 6)]
    """
    size = grouped(shape.layers, config.groups).count(0)
    return [range(first, first + size) for first in range(0, shape.layers, size)]


def blocks_of(shape: EncoderShape, kind: str) -> tuple[int, ...]:
    """For each layer the block of a kind that it uses.

    Args:
        shape: the encoder.
        kind: `attention` or `feed_forward`.

    Returns:
        Block numbers.
    """
    return shape.attention_blocks if kind == "attention" else shape.feed_forward_blocks


def shape_after(config: ShareConfig, shape: EncoderShape) -> EncoderShape:
    """The shape that sharing leaves.

    Args:
        config: the stage's configuration.
        shape: the encoder before the stage.

    Returns:
        The shape after it; every group has one block of each kind that is shared.

    Raises:
        UserError: the groups do not divide the layers, blocks of a group differ in size or rank, or layers of two
            groups share a block already.

    Example:
        >>> shape = EncoderShape.regular(layers=4, hidden_size=8, heads=2, intermediate_size=16)
        >>> after = shape_after(ShareConfig(mode="ffn", groups=2), shape)
        >>> after.attention_blocks, after.feed_forward_blocks
        ((0, 1, 2, 3), (0, 0, 1, 1))
    """
    changes: dict[str, object] = {}
    ranks = dict(shape.ranks)
    for kind in KINDS[config.mode]:
        groups, used = groups_of(config, shape), blocks_of(shape, kind)
        _refuse_taking_apart(kind, groups, used)
        for group in groups:
            _refuse_unequal(kind, group, shape)
        first = [used[group[0]] for group in groups]
        sizes = shape.attention_heads if kind == "attention" else shape.intermediate_sizes
        field = "attention_heads" if kind == "attention" else "intermediate_sizes"
        changes[field] = tuple(sizes[block] for block in first)
        changes[f"{kind}_blocks"] = grouped(shape.layers, config.groups)
        ranks = {name: rank for name, rank in ranks.items() if not name.startswith(f"{kind}.")}
        for number, block in enumerate(first):
            ranks |= {f"{kind}.{number}.{name}": rank for name, rank in _ranks(shape, kind, block).items()}
    return shape.edited(**changes, ranks=ranks)


def _ranks(shape: EncoderShape, kind: str, block: int) -> dict[str, int]:
    named = {name: f"{kind}.{block}.{name}" for name in LINEAR_NAMES[kind]}
    return {name: shape.ranks[whole] for name, whole in named.items() if whole in shape.ranks}


def _refuse_taking_apart(kind: str, groups: Sequence[range], used: Sequence[int]) -> None:
    where: dict[int, tuple[int, int]] = {}
    for number, group in enumerate(groups):
        for layer in group:
            other, its_group = where.setdefault(used[layer], (layer, number))
            if its_group != number:
                raise UserError(
                    f"layers {other} and {layer} share {_name(kind)} weights already, and {len(groups)} groups would "
                    "take them apart; allowed: groups that keep them together, such as 1"
                )


def _refuse_unequal(kind: str, group: range, shape: EncoderShape) -> None:
    """Layers can only share blocks of one size, and of one rank where maps are factorised."""
    used, first = blocks_of(shape, kind), group[0]
    sizes = shape.attention_heads if kind == "attention" else shape.intermediate_sizes
    unit = "heads" if kind == "attention" else "feed-forward neurons"
    for layer in group:
        size, expected = sizes[used[layer]], sizes[used[first]]
        if size != expected:
            raise UserError(
                f"layers {first} and {layer} cannot share {_name(kind)} weights: they have {expected} and {size} {unit}"
            )
        ranks, first_ranks = _ranks(shape, kind, used[layer]), _ranks(shape, kind, used[first])
        for name in LINEAR_NAMES[kind]:
            one, other = first_ranks.get(name), ranks.get(name)
            if one != other:
                raise UserError(
                    f"layers {first} and {layer} cannot share {_name(kind)} weights: the ranks of their {name} map are "
                    f"{one or 'full'} and {other or 'full'}"
                )


def _name(kind: str) -> str:
    return kind.replace("_", "-")
