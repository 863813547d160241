"""The format of quantized model folders: which layer is stored how, as `config.json` says it.

Importing this module teaches transformers the format, so that `from_pretrained` loads a folder that was saved in it.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, get_args

import torch
from torch import nn
from transformers.quantizers import HfQuantizer
from transformers.quantizers.auto import (
    AUTO_QUANTIZATION_CONFIG_MAPPING,
    register_quantization_config,
    register_quantizer,
)
from transformers.utils.quantization_config import QuantizationConfigMixin

from compression.quantization.config import Scheme
from compression.quantization.int8_modules import Int8Embedding, Int8Linear
from compression.quantization.int8_static import ActivationCode, Int8StaticLinear
from compression.quantization.weight_codecs import weight_codec
from compression.quantization.weight_modules import CodedEmbedding, CodedLinear

if TYPE_CHECKING:
    from transformers import PreTrainedModel

METHOD = "bertpress"
"""`quant_method` of the format in `config.json`."""

METHODS = (METHOD, "bertpress-int8")
"""All names that are read; the second is that of folders from before there was more than int8-dynamic."""

PLAIN = "fp32"
"""What stands in `layers` for a layer that is left as it is."""

CASTS = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Schemes that cast the whole model, and what to."""

CODED_LAYERS = (Int8Linear, Int8Embedding, CodedLinear, CodedEmbedding)
"""Classes of layers that hold codes in place of weights."""


class QuantizedFormat(QuantizationConfigMixin):  # type: ignore[misc]
    """What `config.json` says of a quantized model.

    Args:
        scheme: scheme of every layer that nothing else is said of.
        embeddings: whether embedding tables are stored by the scheme too.
        exclude: patterns of layer names that stay fp32.
        layers: name of a layer within the encoder -> its own scheme, or `fp32`.
        group_size: columns that share a scale, in schemes with groups.
        fake_activations: whether inputs of 8-bit float layers are rounded too.
        quant_method: the name of the format.

    Raises:
        ValueError: another format, or a scheme that does not exist.
    """

    def __init__(
        self,
        scheme: str = "int8-dynamic",
        embeddings: bool = True,
        exclude: tuple[str, ...] | list[str] = (),
        layers: dict[str, str] | None = None,
        group_size: int = 64,
        fake_activations: bool = False,
        quant_method: str = METHOD,
    ) -> None:
        if quant_method not in METHODS:
            raise ValueError(f"quant_method is {quant_method!r}, not {METHOD!r}")
        allowed = (*get_args(Scheme), PLAIN)
        for given in (scheme, *(layers or {}).values()):
            if given not in allowed:
                raise ValueError(f"unknown scheme {given!r}; allowed: {', '.join(allowed)}")
        if group_size < 1:
            raise ValueError(f"group_size is {group_size}; allowed: 1 or more")
        self.quant_method = quant_method
        self.embeddings = embeddings
        if quant_method != METHOD:  # says nothing else, and is written as it was read
            return
        self.scheme = scheme
        self.exclude = list(exclude)
        self.layers = dict(layers or {})
        self.group_size = group_size
        self.fake_activations = fake_activations

    def scheme_of(self, name: str, layer: nn.Module) -> str:
        """How a layer is stored.

        Args:
            name: its name within the encoder.
            layer: a linear layer or an embedding table.

        Returns:
            A scheme, or `fp32`.
        """
        if self.quant_method != METHOD:
            return "int8-dynamic" if self.embeddings or isinstance(layer, nn.Linear) else PLAIN
        if any(fnmatchcase(name, pattern) for pattern in self.exclude):
            return PLAIN
        if not self.embeddings and isinstance(layer, nn.Embedding):
            return PLAIN
        return self.layers.get(name, self.scheme)


class BertpressQuantizer(HfQuantizer):  # type: ignore[misc]
    """Puts layers of codes in the place of a model's own, before transformers loads weights into them."""

    requires_calibration = True  # only folders that are quantized already can be loaded through it

    def _process_model_before_weight_loading(self, model: "PreTrainedModel", **_: Any) -> "PreTrainedModel":
        described = self.quantization_config
        with torch.device("meta"):
            replace(model, lambda name, layer: _empty_layer(layer, described.scheme_of(name, layer), described))
        return model

    def _process_model_after_weight_loading(self, model: "PreTrainedModel", **_: Any) -> "PreTrainedModel":
        return model.requires_grad_(False)

    def is_serializable(self) -> bool:
        """Whether such a model can be saved."""
        return True

    @property
    def is_trainable(self) -> bool:
        """Whether such a model can be trained."""
        return False


