"""Measures a checkpoint: the task's metrics on the reported splits, and what the model costs."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from compression.architecture.checkpoint import count_parameters, load_classifier, load_tokenizer
from compression.architecture.labels import output_order
from compression.control import Control
from compression.data.load import TaskData
from compression.errors import UserError
from compression.evaluation.config import EvaluateConfig
from compression.evaluation.efficiency import bytes_on_disk, environment, latency, latency_inputs
from compression.evaluation.metrics import Array, compute
from compression.quantization.checkpoint import is_quantized, load_quantized
from compression.quantization.int8_arithmetic import kernel_name
from compression.runtime import Runtime
from compression.training.precision import torch_threads
from compression.training.predict import encode_for, longest_input, predict

if TYPE_CHECKING:
    import pandas
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Evaluation:
    """What was measured on one checkpoint.

    Attributes:
        metrics: metric -> value in natural units, the headline first; those of a further split carry its name:
            `accuracy_mismatched`.
        examples: split -> evaluated rows; the reported split is named "".
        predictions: a row an example, with the columns split, id, gold, and logit_0 ... in the order of the task's
            labels.
        efficiency: `parameters` (count), `bytes` (of the model's files) and `latency_ms` (see `efficiency.latency`).
        environment: the machine (see `efficiency.environment`), and `kernel`, what multiplied a quantized model's
            integers.
    """

    metrics: dict[str, float]
    examples: dict[str, int]
    predictions: "pandas.DataFrame"
    efficiency: dict[str, Any]
    environment: dict[str, Any]


def load_any(folder: Path) -> "PreTrainedModel":
    """Load a classifier, quantized or not.

    Args:
        folder: model folder.

    Returns:
        The model in evaluation mode.

    Raises:
        CheckpointError: the folder is missing, damaged or foreign.
    """
    return load_quantized(folder) if is_quantized(folder) else load_classifier(folder)


def apply(
    folder: Path, data: TaskData, config: EvaluateConfig, *, runtime: Runtime, control: Control | None = None
) -> Evaluation:
    """Measure a checkpoint on a task.

    Predictions are made in the checkpoint's own number format, whatever precision the runtime trains in.

    Args:
        folder: model folder with its tokenizer.
        data: the task; only its evaluation splits are read.
        config: what to measure.
        runtime: device, and threads for predicting.
        control: where to report progress, and whether to stop.

    Returns:
        What was measured.

    Raises:
        CheckpointError: the folder cannot be loaded, or its labels are not the task's.
        UserError: the model's outputs cannot be scored, or it is shorter than `latency_length`.
        Interrupted: a stop was asked for.
    """
    control = control or Control()
    model = load_any(folder).to(torch.device(runtime.device))
    tokenizer = load_tokenizer(folder)
    order = output_order(model.config.id2label, data.labels)
    if config.latency_length > longest_input(model.config):
        raise UserError(
            f"latency_length is {config.latency_length}, but the model has only {longest_input(model.config)} positions"
        )
    metrics: dict[str, float] = {}
    frames = []
    for split, frame in data.evaluation.items():
        with torch_threads(runtime.threads):
            logits = _logits(model, tokenizer, frame, data.config.max_length, split, control)[:, order]
        scores = compute(data.metrics, frame["label"].to_numpy(), logits, data.problem)
        metrics.update({f"{name}_{split}" if split else name: value for name, value in scores.items()})
        frames.append(_predictions(split, frame, logits))
    machine = environment(runtime.device) | {"kernel": kernel_name(runtime.device) if is_quantized(folder) else None}
    timing = latency(
        model,
        latency_inputs(tokenizer, config.latency_length),
        warmup=config.latency_warmup,
        repeats=config.latency_repeats,
        threads=config.latency_threads,
        control=control,
    )
    return Evaluation(
        metrics=metrics,
        examples={split: len(frame) for split, frame in data.evaluation.items()},
        predictions=_concatenated(frames),
        efficiency={
            "parameters": count_parameters(model),
            "bytes": bytes_on_disk(folder),
            "latency_ms": timing,
        },
        environment=machine,
    )


def _logits(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    frame: "pandas.DataFrame",
    max_length: int,
    split: str,
    control: Control,
) -> Array:
    encoded = encode_for(model, frame, tokenizer, max_length, control)
    description = f"evaluating {split}".strip()
    return predict(model, encoded, pad_token_id=tokenizer.pad_token_id, control=control, description=description)


def _predictions(split: str, frame: "pandas.DataFrame", logits: Array) -> "pandas.DataFrame":
    import pandas

    head = {"split": split, "id": frame["id"].to_numpy(), "gold": frame["label"].to_numpy()}
    return pandas.DataFrame(head | {f"logit_{index}": column for index, column in enumerate(logits.T)})


def _concatenated(frames: "list[pandas.DataFrame]") -> "pandas.DataFrame":
    import pandas

    return pandas.concat(frames, ignore_index=True)
