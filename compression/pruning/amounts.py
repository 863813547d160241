"""How much is removed, exactly and before anything runs: torch-free, so that plans and checks can ask."""

from collections.abc import Mapping

from compression.architecture.shape import EncoderShape
from compression.errors import UserError
from compression.pruning.config import HeadPruning, LayerPruning, NeuronPruning, Scope
from compression.pruning.units import units_of


def heads_to_remove(config: HeadPruning, shape: EncoderShape) -> dict[str, int]:
    """How many heads each attention block loses; under scope global the sum alone is meant.

    Args:
        config: the request.
        shape: the encoder before.

    Returns:
        Block -> heads to remove.

    Raises:
        UserError: more heads than there are, none, or a count that does not spread evenly.

    Example:
        >>> shape = EncoderShape.regular(layers=2, hidden_size=8, heads=4, intermediate_size=16)
        >>> heads_to_remove(HeadPruning(sparsity=0.5, scope="layer"), shape)
        {'attention.0': 2, 'attention.1': 2}
    """
    sizes = units_of(shape, "attention")
    if config.count is None:
        return _share(sizes, config.sparsity or 0.0, config.scope, "heads")
    _check_amount(config.count, sum(sizes.values()), "heads")
    if config.scope == "layer" and (config.count % len(sizes) or config.count // len(sizes) > min(sizes.values())):
        raise UserError(
            f"{config.count} heads cannot be taken evenly from {len(sizes)} attention blocks with "
            f"{', '.join(map(str, sizes.values()))} heads; use scope global, or a multiple of {len(sizes)}"
        )
    return spread(sizes, config.count)


def neurons_to_remove(config: NeuronPruning, shape: EncoderShape) -> dict[str, int]:
    """How many neurons each feed-forward block loses; under scope global the sum alone is meant.

    Args:
        config: the request.
        shape: the encoder before.

    Returns:
        Block -> neurons to remove.

    Raises:
        UserError: the share is none of the neurons, or all.

    Example:
        >>> shape = EncoderShape.regular(layers=2, hidden_size=8, heads=4, intermediate_size=16)
        >>> neurons_to_remove(NeuronPruning(sparsity=0.25), shape)
        {'feed_forward.0': 4, 'feed_forward.1': 4}
    """
    return _share(units_of(shape, "feed_forward"), config.sparsity, config.scope, "neurons")


def layers_to_remove(config: LayerPruning, layers: int) -> tuple[int, ...] | None:
    """Which layers a strategy removes (Sajjad et al. 2020, arXiv:2004.03844, section 3).

    Args:
        config: the request.
        layers: number of layers.

    Returns:
        Their numbers from 0, ascending; None where data decide (`contribution`).

    Raises:
        UserError: there are not that many layers, or not that many alternate ones.

    Example:
        >>> [layers_to_remove(LayerPruning(count=2, strategy=name), 6) for name in ("top", "bottom", "alternate")]
        [(4, 5), (0, 1), (2, 4)]
        >>> layers_to_remove(LayerPruning(count=2, strategy="symmetric"), 6)
        (2, 3)
    """
    count = config.count
    _check_amount(count, layers, "layers")
    if config.strategy.startswith("alternate"):
        highest = layers - 1 if config.strategy == "alternate-top" else layers - 2
        alternate = range(highest, -1, -2)
        if count > len(alternate):
            raise UserError(
                f"strategy {config.strategy!r} can remove at most {len(alternate)} of {layers} layers, not {count}"
            )
        return tuple(sorted(alternate[:count]))
    first_kept = (layers - count + 1) // 2
    return {
        "top": tuple(range(layers - count, layers)),
        "bottom": tuple(range(count)),
        "symmetric": tuple(range(first_kept, first_kept + count)),
    }.get(config.strategy)


def spread(sizes: Mapping[str, int], count: int) -> dict[str, int]:
    """Spread a number of removed units over blocks in proportion to their sizes.

    Args:
        sizes: block -> its units.
        count: units to remove, at most all.

    Returns:
        Block -> units to remove.

    Example:
        >>> spread({"a": 4, "b": 4, "c": 2}, 6)
        {'a': 3, 'b': 2, 'c': 1}
    """
    total = sum(sizes.values())
    shares = {block: count * size // total for block, size in sizes.items()}
    rest = count - sum(shares.values())
    for block in [block for block, size in sizes.items() if shares[block] < size][:rest]:
        shares[block] += 1
    return shares


def _share(sizes: Mapping[str, int], sparsity: float, scope: Scope, what: str) -> dict[str, int]:
    total = sum(sizes.values())
    if scope == "layer":
        each = {block: round(sparsity * size) for block, size in sizes.items()}
        _check_amount(sum(each.values()), total, what, f" at sparsity {sparsity:g} in each layer")
        return each
    _check_amount(round(sparsity * total), total, what, f" at sparsity {sparsity:g}")
    return spread(sizes, round(sparsity * total))


def _check_amount(count: int, total: int, what: str, of: str = "") -> None:
    if not 0 < count < total:
        raise UserError(
            f"{count} of {total} {what} would be removed{of}; allowed: 1 to {total - 1}"
            if total > 1
            else f"the encoder has {total} {what}: none can be removed"
        )