# A module that is reloaded, as in a notebook, would register twice, which transformers refuses.
for _name in METHODS:
    if _name not in AUTO_QUANTIZATION_CONFIG_MAPPING:
        register_quantization_config(_name)(QuantizedFormat)
        register_quantizer(_name)(BertpressQuantizer)


def layers_of(model: "PreTrainedModel") -> dict[str, nn.Linear | nn.Embedding]:
    """The layers of a model's encoder that can be quantized.

    The classification head is none of them: it is small, and its rounding would go straight into the logits.

    Args:
        model: a floating-point model.

    Returns:
        Name within the encoder -> linear layer or embedding table. A layer that is used in several places has the first
        of its names.
    """
    return {
        name: module for name, module in model.base_model.named_modules() if type(module) in (nn.Linear, nn.Embedding)
    }


def replace(model: "PreTrainedModel", make: Callable[[str, Any], nn.Module | None]) -> None:
    """Put other layers in the place of those of a model's encoder.

    Args:
        model: a floating-point model; changed in place.
        make: name and layer, as of `layers_of` -> what to put in its place; None leaves it.
    """
    made = {layer: make(name, layer) for name, layer in layers_of(model).items()}
    _exchange(model, {layer: new for layer, new in made.items() if new is not None})


@contextmanager
def exchanged(model: "PreTrainedModel", layers: Mapping[nn.Module, nn.Module]) -> Iterator[None]:
    """Other layers in the place of a model's own, for a while.

    Args:
        model: the model.
        layers: own layer -> the other.
    """
    _exchange(model, layers)
    try:
        yield
    finally:
        _exchange(model, {other: own for own, other in layers.items()})


def _exchange(model: "PreTrainedModel", layers: Mapping[nn.Module, nn.Module]) -> None:
    encoder = model.base_model
    # A layer that is used in two places is listed twice, and stays one layer.
    for name, module in list(encoder.named_modules(remove_duplicate=False)):
        if module in layers:
            parent, _, child = name.rpartition(".")
            setattr(encoder.get_submodule(parent), child, layers[module])


def coded_layer(
    layer: nn.Linear | nn.Embedding,
    scheme: str,
    described: QuantizedFormat,
    code: ActivationCode | None = None,
    *,
    per_channel: bool = True,
) -> nn.Module | None:
    """Quantize a layer.

    Args:
        layer: layer with finite weights.
        scheme: its scheme, or `fp32`.
        described: options of the schemes.
        code: how its input is coded, in the scheme int8-static.
        per_channel: a scale for each row of the matrix, or one for all, in the int8 schemes with products.

    Returns:
        The layer of codes; None for `fp32`.
    """
    if scheme == PLAIN or scheme in CASTS:
        return None
    codec = weight_codec(scheme, getattr(described, "group_size", 0))
    if isinstance(layer, nn.Embedding):
        if codec is None:
            return Int8Embedding.from_float(layer, per_channel=per_channel)
        return CodedEmbedding.from_float(layer, codec)
    if codec is not None:
        return CodedLinear.from_float(layer, codec, fake_activations=described.fake_activations)
    if scheme == "int8-static":
        return Int8StaticLinear.from_float(layer, code, per_channel=per_channel)
    return Int8Linear.from_float(layer, per_channel=per_channel)


def _empty_layer(layer: nn.Linear | nn.Embedding, scheme: str, described: QuantizedFormat) -> nn.Module | None:
    """As `coded_layer`, without weights."""
    if scheme == PLAIN or scheme in CASTS:
        return None
    codec = weight_codec(scheme, getattr(described, "group_size", 0))
    if isinstance(layer, nn.Embedding):
        return Int8Embedding.like(layer) if codec is None else CodedEmbedding.like(layer, codec)
    if codec is not None:
        return CodedLinear.like(layer, codec, fake_activations=described.fake_activations)
    return (Int8StaticLinear if scheme == "int8-static" else Int8Linear).like(layer)
