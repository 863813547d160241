"""How a model is trained: shared by every stage that trains."""

from typing import Literal, Self

from pydantic import Field, model_validator

from compression.configuration import Config


class TrainingConfig(Config):
    """Optimiser, schedule, batches and stopping.

    Example:
        >>> TrainingConfig(epochs=1, learning_rate=1e-4).batch_size
        32
    """

    epochs: float = Field(
        3.0, gt=0, le=10_000, description="Passes over the training rows; a fraction stops within an epoch"
    )
    steps: int | None = Field(None, ge=1, description="Optimiser steps, in place of `epochs`")
    learning_rate: float = Field(5e-5, gt=0, le=1, description="Peak learning rate of AdamW")
    batch_size: int = Field(32, ge=1, description="Sequences of one optimiser step")
    accumulation_steps: int = Field(
        1, ge=1, description="Micro-batches that one optimiser step is split into; divides batch_size"
    )
    weight_decay: float = Field(0.01, ge=0, description="Decoupled weight decay; none on biases and LayerNorm")
    warmup_ratio: float = Field(
        0.1, ge=0, le=1, description="Share of the steps over which the learning rate rises from 0"
    )
    schedule: Literal["linear", "cosine", "constant"] = Field("linear", description="Learning rate after warm-up")
    max_grad_norm: float = Field(1.0, ge=0, description="Gradient norm is clipped to this; 0 does not clip")
    adam_beta1: float = Field(0.9, ge=0, lt=1, description="AdamW's first-moment decay")
    adam_beta2: float = Field(0.999, ge=0, lt=1, description="AdamW's second-moment decay")
    adam_epsilon: float = Field(1e-8, gt=0, description="AdamW's denominator offset")
    evaluations_per_epoch: int = Field(
        1, ge=0, description="Measurements on the selection split an epoch; 0 never measures and keeps the last weights"
    )
    keep: Literal["best", "last"] = Field(
        "best", description="Weights to keep: the best ones of all measurements, or the last"
    )
    early_stopping_patience: int | None = Field(
        None,
        ge=1,
        description="Stop after this many measurements without a better one; null trains to the end",
    )
    dropout: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Dropout probability while training, of every dropout layer; null keeps the model's own",
    )
    layer_drop: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Probability of leaving a whole layer out of a training step (LayerDrop), which prepares for pruning layers; above 0 the model becomes an encoder of any shape",
    )
    length_bucketing: bool = Field(
        True, description="Batch sequences of similar length; off, batches are drawn at random and padded"
    )
    checkpoint_seconds: float = Field(
        120.0, ge=0, description="Seconds between resumable checkpoints; has no influence on the result"
    )

    @model_validator(mode="after")
    def _stops_at_the_best(self) -> Self:
        if self.keep == "last" and self.early_stopping_patience is not None:
            raise ValueError("early_stopping_patience waits for a better measurement, which needs keep: best")
        return self
