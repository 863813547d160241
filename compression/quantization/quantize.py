"""Quantizes a model: every layer of its encoder is stored as its scheme says."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import torch
from torch import nn

from compression.data.sample import evenly_spaced
from compression.errors import UserError, did_you_mean
from compression.quantization.calibration import calibrate
from compression.quantization.config import MixedConfig, QuantizeConfig
from compression.quantization.format import (
    CASTS,
    PLAIN,
    BertpressQuantizer,
    QuantizedFormat,
    coded_layer,
    layers_of,
    replace,
)
from compression.quantization.int8_static import ActivationCode
from compression.quantization.qat import train_quantized
from compression.quantization.sensitivity import Scan, scan
from compression.quantization.surroundings import Surroundings
from compression.training.predict import encode_for

if TYPE_CHECKING:
    import pandas
    from transformers import PreTrainedModel

    from compression.training.loop import TrainingResult


@dataclass(frozen=True)
class Quantized:
    """A quantized model, and how it came about.

    Attributes:
        model: the model.
        training: what its training came to, of int8-qat.
        scan: what the scan for mixed precision found, where there was one.
    """

    model: "PreTrainedModel"
    training: "TrainingResult | None" = None
    scan: "Scan | None" = None


def quantize(
    model: "PreTrainedModel",
    described: QuantizedFormat | None = None,
    codes: Mapping[str, ActivationCode] | None = None,
    *,
    per_channel: bool = True,
) -> "PreTrainedModel":
    """Quantize the linear layers of a model's encoder, and its embedding tables.

    The classification head stays fp32: it is small, and its rounding would go straight into the logits. The schemes
    bf16 and fp16 cast everything.

    Args:
        model: a floating-point model; changed in place.
        described: which layer is stored how; by default all in int8-dynamic.
        codes: how the inputs of layers in int8-static are coded, by their names within the encoder.
        per_channel: a scale for each output channel; off, one a matrix, for layers in int8-static.

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
        _check_codes(model, described, codes or {})
        replace(
            model,
            lambda name, layer: coded_layer(
                layer, described.scheme_of(name, layer), described, (codes or {}).get(name), per_channel=per_channel
            ),
        )
    model.config.quantization_config = described
    model.hf_quantizer = BertpressQuantizer(described, pre_quantized=True)
    model.is_quantized = True
    return model.requires_grad_(False).eval()


def apply(model: "PreTrainedModel", config: QuantizeConfig, given: Surroundings | None = None) -> Quantized:
    """Quantize a model as a `quantize` stage asks for.

    Args:
        model: a floating-point model; changed in place.
        config: the stage's configuration.
        given: the task and whatever training needs, for schemes that look at data.

    Returns:
        The same model, quantized.

    Raises:
        UserError: the model cannot be quantized; see `quantize`.
        ValueError: the scheme looks at data, and there is none.
        Interrupted: a stop was asked for.
    """
    described = described_by(config)
    check_quantizable(model, described)
    if not (config.calibrates or config.mixed or config.scheme == "int8-qat"):
        return Quantized(quantize(model, described))
    if given is None:
        raise ValueError(f"{config.scheme} looks at data")
    if config.scheme == "int8-qat":
        training, codes = train_quantized(model, described, config, given)
        return Quantized(quantize(model, described, codes, per_channel=config.qat.per_channel), training)
    model.to(torch.device(given.runtime.device))
    codes = _calibrated(model, config, given) if config.calibrates else {}
    if config.mixed is None:
        return Quantized(quantize(model, described, codes))
    found = _scanned(model, described, codes, config.mixed, given)
    described.layers = dict(found.layers)
    return Quantized(quantize(model, described, codes), scan=found)


def described_by(config: QuantizeConfig) -> QuantizedFormat:
    """The format that a configuration asks for.

    Args:
        config: the stage's configuration.

    Returns:
        The format; a model that was trained with its rounding is in int8-static.
    """
    return QuantizedFormat(
        scheme="int8-static" if config.scheme == "int8-qat" else config.scheme,
        embeddings=config.embeddings,
        exclude=config.exclude,
        group_size=config.group_size,
        fake_activations=config.fake_activations,
    )


def _calibrated(model: "PreTrainedModel", config: QuantizeConfig, given: Surroundings) -> dict[str, ActivationCode]:
    data, tokenizer = given.data, given.tokenizer
    return calibrate(
        model,
        [name for name, layer in layers_of(model).items() if isinstance(layer, nn.Linear)],
        encode_for(model, _sampled(data.train, config.calibration.rows), tokenizer, data.config, given.control),
        config.calibration,
        pad_token_id=tokenizer.pad_token_id,
        control=given.control,
    )


def _scanned(
    model: "PreTrainedModel",
    described: QuantizedFormat,
    codes: Mapping[str, ActivationCode],
    mixed: MixedConfig,
    given: Surroundings,
) -> Scan:
    data, tokenizer = given.data, given.tokenizer
    return scan(
        model,
        described,
        codes,
        encode_for(model, _sampled(data.selection, mixed.rows), tokenizer, data.config, given.control),
        mixed,
        pad_token_id=tokenizer.pad_token_id,
        control=given.control,
    )


def _sampled(frame: "pandas.DataFrame", rows: int) -> "pandas.DataFrame":
    return frame.iloc[evenly_spaced(len(frame), rows)] if len(frame) else frame


def _check_codes(model: "PreTrainedModel", described: QuantizedFormat, codes: Mapping[str, ActivationCode]) -> None:
    for name, layer in layers_of(model).items():
        static = described.scheme_of(name, layer) == "int8-static" and isinstance(layer, nn.Linear)
        if static and name not in codes:
            raise UserError(f"int8-static needs the range of the inputs of {name}, which was never called")


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
