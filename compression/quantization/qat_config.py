"""Configuration of quantisation-aware training."""

from typing import Self

from pydantic import Field, model_validator

from compression.training.config import TrainingConfig


class QatConfig(TrainingConfig):
    """Train on with int8 rounding in the forward pass (Q8BERT, Zafrir et al. 2019, arXiv:1910.06188).

    Example:
        >>> QatConfig(soft_weight=0.9, hard_weight=0.1).learning_rate
        2e-05
    """

    epochs: float = Field(1.0, gt=0, le=10_000, description="Passes over the training rows")
    learning_rate: float = Field(2e-5, gt=0, le=1, description="Peak learning rate of AdamW")
    per_channel: bool = Field(
        True, description="A scale for each output channel and each row of a table; off, one a matrix as in Q8BERT"
    )
    range_decay: float = Field(
        0.9999, ge=0, lt=1, description="Decay of the moving average of a layer's largest input, one step a batch"
    )
    soft_weight: float = Field(
        0.0, ge=0, description="Weight of the outputs of the model before quantisation, as a teacher; 0 leaves it out"
    )
    hard_weight: float = Field(1.0, ge=0, description="Weight of the gold labels")
    temperature: float = Field(1.0, gt=0, description="Temperature of the softened distributions")

    @model_validator(mode="after")
    def _has_a_target(self) -> Self:
        if self.soft_weight == 0 and self.hard_weight == 0:
            raise ValueError("soft_weight and hard_weight are both 0: there is nothing to learn from")
        return self

    @model_validator(mode="after")
    def _ranges_are_averaged_once_a_step(self) -> Self:
        if self.accumulation_steps > 1:
            raise ValueError("ranges are averaged once a step: lower batch_size in place of accumulation_steps")
        return self
