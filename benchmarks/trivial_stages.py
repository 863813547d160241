"""Stages that do nothing but write a file: what is left is orchestration."""

from typing import Any

from compression.configuration import Config
from tasks.stages.base import Stage, StageRequest


class TrivialConfig(Config):
    """A number to tell stages apart."""

    number: int = 0


class Trivial(Stage):
    """Writes its number."""

    kind = "trivial"
    config_model = TrivialConfig
    accepts = frozenset({"encoder", "classifier"})
    produces = "classifier"

    def run(self, request: StageRequest) -> dict[str, Any]:
        """Write one small file."""
        (request.output / "number.txt").write_text(str(request.config.number))
        return {}


class TrivialEvaluate(Stage):
    """Reads the number back as a metric."""

    kind = "evaluate"
    config_model = Config
    accepts = frozenset({"encoder", "classifier"})
    produces = "evaluation"
    splits = ("evaluation",)

    def run(self, request: StageRequest) -> dict[str, Any]:
        """Report the number."""
        number = int((request.inputs["model"] / "number.txt").read_text())
        (request.output / "metrics.json").write_text(str(number))
        return {"metrics": {"accuracy": number / 1e6}}


STAGES = {stage.kind: stage for stage in (Trivial(), TrivialEvaluate())}
