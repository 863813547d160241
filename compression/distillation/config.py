"""Configuration of distillation: what is compared between which layers, and the `task_distill` stage."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from compression.architecture.config import LayerIndex, StudentConfig
from compression.configuration import Config
from compression.distillation.layer_mapping import HeadRule, MappingStrategy
from compression.distillation.recipes import RECIPES, merged, recipe_fields
from compression.errors import did_you_mean
from compression.training.config import TrainingConfig

Weight = Annotated[float, Field(ge=0)]


class ObjectivesConfig(Config):
    """Weights of what is compared inside the two encoders; 0 leaves an objective out.

    Each is a sum over the pairs of the layer mapping, but for the embeddings and the relations, which are one.

    Example:
        >>> ObjectivesConfig(hidden=1, attention=1).chosen()
        ('hidden', 'attention')
    """

    embedding: Weight = Field(0.0, description="Projected embeddings, mean squared error (TinyBERT eq. 9)")
    hidden: Weight = Field(0.0, description="Projected hidden states, mean squared error (TinyBERT eq. 8)")
    attention: Weight = Field(
        0.0, description="Attention scores before the softmax, mean squared error (TinyBERT eq. 7)"
    )
    attention_distribution: Weight = Field(0.0, description="Attention after the softmax, KL divergence (MiniLM)")
    value_relation: Weight = Field(0.0, description="Products of value vectors, KL divergence (MiniLM)")
    cosine: Weight = Field(0.0, description="Directions of hidden states, one minus cosine (DistilBERT)")
    cls: Weight = Field(0.0, description="Normalised [CLS] states, squared distance (PKD)")
    relation_distance: Weight = Field(0.0, description="Distances between the batch's last [CLS] states (RKD)")
    relation_angle: Weight = Field(0.0, description="Angles between the batch's last [CLS] states (RKD)")

    def chosen(self) -> tuple[str, ...]:
        """Names of the objectives inside the encoders that have a weight.

        Returns:
            The names, in the order of the fields.
        """
        return tuple(name for name in ObjectivesConfig.model_fields if getattr(self, name) > 0)


class IntermediateConfig(Config):
    """A step of its own for the objectives, before the outputs are distilled (TinyBERT, arXiv:1909.10351, section 3.2).

    Whatever is null is as in the step that follows.

    Example:
        >>> IntermediateConfig(epochs=10).schedule
        'constant'
    """

    epochs: float = Field(20.0, gt=0, le=10_000, description="Passes over the training rows")
    steps: int | None = Field(None, ge=1, description="Optimiser steps, in place of `epochs`")
    learning_rate: float | None = Field(None, gt=0, le=1, description="Peak learning rate")
    batch_size: int | None = Field(None, ge=1, description="Sequences of one optimiser step")
    accumulation_steps: int | None = Field(None, ge=1, description="Micro-batches of one optimiser step")
    warmup_ratio: float = Field(0.0, ge=0, le=1, description="Share of the steps over which the learning rate rises")
    schedule: Literal["linear", "cosine", "constant"] = Field(
        "constant", description="Learning rate after warm-up; TinyBERT's released code keeps it constant"
    )
    dropout: float | None = Field(None, ge=0, lt=1, description="Dropout probability of the student")


class TaskDistillConfig(TrainingConfig):
    """Train a student on a task from its teacher (Hinton et al. 2015, arXiv:1503.02531; TinyBERT, arXiv:1909.10351).

    The teacher's outputs and the gold labels give `soft_weight * T^2 * CE(softmax(z_t / T), softmax(z_s / T)) +
    hard_weight * CE(gold, z_s)`; a regression task uses the mean squared error to the teacher's output and to the gold
    value. Objectives inside the encoders are added to it, or trained first, in a step of their own (`intermediate`).

    Example:
        >>> TaskDistillConfig(student="bert-tiny", temperature=4).temperature
        4.0
        >>> TaskDistillConfig(recipe="tinybert").for_task("cola").intermediate.epochs
        50.0
    """

    student: StudentConfig | None = Field(
        None, description="Student to train; absent, the chain's own model is the student"
    )
    recipe: str | None = Field(
        None,
        description=f"Published settings, by task, for all fields that are not given: {', '.join(RECIPES)}",
    )
    temperature: float = Field(2.0, gt=0, description="Temperature T of the softened distributions")
    soft_weight: float = Field(0.9, ge=0, description="Weight of the teacher's soft targets")
    hard_weight: float = Field(0.1, ge=0, description="Weight of the gold labels")
    teacher_seeds: tuple[Annotated[int, Field(ge=0, le=2**32 - 1)], ...] | None = Field(
        None,
        min_length=1,
        description="Seeds of several teachers whose outputs are averaged; null takes the one teacher of the study",
    )
    objectives: ObjectivesConfig = Field(
        default_factory=ObjectivesConfig,
        description="What else is compared, inside the encoders, and how much it weighs",
    )
    layer_mapping: MappingStrategy | Annotated[tuple[LayerIndex | None, ...], Field(min_length=1)] = Field(
        "uniform",
        description="Teacher layer of each student layer: a strategy, or a list counted from 0 with null for a layer that learns from none",
    )
    heads: HeadRule = Field(
        "same",
        description="Layers with different numbers of heads are refused, or neighbouring heads of the larger are averaged",
    )
    intermediate: IntermediateConfig | None = Field(
        None, description="Train the objectives first, in a step of their own; null adds them to the one step"
    )
    reference_code: bool = Field(
        False, description="Losses as in the papers' released code, where it departs from the papers' equations"
    )
    teacher_states_gigabytes: float = Field(
        4.0,
        ge=0,
        description="Keep the teacher's hidden states and attention on disk when they take no more than this and are used in several epochs; otherwise compute them anew at every step",
    )

    def for_task(self, task: str | None) -> Self:
        """The configuration with its recipe's settings for a task in the place of defaults.

        Args:
            task: GLUE name of the task; None for another task.

        Returns:
            The configuration, in which whatever was given stands.
        """
        if self.recipe is None:
            return self
        return type(self).model_validate(merged(recipe_fields(self.recipe, task), self._given()))

    def intermediate_training(self) -> TrainingConfig:
        """How the step for the objectives is trained.

        Returns:
            The stage's own training options with those of `intermediate` over them; nothing is measured meanwhile, and
            the last weights are kept.

        Raises:
            ValueError: there is no such step.
        """
        if self.intermediate is None:
            raise ValueError("this configuration has no intermediate step")
        own = {name: getattr(self, name) for name in TrainingConfig.model_fields}
        over = {name: value for name, value in self.intermediate.model_dump().items() if value is not None}
        unlike = {"steps": self.intermediate.steps, "evaluations_per_epoch": 0, "early_stopping_patience": None}
        return TrainingConfig(**{**own, **over, **unlike})

    def _given(self) -> dict[str, Any]:
        return self.model_dump(exclude_unset=True)

    @model_validator(mode="after")
    def _known_recipe(self) -> Self:
        if self.recipe is not None and self.recipe not in RECIPES:
            near = did_you_mean(self.recipe, RECIPES)
            raise ValueError(f"unknown recipe {self.recipe!r}; allowed: {', '.join(RECIPES)}{near}")
        return self

    @model_validator(mode="after")
    def _some_target(self) -> Self:
        if self.soft_weight == 0:
            raise ValueError("soft_weight is 0, so nothing would be distilled: use the `finetune` stage instead")
        return self

    @model_validator(mode="after")
    def _steps_have_something_to_learn(self) -> Self:
        given = self.model_dump()
        if self.recipe is not None:
            given = merged(recipe_fields(self.recipe, None), self._given())
        weights = [value for value in (given.get("objectives") or {}).values() if value > 0]
        if given.get("intermediate") is not None and not weights:
            raise ValueError(
                "`intermediate` has nothing to train: give `objectives` a weight, or set `intermediate: null`"
            )
        if weights and len(self.teacher_seeds or ()) > 1:
            raise ValueError("several teachers have outputs to average, but no layers: leave `objectives` out")
        return self
