"""Task distillation: a student learns from the teacher's outputs on the task's rows, and from the gold labels."""

import copy
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from compression.architecture.labels import output_order
from compression.control import Control
from compression.data.encoding import Encoded
from compression.data.load import TaskData
from compression.distillation.config import TaskDistillConfig
from compression.distillation.losses.mean_squared_error import mean_squared_error
from compression.distillation.losses.soft_cross_entropy import soft_cross_entropy
from compression.errors import UserError
from compression.runtime import Runtime
from compression.training.checkpoint_file import identity, read_tensors, write_tensors
from compression.training.gold import gold_loss
from compression.training.loop import LossFunction, TrainingResult
from compression.training.precision import DTYPES
from compression.training.predict import check_fits, encode_for, model_inputs, predict
from compression.training.task import train_on_task

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def apply(
    student: "PreTrainedModel",
    teacher: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    data: TaskData,
    config: TaskDistillConfig,
    *,
    seed: int,
    runtime: Runtime,
    work: Path,
    control: Control,
    history: Path,
) -> TrainingResult:
    """Distil a teacher into a student, in place (Hinton et al. 2015, arXiv:1503.02531).

    The teacher sees every training row once, in evaluation mode; its outputs serve all epochs.

    Args:
        student: classifier with a head for the task.
        teacher: fine-tuned classifier of the same task and tokenizer; left as it is.
        tokenizer: tokenizer of both.
        data: the task.
        config: temperature, weights of the losses, and how to train.
        seed: seed of the order of the rows and of dropout.
        runtime: device and precision.
        work: folder for resumable state and the teacher's outputs.
        control: where to report progress, and whether to stop.
        history: file for the loss curve, with the parts `soft` and `hard`.

    Returns:
        Steps, losses and the selection score.

    Raises:
        Interrupted: a stop was asked for; the same call resumes.
        UserError: teacher and task disagree, a model cannot take the rows, or the training diverged.
    """
    encoded = encode_for(teacher, data.train, tokenizer, data.config.max_length, control)
    check_fits(student, encoded, data.config.max_length)
    order = output_order(teacher.config.id2label, data.labels)
    logits = torch.from_numpy(
        _teacher_logits(
            teacher,
            encoded,
            order,
            pad_token_id=tokenizer.pad_token_id,
            runtime=runtime,
            work=work,
            control=control,
        )
    )

    def teacher_rows(rows: np.ndarray) -> dict[str, torch.Tensor]:
        return {"teacher_logits": logits[torch.from_numpy(rows)]}

    return train_on_task(
        student,
        distillation_loss(config, data.problem),
        encoded,
        tokenizer=tokenizer,
        data=data,
        config=config,
        seed=seed,
        runtime=runtime,
        work=work,
        control=control,
        history=history,
        extra_batch=teacher_rows,
        description="distilling",
    )


def distillation_loss(config: TaskDistillConfig, problem: str) -> LossFunction:
    """The loss of task distillation, for the training loop.

    Args:
        config: temperature and weights of the losses.
        problem: `classification` or `regression`.

    Returns:
        (student, batch) -> (loss, {"soft": …, "hard": …}); the batch holds `teacher_logits` [b, k] and `labels` [b].
        The parts are unweighted; a part of weight 0 is left out.
    """

    def loss(student: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        logits = student(**model_inputs(student, batch)).logits
        if problem == "regression":
            soft = mean_squared_error(logits, batch["teacher_logits"])
        else:
            soft = soft_cross_entropy(logits, batch["teacher_logits"], config.temperature)
        total, parts = config.soft_weight * soft, {"soft": soft}
        if config.hard_weight > 0:
            parts["hard"] = gold_loss(logits, batch["labels"])
            total = total + config.hard_weight * parts["hard"]
        return total, parts

    return loss


def check_same_tokenizer(student: "PreTrainedTokenizerBase", teacher: "PreTrainedTokenizerBase") -> None:
    """Refuse a student that would read other word pieces than its teacher.

    Args:
        student: the student's tokenizer.
        teacher: the teacher's tokenizer.

    Raises:
        UserError: vocabulary, special tokens or the way of cutting texts differ.
    """
    for what, of in _TOKENIZER_PARTS.items():
        if of(student) != of(teacher):
            raise UserError(
                f"teacher and student need the same tokenizer, but their {what} differ: "
                "take the student from the encoder that the teacher was fine-tuned from"
            )


def _cutting(tokenizer: "PreTrainedTokenizerBase") -> dict[str, Any]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return {}
    document = json.loads(backend.to_str())
    # Padding and truncation are left over from the last call; the vocabulary is compared on its own.
    return {name: document.get(name) for name in ("normalizer", "pre_tokenizer", "post_processor")}


_TOKENIZER_PARTS: dict[str, Callable[["PreTrainedTokenizerBase"], Any]] = {
    "vocabularies": lambda tokenizer: tokenizer.get_vocab(),
    "special tokens": lambda tokenizer: tokenizer.special_tokens_map,
    "ways of cutting texts": _cutting,
}


def _teacher_logits(
    teacher: "PreTrainedModel",
    encoded: Encoded,
    order: list[int],
    *,
    pad_token_id: int,
    runtime: Runtime,
    work: Path,
    control: Control,
) -> NDArray[np.float32]:
    """The teacher's outputs over train in the given order; taken from the work folder on a resume."""
    owner = identity(teacher, encoded.digest(), runtime.device, runtime.precision)
    path = work / "teacher_logits.safetensors"
    kept = read_tensors(path, owner)
    if kept is None:
        # Converted weights are twice as fast as autocast, and the caller's teacher is not to change.
        model = copy.deepcopy(teacher).to(device=runtime.device, dtype=DTYPES[runtime.precision]).eval()
        logits = predict(
            model,
            encoded,
            pad_token_id=pad_token_id,
            control=control,
            description="teacher's outputs",
        )
        write_tensors(path, {"logits": torch.from_numpy(logits)}, {"identity": owner})
    else:
        logits = kept[0]["logits"].numpy()
    return logits[:, order]
