"""Quantizes a model: every layer of its encoder is stored as its scheme says."""

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import torch
from torch import nn

from compression.errors import UserError, did_you_mean
from compression.quantization.config import QuantizeConfig
from compression.quantization.format import (
    CASTS,
    PLAIN,
    BertpressQuantizer,
    QuantizedFormat,
    coded_layer,
    layers_of,
    replace,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def quantize(model: "PreTrainedModel", described: QuantizedFormat | None = None) -> "PreTrainedModel":
    """Quantize the linear layers of a model's encoder, and its embedding tables.

    The classification head stays fp32: it is small, and its rounding would go straight into the logits. The schemes
    bf16 and fp16 cast everything.

    Args:
        model: a floating-point model; changed in place.
        described: which layer is stored how; by default all in int8-dynamic.

    Returns:
        The same model, in evaluation mode; it cannot be trained any more.

    Raises:
        UserError: the model is quantized already, has no linear layer to quantize, has weights that are not finite or,
            for fp16, too large; or a name or pattern fits no layer.

    Example:
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> shape = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
        >>> type(quantize(BertForSequenceClassification(shape)).bert.pooler.dense).__name__
        'Int8Linear'
    """
    described = described or QuantizedFormat()
    check_quantizable(model, described)
    if described.scheme in CASTS:
        model.to(CASTS[described.scheme])
        model.config.dtype = CASTS[described.scheme]
    else:
        replace(model, lambda name, layer: coded_layer(layer, described.scheme_of(name, layer), described))
    model.config.quantization_config = described
    model.hf_quantizer = BertpressQuantizer(described, pre_quantized=True)
    model.is_quantized = True
    return model.requires_grad_(False).eval()


def apply(model: "PreTrainedModel", config: QuantizeConfig) -> "PreTrainedModel":
    """Quantize a model as a `quantize` stage asks for.

    Args:
        model: a floating-point model; changed in place.
        config: the stage's configuration.

    Returns:
        The same model.

    Raises:
        UserError: the model cannot be quantized; see `quantize`.
    """
    return quantize(model, described_by(config))


def described_by(config: QuantizeConfig) -> QuantizedFormat:
    """The format that a configuration asks for.

    Args:
        config: the stage's configuration.

    Returns:
        The format.
    """
    return QuantizedFormat(
        scheme=config.scheme,
        embeddings=config.embeddings,
        exclude=config.exclude,
        group_size=config.group_size,
        fake_activations=config.fake_activations,
    )


def check_quantizable(model: "PreTrainedModel", described: QuantizedFormat) -> None:
    """Refuse a model that cannot be quantized as asked, before it is changed.

    Args:
        model: the model.
        described: which layer is to be stored how.

    Raises:
        UserError: see `quantize`.
    """
    if getattr(model, "is_quantized", False):
        raise UserError("the model is quantized already")
    largest = torch.finfo(CASTS.get(described.scheme, torch.float32)).max
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise UserError(f"weight {name} is not finite: the model has diverged in training")
        if parameter.abs().amax() > largest:
            raise UserError(
                f"weight {name} has numbers beyond {largest:g}, the largest of {described.scheme}: use bf16"
            )
    layers = layers_of(model)
    _check_names(layers, described)
    linear = [name for name, layer in layers.items() if isinstance(layer, nn.Linear)]
    if not any(described.scheme_of(name, layers[name]) != PLAIN for name in linear):
        left = ": all are excluded" if linear else ""
        raise UserError(f"{type(model).__name__} has no linear layer that could be quantized{left}")


def _check_names(layers: dict[str, nn.Linear | nn.Embedding], described: QuantizedFormat) -> None:
    for pattern in (*described.exclude, *described.layers):
        if not any(fnmatchcase(name, pattern) for name in layers):
            raise UserError(
                f"{pattern!r} fits no layer of the encoder; its layers: {', '.join(layers)}"
                + did_you_mean(pattern, layers)
            )
