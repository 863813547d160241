"""Training on a task's rows, with model selection on its selection split: common to fine-tuning and distillation."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from compression.control import Control
from compression.data.encoding import Encoded
from compression.data.load import TaskData
from compression.evaluation.metrics import compute
from compression.evaluation.span_evaluation import answer_questions
from compression.runtime import Runtime
from compression.training.batches import EncodedRows
from compression.training.config import TrainingConfig
from compression.training.hooks import StepHooks
from compression.training.layer_drop import layer_drop
from compression.training.loop import LossFunction, TrainingResult, train
from compression.training.precision import dropout_probability, training_attention
from compression.training.predict import encode_for, encode_spans_for, predict

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def train_on_task(
    model: "PreTrainedModel",
    loss_function: LossFunction,
    encoded: Encoded,
    *,
    tokenizer: "PreTrainedTokenizerBase",
    data: TaskData,
    config: TrainingConfig,
    seed: int,
    runtime: Runtime,
    work: Path,
    control: Control,
    history: Path,
    extra_batch: Callable[[np.ndarray], dict[str, torch.Tensor]] | None = None,
    around: nn.Module | None = None,
    hooks: StepHooks | None = None,
    description: str,
) -> TrainingResult:
    """Train a model in place, by default keeping the weights that do best on the selection split.

    Args:
        model: model to train, with a head for the task.
        loss_function: (model, batch) -> (loss, its named parts).
        encoded: the task's training rows.
        tokenizer: the model's tokenizer.
        data: the task; its selection split and its first metric choose the weights, never the reported split.
        config: optimiser, schedule, batches and stopping.
        seed: seed of the order of the rows and of dropout.
        runtime: device and precision.
        work: folder for resumable state.
        control: where to report progress, and whether to stop.
        history: file for the loss curve.
        extra_batch: row numbers -> further tensors for the batch.
        around: module that holds the classifier together with whatever else is trained, and can be called like it; it
            is what the loss function is given. None for the classifier alone.
        hooks: what else is done around each step.
        description: name of the phase in progress displays.

    Returns:
        Steps, losses and the selection score, which is the task's first metric.
    """
    with (
        training_attention(model, runtime),
        dropout_probability(model, config.dropout),
        layer_drop(model, config.layer_drop),
    ):
        return train(
            model if around is None else around,
            loss_function,
            EncodedRows(encoded, tokenizer.pad_token_id),
            config=config,
            seed=seed,
            runtime=runtime,
            work=work,
            control=control,
            history=history,
            evaluate=_selection_score(model, tokenizer, data, config, control),
            extra_batch=extra_batch,
            hooks=hooks,
            description=description,
        )


def _selection_score(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    data: TaskData,
    config: TrainingConfig,
    control: Control,
) -> Callable[[Any], float] | None:
    """Model -> the task's first metric on the selection split; None when nothing is to be measured."""
    if config.evaluations_per_epoch == 0 or data.selection.empty:
        return None
    frame, metric = data.selection, data.metrics[0]
    if data.problem == "span":
        features = encode_spans_for(model, frame, tokenizer, data.config, control)

        def span_score(trained: Any) -> float:
            answered = answer_questions(trained, tokenizer, frame, data.config, features=features, control=control)
            return answered.metrics(answered.threshold())[metric]

        return span_score
    encoded = encode_for(model, frame, tokenizer, data.config, control)
    gold = np.asarray(encoded.labels)

    def score(trained: Any) -> float:
        logits = predict(trained, encoded, pad_token_id=tokenizer.pad_token_id, control=control)
        return compute([metric], gold, logits, data.problem)[metric]

    return score
