"""Task distillation: a student learns from its teacher on the task's rows, and from the gold labels."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from compression.control import Control, PrefixedProgress
from compression.data.encoding import Encoded
from compression.data.load import TaskData
from compression.distillation.comparing import Comparing
from compression.distillation.config import TaskDistillConfig
from compression.distillation.losses.averaging import Form
from compression.distillation.losses.mean_squared_error import mean_squared_error
from compression.distillation.losses.soft_binary_cross_entropy import soft_binary_cross_entropy
from compression.distillation.losses.soft_cross_entropy import soft_cross_entropy
from compression.distillation.losses.span_soft_cross_entropy import span_soft_cross_entropy
from compression.distillation.objectives import weighted
from compression.distillation.teacher_outputs import OutputPlace, Outputs, output_orders, teacher_outputs
from compression.runtime import Runtime
from compression.training.checkpoint_file import (
    identity,
    read_tensors,
    restore_weights,
    weights_of,
    write_tensors,
)
from compression.training.config import TrainingConfig
from compression.training.gold import gold_loss
from compression.training.loop import LossFunction, TrainingResult
from compression.training.predict import check_fits, encode_for, task_logits
from compression.training.task import train_on_task

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Parts = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class DistillationResult(TrainingResult):
    """What a distillation came to: the training that ended in the student's weights, and the step before it.

    Attributes:
        intermediate: the step for the objectives, None where they had none of their own.
    """

    intermediate: TrainingResult | None = None


def apply(
    student: "PreTrainedModel",
    teacher: "PreTrainedModel | Sequence[PreTrainedModel]",
    tokenizer: "PreTrainedTokenizerBase",
    data: TaskData,
    config: TaskDistillConfig,
    *,
    seed: int,
    runtime: Runtime,
    work: Path,
    control: Control,
    history: Path,
    shared: Path | None = None,
) -> DistillationResult:
    """Distil a teacher into a student, in place (Hinton et al. 2015, arXiv:1503.02531; TinyBERT, arXiv:1909.10351).

    The teacher is in evaluation mode throughout. Its outputs are computed once for every training row and serve all
    epochs; so do its hidden states and attention where objectives compare them, if they fit on the disk.

    Args:
        student: classifier with a head for the task.
        teacher: fine-tuned classifier of the same task and tokenizer; left as it is. Of several, the logits are
            averaged: the geometric mean of their distributions.
        tokenizer: tokenizer of all of them.
        data: the task.
        config: what is compared, how much it weighs, and how to train.
        seed: seed of the order of the rows, of dropout and of projections.
        runtime: device and precision.
        work: folder for resumable state and the teacher's outputs.
        control: where to report progress, and whether to stop.
        history: file for the loss curve, with the parts `soft`, `hard` and the names of the objectives; those of an
            intermediate step stand before, and start with `intermediate_`.
        shared: folder for the teacher's outputs and states in place of `work`, where distillations of other students
            find them.

    Returns:
        Steps, losses and the selection score.

    Raises:
        Interrupted: a stop was asked for; the same call resumes.
        UserError: teacher and task disagree, layers cannot be paired, a model cannot take the rows, or the training
            diverged.
    """
    config = config.for_task(data.config.glue)
    teachers = list(teacher) if isinstance(teacher, Sequence) else [teacher]
    encoded = encode_for(teachers[0], data.train, tokenizer, data.config, control)
    check_fits(student, encoded, data.config.max_length)
    orders = output_orders(teachers, data)
    job = _Job(student, teachers, tokenizer, data, config, encoded, seed, runtime, work, control, shared)
    first, records = (None, "") if config.intermediate is None else job.intermediate_step()
    result = job.last_step(orders, history)
    if records:
        history.write_text(records + history.read_text(encoding="utf-8"), encoding="utf-8")
    return DistillationResult(**vars(result), intermediate=first)


@dataclass(frozen=True)
class _Job:
    """One call of `apply`."""

    student: "PreTrainedModel"
    teachers: "list[PreTrainedModel]"
    tokenizer: "PreTrainedTokenizerBase"
    data: TaskData
    config: TaskDistillConfig
    encoded: Encoded
    seed: int
    runtime: Runtime
    work: Path
    control: Control
    shared: Path | None

    def intermediate_step(self) -> tuple[TrainingResult, str]:
        """Train the objectives alone; returns the result and the records of the loss curve.

        What it comes to is kept in the work folder: an attempt that resumes in the next step does not repeat it.
        """
        settings = self.config.model_dump_json(exclude={"checkpoint_seconds"})
        where = (settings, str(self.seed), self.runtime.device, self.runtime.precision)
        owner = identity(self.student, self.encoded.digest(), identity(self.teachers[0]), *where)
        path = self.work / "intermediate.safetensors"
        folder = self.work / "intermediate"
        kept = read_tensors(path, owner)
        if kept is None:
            folder.mkdir(parents=True, exist_ok=True)
            training = self.config.intermediate_training()
            result = self._train_comparing(training, self._objectives_alone, folder, folder / "history.jsonl")
            records = _prefixed((folder / "history.jsonl").read_text(encoding="utf-8"))
            about = {"identity": owner, "result": json.dumps(result.summary()), "records": records}
            write_tensors(path, weights_of(self.student), about)
        else:
            restore_weights(self.student, kept[0])
            result, records = TrainingResult(**json.loads(kept[1]["result"])), kept[1]["records"]
        shutil.rmtree(folder, ignore_errors=True)  # the teacher's states may be large
        return result, records

    def last_step(self, orders: Sequence[list[int]], history: Path) -> TrainingResult:
        """Train on the teachers' outputs, and on the objectives that had no step of their own."""
        place = OutputPlace(self.tokenizer.pad_token_id, self.runtime, self.work, self.shared, self.control)
        outputs = teacher_outputs(self.teachers, orders, self.encoded, self.data.problem, place)
        if self.config.intermediate is None and self.config.objectives.chosen():
            return self._train_comparing(self.config, self._outputs_and_objectives, self.work, history, outputs)
        return train_on_task(
            self.student,
            distillation_loss(self.config, self.data.problem),
            self.encoded,
            tokenizer=self.tokenizer,
            data=self.data,
            config=self.config,
            seed=self.seed,
            runtime=self.runtime,
            work=self.work,
            control=self.control,
            history=history,
            extra_batch=outputs,
            description="distilling",
        )

    def _train_comparing(
        self,
        training: TrainingConfig,
        loss: Callable[[Comparing], LossFunction],
        work: Path,
        history: Path,
        outputs: Outputs | None = None,
    ) -> TrainingResult:
        alone = outputs is None
        control = Control(PrefixedProgress(self.control.progress, _PREFIX), self.control.should_stop)
        comparing = Comparing.prepare(
            self.student,
            self.teachers[0],
            self.config,
            self.encoded,
            epochs=training.epochs,
            pad_token_id=self.tokenizer.pad_token_id,
            seed=self.seed,
            runtime=self.runtime,
            work=work,
            control=self.control,
            shared=self.shared,
        )

        def teacher_rows(rows: NDArray[np.int64]) -> dict[str, torch.Tensor]:
            return comparing.rows(rows) | ({} if outputs is None else outputs(rows))

        result = train_on_task(
            comparing.module.student,
            loss(comparing),
            self.encoded,
            tokenizer=self.tokenizer,
            data=self.data,
            config=training,
            seed=self.seed,
            runtime=self.runtime,
            work=work,
            control=control if alone else self.control,
            history=history,
            extra_batch=teacher_rows,
            around=comparing.module,
            description="distilling layers" if alone else "distilling",
        )
        comparing.give_back(self.student)
        return result

    def _objectives_alone(self, comparing: Comparing) -> LossFunction:
        def loss(model: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, Parts]:
            _, parts = comparing.losses(model, batch)
            return weighted(parts, self.config.objectives), parts

        return loss

    def _outputs_and_objectives(self, comparing: Comparing) -> LossFunction:
        def loss(model: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, Parts]:
            logits, objectives = comparing.losses(model, batch)
            total, parts = output_losses(logits, batch, self.config, self.data.problem)
            return total + weighted(objectives, self.config.objectives), {**parts, **objectives}

        return loss


