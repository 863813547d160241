"""Quantisation-aware training: the model is trained on with int8 rounding, and gives the int8-static format."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from compression.architecture.labels import output_order
from compression.distillation.config import TaskDistillConfig
from compression.distillation.task import distillation_loss
from compression.errors import UserError
from compression.quantization.config import QuantizeConfig
from compression.quantization.fake_quantization import FakeInt8Embedding, FakeInt8Linear, RealPieces
from compression.quantization.format import PLAIN, QuantizedFormat, exchanged, layers_of
from compression.quantization.int8_static import ActivationCode
from compression.quantization.surroundings import Surroundings
from compression.training import finetune
from compression.training.loop import TrainingResult
from compression.training.predict import encode_for, predict
from compression.training.task import train_on_task

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from compression.data.encoding import Encoded


def train_quantized(
    model: "PreTrainedModel", described: QuantizedFormat, config: QuantizeConfig, given: Surroundings
) -> tuple[TrainingResult, dict[str, ActivationCode]]:
    """Train a classifier in place with the rounding of its coming int8 format.

    Args:
        model: a floating-point classifier; its weights are trained.
        described: which layers will be quantized.
        config: the stage's configuration; `qat` is how to train.
        given: the task and whatever training needs.

    Returns:
        What the training came to; and how the input of each linear layer is coded, by its name within the encoder.

    Raises:
        UserError: the model's outputs are in another order than the task's labels, or the training diverged.
        Interrupted: a stop was asked for; the same call resumes.
    """
    data, tokenizer = given.data, given.tokenizer
    if data.labels and output_order(model.config.id2label, data.labels) != list(range(len(data.labels))):
        raise UserError(
            "the model numbers the classes in another order than the task: put `finetune` before `quantize`"
        )
    encoded = encode_for(model, data.train, tokenizer, data.config, given.control)
    teacher = _teacher_outputs(model, encoded, config, given)
    with _rounding(model, described, config) as linear:
        result = train_on_task(
            model,
            finetune.loss if teacher is None else distillation_loss(_as_distillation(config), data.problem),
            encoded,
            tokenizer=tokenizer,
            data=data,
            config=config.qat,
            seed=given.seed,
            runtime=given.runtime,
            work=given.work,
            control=given.control,
            history=given.history,
            extra_batch=teacher,
            description="training with rounding",
        )
        codes = {name: ActivationCode.symmetric(float(layer.activation_limit)) for name, layer in linear.items()}
    return result, codes


@contextmanager
def _rounding(
    model: "PreTrainedModel", described: QuantizedFormat, config: QuantizeConfig
) -> Iterator[dict[str, FakeInt8Linear]]:
    """Layers that round in the place of a model's own; yields the linear ones by name. Afterwards its own are back."""
    real, qat = RealPieces(), config.qat
    own = {n: layer for n, layer in layers_of(model).items() if described.scheme_of(n, layer) != PLAIN}
    made: dict[str, nn.Module] = {
        name: FakeInt8Embedding(layer, per_channel=qat.per_channel)
        if isinstance(layer, nn.Embedding)
        else FakeInt8Linear(layer, real, per_channel=qat.per_channel, decay=qat.range_decay)
        for name, layer in own.items()
    }

    def look_at_mask(_: nn.Module, __: tuple[Any, ...], named: dict[str, Any]) -> None:
        mask = named.get("attention_mask")
        real.mask = None if mask is None else mask.bool()

    hook = model.register_forward_pre_hook(look_at_mask, with_kwargs=True)
    try:
        # Parameters are shared, so that the layers that come back are the trained ones.
        with exchanged(model, {own[name]: layer for name, layer in made.items()}):
            yield {name: layer for name, layer in made.items() if isinstance(layer, FakeInt8Linear)}
    finally:
        hook.remove()


def _teacher_outputs(
    model: "PreTrainedModel", encoded: "Encoded", config: QuantizeConfig, given: Surroundings
) -> Callable[[NDArray[np.int64]], dict[str, torch.Tensor]] | None:
    """Row numbers -> outputs of the model before quantisation, where it is a teacher."""
    if config.qat.soft_weight == 0:
        return None
    outputs = torch.from_numpy(
        predict(
            model.to(torch.device(given.runtime.device)),
            encoded,
            pad_token_id=given.tokenizer.pad_token_id,
            control=given.control,
            description="outputs before quantisation",
        )
    )
    return lambda rows: {"teacher_logits": outputs[torch.from_numpy(rows)]}


def _as_distillation(config: QuantizeConfig) -> TaskDistillConfig:
    qat = config.qat
    return TaskDistillConfig(temperature=qat.temperature, soft_weight=qat.soft_weight, hard_weight=qat.hard_weight)
