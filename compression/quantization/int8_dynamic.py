"""Dynamic int8: weights stored as int8, activations coded as they come, products of integers.

Importing this module teaches transformers the format, so that `from_pretrained` loads a folder that was saved in it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers.quantizers import HfQuantizer
from transformers.quantizers.auto import (
    AUTO_QUANTIZATION_CONFIG_MAPPING,
    register_quantization_config,
    register_quantizer,
)
from transformers.utils.quantization_config import QuantizationConfigMixin

from compression.errors import UserError
from compression.quantization.config import QuantizeConfig
from compression.quantization.int8_modules import Int8Embedding, Int8Linear

if TYPE_CHECKING:
    from transformers import PreTrainedModel

METHOD = "bertpress-int8"
"""`quant_method` of the format in `config.json`."""


class Int8DynamicConfig(QuantizationConfigMixin):  # type: ignore[misc]
    """What `config.json` says of a quantized model.

    Args:
        embeddings: whether embedding tables are int8 too.
        quant_method: the name of the format.
    """

    def __init__(self, embeddings: bool = True, quant_method: str = METHOD) -> None:
        if quant_method != METHOD:
            raise ValueError(f"quant_method is {quant_method!r}, not {METHOD!r}")
        self.quant_method = quant_method
        self.embeddings = embeddings


class Int8DynamicQuantizer(HfQuantizer):  # type: ignore[misc]
    """Puts int8 layers in the place of a model's own, before transformers loads weights into them."""

    requires_calibration = True  # only folders that are quantized already can be loaded through it

    def _process_model_before_weight_loading(self, model: "PreTrainedModel", **_: Any) -> "PreTrainedModel":
        with torch.device("meta"):
            _replace(model, self.quantization_config.embeddings, Int8Linear.like, Int8Embedding.like)
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
if METHOD not in AUTO_QUANTIZATION_CONFIG_MAPPING:
    register_quantization_config(METHOD)(Int8DynamicConfig)
    register_quantizer(METHOD)(Int8DynamicQuantizer)


def quantize(model: "PreTrainedModel", embeddings: bool = True) -> "PreTrainedModel":
    """Quantize the linear layers of a model's encoder, and its embedding tables, to int8.

    The classification head stays fp32: it is small, and its rounding would go straight into the logits.

    Args:
        model: a floating-point model; changed in place.
        embeddings: quantize embedding tables too, one scale a row.

    Returns:
        The same model, in evaluation mode; it cannot be trained any more.

    Raises:
        UserError: the model is quantized already, has no linear layer to quantize, or has weights that are not finite.

    Example:
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> shape = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
        >>> type(quantize(BertForSequenceClassification(shape)).bert.pooler.dense).__name__
        'Int8Linear'
    """
    if any(isinstance(module, Int8Linear) for module in model.modules()):
        raise UserError("the model is quantized already")
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise UserError(f"weight {name} is not finite: the model has diverged in training")
    if not _replace(model, embeddings, Int8Linear.from_float, Int8Embedding.from_float):
        raise UserError(f"{type(model).__name__} has no linear layer that could be quantized")
    model.config.quantization_config = Int8DynamicConfig(embeddings=embeddings)
    model.hf_quantizer = Int8DynamicQuantizer(model.config.quantization_config, pre_quantized=True)
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
    return quantize(model, config.embeddings)


def _replace(
    model: "PreTrainedModel",
    embeddings: bool,
    make_linear: Callable[[nn.Linear], nn.Module],
    make_embedding: Callable[[nn.Embedding], nn.Module],
) -> int:
    """Put an int8 layer in the place of each layer of the encoder; returns the number of linear ones."""
    made: dict[nn.Module, nn.Module] = {}
    encoder = model.base_model
    # A module that is used in two places is listed twice and stays one module.
    for name, module in list(encoder.named_modules(remove_duplicate=False)):
        if module not in made and type(module) is nn.Linear:
            made[module] = make_linear(module)
        elif module not in made and embeddings and type(module) is nn.Embedding:
            made[module] = make_embedding(module)
        if module in made:
            parent, _, child = name.rpartition(".")
            setattr(encoder.get_submodule(parent), child, made[module])
    return sum(isinstance(module, Int8Linear) for module in made.values())
