"""Fine-tuning: the encoder and a head are trained on a task's gold labels."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from compression.control import Control
from compression.data.load import TaskData
from compression.runtime import Runtime
from compression.training.config import TrainingConfig
from compression.training.gold import gold_loss
from compression.training.hooks import StepHooks
from compression.training.loop import TrainingResult
from compression.training.predict import encode_for, task_logits
from compression.training.task import train_on_task

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def apply(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    data: TaskData,
    config: TrainingConfig,
    *,
    seed: int,
    runtime: Runtime,
    work: Path,
    control: Control,
    history: Path,
    hooks: StepHooks | None = None,
) -> TrainingResult:
    """Fine-tune a model in place (Devlin et al. 2018, arXiv:1810.04805, section 4).

    Args:
        model: model with a head for the task.
        tokenizer: its tokenizer.
        data: the task.
        config: optimiser, schedule, batches and stopping.
        seed: seed of the order of the rows and of dropout.
        runtime: device and precision.
        work: folder for resumable state.
        control: where to report progress, and whether to stop.
        history: file for the loss curve.
        hooks: what else is done around each step.

    Returns:
        Steps, losses and the selection score.

    Raises:
        Interrupted: a stop was asked for; the same call resumes.
        UserError: the model cannot take the rows, or the training diverged.
    """
    return train_on_task(
        model,
        loss,
        encode_for(model, data.train, tokenizer, data.config, control),
        tokenizer=tokenizer,
        data=data,
        config=config,
        seed=seed,
        runtime=runtime,
        work=work,
        control=control,
        history=history,
        hooks=hooks,
        description="fine-tuning",
    )


def loss(model: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
    """The loss of a batch against its gold labels, for the training loop.

    Args:
        model: model with a head for the task.
        batch: its inputs and `labels`.

    Returns:
        The loss (see `gold_loss`), which has no parts.
    """
    return gold_loss(task_logits(model, batch), batch["labels"], batch["attention_mask"]), {}
