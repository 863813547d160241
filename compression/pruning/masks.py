"""Which single weights are kept: a global threshold, one a matrix, or two of every four neighbours."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from compression.architecture.conversion import shape_of_model
from compression.architecture.editing import base_of
from compression.errors import UserError
from compression.pruning.config import WeightPruning

if TYPE_CHECKING:
    from compression.architecture.encoder.modeling_bertpress import BertpressPreTrainedModel

_GROUP, _ZEROS = 4, 2


def prunable(model: "BertpressPreTrainedModel", config: WeightPruning) -> dict[str, nn.Module]:
    """The modules whose weights are pruned.

    Args:
        model: encoder with or without a head.
        config: whether word embeddings belong to them, and the pattern.

    Returns:
        Name within the encoder -> linear map, both factors of a factorised one, or embedding.

    Raises:
        UserError: a matrix has rows that do not divide into groups of the pattern.
    """
    base = base_of(model)
    found: dict[str, nn.Module] = {}
    for name in shape_of_model(model).linear_maps():
        module = base.get_submodule(name)
        factors = {f"{name}.{part}": inner for part, inner in module.named_children()}
        found.update(factors or {name: module})
    if config.embeddings:
        found["embeddings.word_embeddings"] = base.get_submodule("embeddings.word_embeddings")
    for name, module in found.items():
        width = module.get_parameter("weight").shape[1]
        if config.pattern == "2:4" and width % _GROUP:
            raise UserError(f"pattern 2:4 needs rows of a multiple of 4 weights; those of {name} have {width}")
    return found


def keep_masks(scores: Mapping[str, Tensor], sparsity: float, config: WeightPruning) -> dict[str, Tensor]:
    """Masks that keep the weights of the highest scores.

    Under pattern 2:4 a sparsity below 0.5 prunes two weights in a share of the groups of four: where those two score
    lowest.

    Args:
        scores: matrix -> score of each of its weights.
        sparsity: share of the weights to remove, met exactly up to rounding.
        config: pattern and scope.

    Returns:
        Matrix -> True where a weight is kept; of equal scores those that come later are kept.

    Example:
        >>> scores = {"a": torch.tensor([[4.0, 1.0]]), "b": torch.tensor([[3.0, 2.0]])}
        >>> keep_masks(scores, 0.5, WeightPruning())["b"]
        tensor([[ True, False]])
    """
    if config.scope == "layer":
        return {name: _keep({name: own}, sparsity, config)[name] for name, own in scores.items()}
    return _keep(scores, sparsity, config)


def removed_count(sizes: Sequence[int], sparsity: float, config: WeightPruning) -> int:
    """How many weights `keep_masks` removes.

    Args:
        sizes: weights of each matrix.
        sparsity: share of the weights to remove.
        config: pattern and scope.

    Returns:
        Their number.

    Example:
        >>> removed_count([5, 5], 0.5, WeightPruning()), removed_count([5, 5], 0.5, WeightPruning(scope="layer"))
        (5, 4)
    """
    sizes = sizes if config.scope == "layer" else [sum(sizes)]
    if config.pattern == "unstructured":
        return sum(round(sparsity * size) for size in sizes)
    return sum(_ZEROS * round(_share_of_groups(sparsity) * (size // _GROUP)) for size in sizes)


def _share_of_groups(sparsity: float) -> float:
    return sparsity * _GROUP / _ZEROS


def _keep(scores: Mapping[str, Tensor], sparsity: float, config: WeightPruning) -> dict[str, Tensor]:
    if config.pattern == "unstructured":
        return {name: ~part.view_as(scores[name]) for name, part in _lowest(scores, sparsity).items()}
    groups = {name: own.reshape(-1, _GROUP) for name, own in scores.items()}
    two = {name: own.topk(_ZEROS, largest=False) for name, own in groups.items()}
    chosen = _lowest({name: found.values.sum(1) for name, found in two.items()}, _share_of_groups(sparsity))
    masks = {}
    for name, own in groups.items():
        pruned = chosen[name][:, None].expand(-1, _ZEROS)
        zero = torch.zeros_like(own, dtype=torch.bool).scatter_(1, two[name].indices, pruned)
        masks[name] = ~zero.view_as(scores[name])
    return masks


def _lowest(scores: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """True at exactly the share of the lowest of all values, flat; of equal ones at those that come first."""
    values = torch.cat([own.flatten() for own in scores.values()])
    count = round(share * len(values))
    lowest = torch.zeros_like(values, dtype=torch.bool)
    if count:
        threshold = values.kthvalue(count).values
        lowest = values < threshold
        ties = (values == threshold).nonzero()[: count - int(lowest.sum()), 0]
        lowest[ties] = True
    parts = torch.split(lowest, [own.numel() for own in scores.values()])
    return dict(zip(scores, parts, strict=True))
