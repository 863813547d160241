"""Stages that do nothing, so that study files can be tested apart from what stages compute."""

from typing import Any

import yaml
from pydantic import Field

from compression.architecture.config import StudentConfig
from compression.configuration import Config
from compression.distillation.config import TaskDistillConfig
from compression.quantization.config import QuantizeConfig
from compression.training.finetune_config import FinetuneConfig
from flows.study_file import LoadedStudy, load_study
from tasks.stages.base import Stage, StageRequest


class Objectives(Config):
    """Weights of losses."""

    embedding: float = Field(1.0, ge=0, description="Weight of the embedding loss")
    attention: float = Field(1.0, ge=0, description="Weight of the attention loss")


class GeneralConfig(Config):
    """A stage with a required field, a nested model and a free mapping."""

    corpus: str = Field(description="Corpus")
    student: StudentConfig | None = Field(None, description="Student")
    objectives: Objectives = Field(default_factory=Objectives, description="Losses")
    extras: dict[str, float] = Field(default_factory=dict, description="Free numbers")


class MeasureConfig(Config):
    """What the last stage of a chain is told."""

    batch_size: int = Field(64, ge=1, description="Sequences a pass")
    repeats: int = Field(100, ge=5, description="Timed passes")


class PretendStage(Stage):
    def __init__(
        self, kind: str, config_model: type[Config], accepts: set[str], produces: str, *, needs_student: bool = False
    ) -> None:
        self.kind, self.config_model = kind, config_model  # type: ignore[misc]
        self.accepts, self.produces = frozenset(accepts), produces  # type: ignore[misc, assignment]
        self.needs_student = needs_student  # type: ignore[misc]

    def run(self, request: StageRequest) -> dict[str, Any]:
        return {}


REGISTRY: dict[str, Stage] = {
    "general": PretendStage("general", GeneralConfig, {"encoder"}, "encoder", needs_student=True),
    "finetune": PretendStage("finetune", FinetuneConfig, {"encoder", "classifier"}, "classifier"),
    "task_distill": PretendStage(
        "task_distill", TaskDistillConfig, {"encoder", "classifier"}, "classifier", needs_student=True
    ),
    "quantize": PretendStage("quantize", QuantizeConfig, {"classifier"}, "quantized"),
    "evaluate": PretendStage("evaluate", MeasureConfig, {"classifier", "quantized"}, "evaluation"),
}

HEAD = """\
name: demo
teacher: {model: bert-base-uncased}
tasks: [sst2]
"""


def load(folder: Any, text: str, *overrides: str) -> LoadedStudy:
    """Load a study from its text."""
    path = folder / "study.yaml"
    path.write_text(text, encoding="utf-8")
    return load_study(path, overrides, REGISTRY)


def load_variants(folder: Any, variants: dict[str, Any], **fields: Any) -> LoadedStudy:
    """Load a study with some variants."""
    study = {"name": "demo", "teacher": {"model": "bert"}, "tasks": ["sst2"], "variants": variants, **fields}
    return load(folder, yaml.safe_dump(study, sort_keys=False))


def chain(loaded: LoadedStudy, name: str) -> list[tuple[str, dict[str, Any]]]:
    """The chain of a variant: kind and what differs from the stage's own defaults."""
    variant = next(variant for variant in loaded.variants if variant.name == name)
    return [(stage.kind, stage.config.model_dump(exclude_defaults=True)) for stage in variant.stages]
