"""Configuration of the `task_distill` stage."""

from typing import Self

from pydantic import Field, model_validator

from compression.architecture.config import StudentConfig
from compression.training.config import TrainingConfig


class TaskDistillConfig(TrainingConfig):
    """Train a student on a task from the teacher's logits and the gold labels (Hinton et al. 2015, arXiv:1503.02531).

    Loss: `soft_weight * T^2 * CE(softmax(z_t / T), softmax(z_s / T)) + hard_weight * CE(gold, z_s)`; a regression task
    uses the mean squared error to the teacher's output and to the gold value.

    Example:
        >>> TaskDistillConfig(student="bert-tiny", temperature=4).temperature
        4.0
    """

    student: StudentConfig | None = Field(
        None, description="Student to train; absent, the chain's own model is the student"
    )
    temperature: float = Field(2.0, gt=0, description="Temperature T of the softened distributions")
    soft_weight: float = Field(0.9, ge=0, description="Weight of the teacher's soft targets")
    hard_weight: float = Field(0.1, ge=0, description="Weight of the gold labels")

    @model_validator(mode="after")
    def _some_target(self) -> Self:
        if self.soft_weight == 0:
            raise ValueError("soft_weight is 0, so nothing would be distilled: use the `finetune` stage instead")
        return self
