"""Measures a checkpoint: the task's metrics on the reported splits, and what the model costs."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from compression.architecture.checkpoint import count_parameters, load_task_model, load_tokenizer
from compression.architecture.labels import output_order
from compression.control import Control
from compression.data.config import has_unanswerable
from compression.data.load import TaskData
from compression.errors import UserError
from compression.evaluation.config import EvaluateConfig
from compression.evaluation.efficiency import bytes_on_disk, environment, latency, latency_inputs
from compression.evaluation.metrics import Array, compute
from compression.evaluation.span_evaluation import AnsweredQuestions, answer_questions
from compression.quantization.checkpoint import is_quantized, load_quantized, multiplier
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
        predictions: a row an example, with the columns split, id, gold (gold_0 ... of several labels, 0 or 1), and
            logit_0 ... in the order of the task's labels. Of spans see `span_evaluation.AnsweredQuestions.predictions`.
        efficiency: `parameters` (count), `bytes` (of the model's files) and `latency_ms` (see `efficiency.latency`).
        environment: the machine (see `efficiency.environment`), and `kernel`, what multiplied in a quantized
            model.
        no_answer_threshold: odds above which a question is given no answer, chosen on the selection split; None for
            tasks in which every question has one.
    """

    metrics: dict[str, float]
    examples: dict[str, int]
    predictions: "pandas.DataFrame"
    efficiency: dict[str, Any]
    environment: dict[str, Any]
    no_answer_threshold: float | None = None


def load_any(folder: Path) -> Any:
    """Load a model with its head for a task, quantized or not.

    Args:
        folder: model folder.

    Returns:
        The model in evaluation mode; of another backend what calls it and is called like a model.

    Raises:
        CheckpointError: the folder is missing, damaged or foreign.
        UserError: packages of the folder's backend are missing.
    """
    return load_quantized(folder) if is_quantized(folder) else load_task_model(folder)


def apply(
    folder: Path, data: TaskData, config: EvaluateConfig, *, runtime: Runtime, control: Control | None = None
) -> Evaluation:
    """Measure a checkpoint on a task.

    Predictions are made in the checkpoint's own number format, whatever precision the runtime trains in.

    Args:
        folder: model folder with its tokenizer.
        data: the task; its evaluation splits are read, and the selection split where a threshold is chosen on it.
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
    if config.latency_length > longest_input(model.config):
        raise UserError(
            f"latency_length is {config.latency_length}, but the model has only {longest_input(model.config)} positions"
        )
    measure: type[_Rows] | type[_Questions] = _Questions if data.problem == "span" else _Rows
    with torch_threads(runtime.threads):
        measured = measure(model, tokenizer, data, control)
        splits = {split: measured.split(split, frame) for split, frame in data.evaluation.items()}
    metrics = {
        f"{name}_{split}" if split else name: value
        for split, (scores, _) in splits.items()
        for name, value in scores.items()
    }
    machine = environment(runtime.device) | {
        "kernel": multiplier(model, runtime.device) if is_quantized(folder) else None
    }
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
        predictions=_together({split: table for split, (_, table) in splits.items()}),
        efficiency={
            "parameters": count_parameters(model),
            "bytes": bytes_on_disk(folder),
            "latency_ms": timing,
        },
        environment=machine,
        no_answer_threshold=measured.threshold,
    )


class _Rows:
    """Rows that are classified or given numbers."""

    threshold: float | None = None

    def __init__(
        self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", data: TaskData, control: Control
    ) -> None:
        self.model, self.tokenizer, self.data, self.control = model, tokenizer, data, control
        self.order = output_order(model.config.id2label, data.labels)

    def split(self, name: str, frame: "pandas.DataFrame") -> "tuple[dict[str, float], pandas.DataFrame]":
        """Metrics and predictions of a reported split."""
        encoded = encode_for(self.model, frame, self.tokenizer, self.data.config, self.control)
        logits = predict(
            self.model,
            encoded,
            pad_token_id=self.tokenizer.pad_token_id,
            control=self.control,
            description=f"evaluating {name}".strip(),
        )[:, self.order]
        labels = frame["label"]
        gold: Array = np.array(labels.tolist()) if self.data.problem == "multi_label" else labels.to_numpy()
        return compute(self.data.metrics, gold, logits, self.data.problem), _predictions(frame, gold, logits)


class _Questions:
    """Questions whose answers are spans."""

    def __init__(
        self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", data: TaskData, control: Control
    ) -> None:
        self.model, self.tokenizer, self.task, self.control = model, tokenizer, data.config, control
        self.threshold: float | None = None
        if has_unanswerable(self.task):
            self.threshold = self._answered("selection", data.selection).threshold()

    def split(self, name: str, frame: "pandas.DataFrame") -> "tuple[dict[str, float], pandas.DataFrame]":
        """Metrics and predictions of a reported split."""
        answered = self._answered(name, frame)
        return answered.metrics(self.threshold), answered.predictions(self.threshold)

    def _answered(self, name: str, frame: "pandas.DataFrame") -> AnsweredQuestions:
        described = f"evaluating {name}".strip()
        return answer_questions(
            self.model, self.tokenizer, frame, self.task, control=self.control, description=described
        )


def _predictions(frame: "pandas.DataFrame", gold: Array, logits: Array) -> "pandas.DataFrame":
    import pandas

    columns: dict[str, Any] = {"id": frame["id"].to_numpy()}
    columns |= {"gold": gold} if gold.ndim == 1 else {f"gold_{index}": column for index, column in enumerate(gold.T)}
    return pandas.DataFrame(columns | {f"logit_{index}": column for index, column in enumerate(logits.T)})


def _together(tables: "dict[str, pandas.DataFrame]") -> "pandas.DataFrame":
    """The predictions of all reported splits, each named in the first column."""
    import pandas

    for split, table in tables.items():
        table.insert(0, "split", split)
    return pandas.concat(list(tables.values()), ignore_index=True)
