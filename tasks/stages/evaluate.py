"""The `evaluate` stage: what a checkpoint scores on its task, and what it costs."""

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from compression.evaluation.config import EvaluateConfig
from compression.runtime import Runtime, cpu_instructions
from tasks import keys
from tasks.stages.base import Product, Stage, StageRequest

# By these, `compression.quantization.int8_arithmetic` chooses the kernel of an int8 model.
_INT8_INSTRUCTIONS = ("avx2", "avx512_vnni", "avx_vnni")


class Evaluate(Stage):
    """Measures the chain's model on the task's reported splits.

    Its folder holds what depends on model and data alone: `predictions.parquet` and `metrics.json`. Latency and machine
    are in the summary.
    """

    kind = "evaluate"
    config_model = EvaluateConfig
    accepts: ClassVar[frozenset[Product]] = frozenset({"classifier", "quantized"})
    produces = "evaluation"
    splits = ("evaluation",)
    resource = "measurement"

    def environment(self, runtime: Runtime) -> Mapping[str, str]:
        """Instruction sets and runtimes that an int8 model's numbers depend on; see `Stage.environment`."""
        found = [name for name in _INT8_INSTRUCTIONS if name in cpu_instructions()]
        instructions = {"int8_instructions": " ".join(found)} if runtime.device == "cpu" else {}
        return {"onnxruntime": keys.optional_version("onnxruntime"), **instructions}

    def run(self, request: StageRequest) -> dict[str, Any]:
        """Measure the model; see `Stage.run`."""
        from compression.data.load import load_task
        from compression.evaluation import evaluate

        if request.task is None:
            raise ValueError("this stage needs a task")
        result = evaluate.apply(
            request.inputs["model"],
            load_task(request.task, request.roots),
            request.config,
            runtime=request.runtime,
            control=request.control,
        )
        result.predictions.to_parquet(request.output / "predictions.parquet", index=False)
        size = {name: result.efficiency[name] for name in ("parameters", "bytes")}
        measured: dict[str, Any] = {"metrics": result.metrics, "examples": result.examples}
        if result.no_answer_threshold is not None:
            measured["no_answer_threshold"] = result.no_answer_threshold
        (request.output / "metrics.json").write_text(json.dumps(measured | size, indent=2) + "\n", encoding="utf-8")
        return measured | {"efficiency": result.efficiency, "environment": result.environment}