def distillation_loss(config: TaskDistillConfig, problem: str) -> LossFunction:
    """The loss of task distillation on outputs, for the training loop.

    Args:
        config: temperature and weights of the losses.
        problem: what the task predicts.

    Returns:
        (student, batch) -> (loss, {"soft": …, "hard": …}); the batch holds `teacher_logits` and `labels`.
        The parts are unweighted; a part of weight 0 is left out.
    """

    def loss(student: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, Parts]:
        return output_losses(task_logits(student, batch), batch, config, problem)

    return loss


def output_losses(
    logits: torch.Tensor, batch: dict[str, torch.Tensor], config: TaskDistillConfig, problem: str
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Loss of a student's outputs against its teacher's and the gold labels.

    Args:
        logits: [b, k] of the student; [b, l, 2] of spans.
        batch: holds `teacher_logits` of the same shape, `labels` and `attention_mask`.
        config: temperature and weights of the losses.
        problem: what the task predicts.

    Returns:
        Weighted sum, and the unweighted parts by name; a part of weight 0 is left out.
    """
    taught, mask, temperature = batch["teacher_logits"], batch["attention_mask"], config.temperature
    if problem == "regression":
        soft = mean_squared_error(logits, taught)
    elif problem == "span":
        soft = span_soft_cross_entropy(logits, taught, mask, temperature)
    elif problem == "multi_label":
        soft = soft_binary_cross_entropy(logits, taught, temperature)
    else:
        form: Form = "released" if config.reference_code else "paper"
        soft = soft_cross_entropy(logits, taught, temperature, form)
    total, parts = config.soft_weight * soft, {"soft": soft}
    if config.hard_weight > 0:
        parts["hard"] = gold_loss(logits, batch["labels"], mask)
        total = total + config.hard_weight * parts["hard"]
    return total, parts


_PREFIX = "intermediate_"


def _prefixed(records: str) -> str:
    """Records of a loss curve, one a line, with the names of all values but the place on the curve prefixed."""
    lines = []
    for line in records.splitlines():
        record = json.loads(line)
        lines.append(json.dumps({PrefixedProgress.name(_PREFIX, name): value for name, value in record.items()}) + "\n")
    return "".join(lines)
