"""Outputs of one teacher, or the mean of several, for every training row: computed once, kept on disk."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from compression.architecture.labels import output_order
from compression.control import Control
from compression.data.encoding import Encoded
from compression.data.load import TaskData
from compression.errors import CheckpointError
from compression.runtime import Runtime
from compression.training.checkpoint_file import identity, read_tensors, write_tensors
from compression.training.precision import DTYPES
from compression.training.predict import predict, predict_spans
from compression.training.span_logits import SpanLogits

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Outputs = Callable[[NDArray[np.int64]], dict[str, torch.Tensor]]


@dataclass(frozen=True)
class OutputPlace:
    """Where a teacher's outputs are computed and kept.

    Attributes:
        pad_token_id: token that fills short sequences.
        runtime: device and precision.
        work: folder for the outputs.
        shared: folder in place of it, where distillations of other students find them.
        control: where to report progress, and whether to stop.
    """

    pad_token_id: int
    runtime: Runtime
    work: Path
    shared: Path | None
    control: Control


def output_orders(teachers: "Sequence[PreTrainedModel]", data: TaskData) -> list[list[int]]:
    """Which outputs of each teacher belong to the task's labels, refused when they do not.

    Args:
        teachers: the teachers.
        data: the task.

    Returns:
        For each teacher the order of its outputs.

    Raises:
        CheckpointError: labels differ, or a teacher has another kind of head than the task needs.
    """
    if data.problem != "span":
        return [output_order(teacher.config.id2label, data.labels) for teacher in teachers]
    for teacher in teachers:
        if not hasattr(teacher, "qa_outputs"):
            raise CheckpointError(f"the teacher, a {type(teacher).__name__}, does not answer questions by spans")
    return [[0, 1] for _ in teachers]


def teacher_outputs(
    teachers: "Sequence[PreTrainedModel]",
    orders: Sequence[Sequence[int]],
    encoded: Encoded,
    problem: str,
    place: OutputPlace,
) -> Outputs:
    """Compute the outputs over the training rows, or take those that are there.

    Args:
        teachers: fine-tuned models of the task; left as they are.
        orders: for each teacher the order of its outputs.
        encoded: the training rows.
        problem: what the task predicts.
        place: where they are computed and kept.

    Returns:
        Row numbers -> `teacher_logits` [b, k] of their batch; of spans [b, l, 2], 0 on padding.

    Raises:
        Interrupted: a stop was asked for.
    """
    values = [
        _logits(teacher, encoded, problem, f"teacher_logits_{number}" if number else "teacher_logits", place)[:, order]
        for number, (teacher, order) in enumerate(zip(teachers, orders, strict=True))
    ]
    mean = np.mean(values, axis=0)
    if problem == "span":
        spans = SpanLogits(mean, SpanLogits.empty(encoded.lengths).bounds)
        return lambda rows: {"teacher_logits": spans.padded(rows)}
    logits = torch.from_numpy(mean)
    return lambda rows: {"teacher_logits": logits[torch.from_numpy(rows)]}


def _logits(
    teacher: "PreTrainedModel", encoded: Encoded, problem: str, name: str, place: OutputPlace
) -> NDArray[np.float32]:
    """(rows, k) outputs; of spans (word pieces of all windows, 2)."""
    runtime = place.runtime
    owner = identity(teacher, encoded.digest(), runtime.device, runtime.precision)
    shared = place.shared
    path = place.work / f"{name}.safetensors" if shared is None else shared / f"teacher_logits-{owner[:32]}.safetensors"
    kept = read_tensors(path, owner)
    if kept is not None:
        return kept[0]["logits"].numpy()
    # Converted weights are twice as fast as autocast, and the caller's teacher is not to change.
    model = copy.deepcopy(teacher).to(device=runtime.device, dtype=DTYPES[runtime.precision]).eval()
    options: dict[str, Any] = {
        "pad_token_id": place.pad_token_id,
        "control": place.control,
        "description": "teacher's outputs",
    }
    if problem == "span":
        logits = predict_spans(model, encoded, **options).values
    else:
        logits = predict(model, encoded, **options)
    write_tensors(path, {"logits": torch.from_numpy(logits)}, {"identity": owner})
    return logits
