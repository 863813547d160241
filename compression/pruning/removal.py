"""Heads, neurons and layers physically removed: smaller matrices, not masked ones."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compression.architecture.conversion import shape_of_model
from compression.architecture.editing import prefix_of, rebuilt
from compression.architecture.student import chosen_blocks
from compression.pruning.choices import kept_units
from compression.pruning.units import resized

if TYPE_CHECKING:
    from compression.architecture.encoder.modeling_bertpress import BertpressPreTrainedModel

Units = Mapping[str, Sequence[int] | NDArray[np.int64]]
"""Block, as `attention.0` -> positions of heads or neurons."""


def without_units(model: "BertpressPreTrainedModel", removed: Units) -> "BertpressPreTrainedModel":
    """The model without some heads and neurons; its outputs are those of the model that has them masked.

    Args:
        model: encoder with or without a head; left as it is.
        removed: block -> positions of its heads or neurons to remove.

    Returns:
        A smaller model with copies of the weights. A block that loses everything keeps its output bias.

    Example:
        >>> from compression.architecture.encoder.configuration_bertpress import BertpressConfig
        >>> from compression.architecture.encoder.modeling_bertpress import BertpressModel
        >>> config = BertpressConfig.regular(layers=2, hidden_size=8, heads=2, intermediate_size=4, vocab_size=9)
        >>> without_units(BertpressModel(config), {"attention.1": [0], "feed_forward.0": [1, 2]}).config.attention_heads
        [2, 1]
    """
    shape = shape_of_model(model)
    kept = kept_units(shape, removed)
    smaller = resized(shape, {block: len(units) for block, units in kept.items()})
    prefix, weights = prefix_of(model), dict(model.state_dict())
    for block, units in kept.items():
        size = shape.head_size if block.startswith("attention") else 1
        features = torch.from_numpy((units[:, None] * size + np.arange(size)).reshape(-1))
        own = {name: weights.pop(name) for name in list(weights) if name.startswith(f"{prefix}{block}.")}
        for name, tensor in own.items():
            weights.update(_sliced(name, tensor, features, f"{prefix}{block}."))
    return rebuilt(model, smaller, weights)


# Maps into the units lose rows, the map out of them columns; of factorised maps the factor at the units' side does.
_INTO = re.compile(r"(query|key|value|intermediate)(\.up)?\.(weight|bias)")
_OUT_OF = re.compile(r"output(\.down)?\.weight")


def _sliced(name: str, tensor: Tensor, features: Tensor, block: str) -> dict[str, Tensor]:
    part = name.removeprefix(block)
    features = features.to(tensor.device)
    if not len(features):
        if part in ("output.bias", "output.up.bias"):
            return {f"{block}output.bias": tensor}
        return {name: tensor} if part.startswith("LayerNorm") else {}
    if _INTO.fullmatch(part):
        return {name: tensor[features]}
    return {name: tensor[:, features] if _OUT_OF.fullmatch(part) else tensor}


def without_layers(model: "BertpressPreTrainedModel", removed: Sequence[int]) -> "BertpressPreTrainedModel":
    """The model without some layers; blocks that no other layer uses go with them.

    Args:
        model: encoder with or without a head; left as it is.
        removed: layers from 0.

    Returns:
        A shallower model with copies of the weights.

    Example:
        >>> from compression.architecture.encoder.configuration_bertpress import BertpressConfig
        >>> from compression.architecture.encoder.modeling_bertpress import BertpressModel
        >>> config = BertpressConfig.regular(layers=3, hidden_size=8, heads=2, intermediate_size=4, vocab_size=9)
        >>> without_layers(BertpressModel(config), [1]).config.num_hidden_layers
        2
    """
    shape, weights = chosen_blocks(
        model, tuple(layer for layer in range(shape_of_model(model).layers) if layer not in removed)
    )
    return rebuilt(model, shape, weights)
