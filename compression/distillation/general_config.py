"""Configuration of the `general_distill` stage."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from compression.architecture.config import LayerIndex, StudentConfig
from compression.data.corpus_config import CorpusConfig
from compression.distillation.config import ObjectivesConfig, Weight
from compression.distillation.layer_mapping import HeadRule, MappingStrategy
from compression.distillation.recipes import GENERAL_RECIPES, merged
from compression.errors import did_you_mean
from compression.pretraining.config import MaskingConfig
from compression.training.config import TrainingConfig


class GeneralObjectivesConfig(ObjectivesConfig):
    """Weights of what is compared on a corpus: inside the encoders, and what masked-LM heads predict.

    Example:
        >>> GeneralObjectivesConfig(soft=5, masked_lm=2, cosine=1).predicts
        True
    """

    soft: Weight = Field(0.0, description="Vocabulary distributions at a temperature, KL divergence times T^2")
    masked_lm: Weight = Field(0.0, description="Masked word pieces against what stood there, cross-entropy")

    @property
    def predicts(self) -> bool:
        """Whether the student needs a masked-LM head."""
        return self.soft > 0 or self.masked_lm > 0


class GeneralDistillConfig(TrainingConfig):
    """Train a student on a corpus from a pretrained teacher, before any task (DistilBERT, TinyBERT, MiniLM).

    The teacher is the pretrained encoder; a `student` that is given after other stages is made of their model, which
    then is its teacher.

    Example:
        >>> config = GeneralDistillConfig(corpus="wiki.txt", student={"layers": [0, 3]}, recipe="distilbert")
        >>> config.objectives.soft, config.learning_rate, config.layer_mapping
        (5.0, 0.0005, 'last')
    """

    corpus: CorpusConfig = Field(description="Texts to learn from; a bare string is a file or a data set")
    student: StudentConfig | None = Field(
        None, description="Student to train; absent, the chain's own model is the student"
    )
    recipe: str | None = Field(
        None, description=f"Published settings for all fields that are not given: {', '.join(GENERAL_RECIPES)}"
    )
    objectives: GeneralObjectivesConfig = Field(
        default_factory=GeneralObjectivesConfig, description="What is compared, and how much it weighs"
    )
    layer_mapping: MappingStrategy | Annotated[tuple[LayerIndex | None, ...], Field(min_length=1)] = Field(
        "uniform",
        description="Teacher layer of each student layer: a strategy, or a list counted from 0 with null for a layer that learns from none",
    )
    heads: HeadRule = Field(
        "same",
        description="Layers with different numbers of heads are refused, or neighbouring heads of the larger are averaged",
    )
    temperature: float = Field(2.0, gt=0, description="Temperature T of the vocabulary distributions")
    soft_positions: Literal["all", "masked"] = Field(
        "all",
        description="Compare vocabulary distributions of all word pieces, or of the masked ones alone, which is several times as fast",
    )
    reference_code: bool = Field(
        False, description="Losses as in the papers' released code, where it departs from the papers' equations"
    )
    max_length: int = Field(128, ge=8, le=8192, description="Longest sequence in word pieces, special tokens included")
    masking: MaskingConfig = Field(
        default_factory=MaskingConfig, description="Which word pieces are predicted, and what is seen in their place"
    )

    epochs: float = Field(
        1.0, gt=0, le=10_000, description="Passes over the corpus, with new masks in each; a fraction stops within one"
    )
    learning_rate: float = Field(1e-4, gt=0, le=1, description="Peak learning rate of AdamW")
    batch_size: int = Field(256, ge=1, description="Sequences of one optimiser step")

    @model_validator(mode="before")
    @classmethod
    def _recipe_stands_in_for_defaults(cls, given: object) -> object:
        if not isinstance(given, Mapping) or given.get("recipe") is None:
            return given
        name = given["recipe"]
        if name not in GENERAL_RECIPES:
            near = did_you_mean(str(name), GENERAL_RECIPES)
            raise ValueError(f"unknown recipe {name!r}; allowed: {', '.join(GENERAL_RECIPES)}{near}")
        return merged(GENERAL_RECIPES[name].fields, _plain(given))

    @model_validator(mode="after")
    def _something_to_learn(self) -> Self:
        if not self.objectives.chosen() and not self.objectives.predicts:
            raise ValueError("nothing is compared: give `objectives` a weight, or a `recipe`")
        if not self.objectives.chosen() and self.objectives.soft == 0:
            raise ValueError("objectives.masked_lm alone asks no teacher: use the `pretrain` stage instead")
        return self


def _plain(given: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings in the place of models, so that they merge with a recipe's."""
    return {
        name: value.model_dump(exclude_unset=True) if isinstance(value, ObjectivesConfig | MaskingConfig) else value
        for name, value in given.items()
    }
