"""Stages of every shape, without any science: what the planning code is tested with."""

from typing import Any

from compression.configuration import Config
from tasks.stages.base import Stage


class Nothing(Config):
    """A configuration with a value to differ in."""

    value: int = 0
    teacher: bool = False


class FakeStage(Stage):
    config_model = Nothing
    accepts = frozenset({"encoder", "classifier"})

    def roles(self, config: Any) -> tuple[str, ...]:
        return ("teacher",) if config.teacher else ()

    def run(self, request):
        raise AssertionError("planning runs nothing")


class General(FakeStage):
    kind, produces, uses_seed = "general", "encoder", False


class Factorize(FakeStage):
    kind, produces = "factorize", "encoder"


class Tune(FakeStage):
    kind, produces, uses_seed, splits = "finetune", "classifier", True, ("train",)


class Distill(FakeStage):
    kind, produces, uses_seed, splits = "distill", "classifier", True, ("train",)


class Measure(FakeStage):
    kind, produces, splits = "evaluate", "evaluation", ("evaluation",)


STAGES = {stage.kind: stage for stage in (General(), Factorize(), Tune(), Distill(), Measure())}
