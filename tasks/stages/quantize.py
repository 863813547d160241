"""The `quantize` stage: a task model's weights in a smaller number format."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from compression.data.config import TaskConfig, problem_of
from compression.errors import UserError
from compression.quantization.config import QuantizeConfig
from compression.runtime import Runtime
from tasks import keys
from tasks.stages.base import Product, Split, Stage, StageRequest
from tasks.stages.training import load_data, training_summary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from compression.quantization.surroundings import Surroundings


class Quantize(Stage):
    """Quantizes the chain's task model. Most schemes need no data, and nothing in them is random."""

    kind = "quantize"
    config_model = QuantizeConfig
    accepts: ClassVar[frozenset[Product]] = frozenset({"classifier"})
    produces = "quantized"
    resource = "training"

    def reads(self, config: QuantizeConfig) -> tuple[Split, ...]:
        """Training rows to calibrate or train on, selection rows to choose on; see `Stage.reads`."""
        trains = config.scheme == "int8-qat"
        train: tuple[Split, ...] = ("train",) if trains or config.calibrates else ()
        return (*train, "selection") if trains or config.mixed is not None else train

    def environment(self, runtime: Runtime) -> Mapping[str, str]:
        """Versions of what exports a model for another backend; see `Stage.environment`."""
        return {name: keys.optional_version(name) for name in ("onnx", "onnxscript")}

    def for_task(self, config: QuantizeConfig, task: TaskConfig) -> QuantizeConfig:
        """Refuses outputs that cannot be compared with those before; see `Stage.for_task`."""
        problem = problem_of(task)
        compares = config.mixed is not None or (config.scheme == "int8-qat" and config.qat.soft_weight > 0)
        if compares and problem not in ("classification", "regression"):
            raise UserError(
                f"task {task.name}: `mixed` and `qat.soft_weight` compare outputs of classification and regression, "
                f"not of {problem}: leave them out"
            )
        if config.backend != "torch" and problem == "span":
            raise UserError(f"task {task.name}: backend {config.backend} gives no spans; use torch")
        return config

    def is_random(self, config: QuantizeConfig) -> bool:
        """Whether rows are drawn in an order of their own; see `Stage.is_random`."""
        return config.scheme == "int8-qat"

    def run(self, request: StageRequest) -> dict[str, Any]:
        """Quantize and save the model; see `Stage.run`."""
        from compression.architecture.checkpoint import (
            count_parameters,
            load_task_model,
            load_tokenizer,
            save_checkpoint,
            save_tokenizer,
        )
        from compression.evaluation.efficiency import bytes_on_disk
        from compression.quantization import onnxruntime_backend, quantize

        elsewhere = request.config.backend == onnxruntime_backend.BACKEND
        if elsewhere:
            onnxruntime_backend.check_installed()
        source = request.inputs["model"]
        tokenizer = load_tokenizer(source)
        given = _surroundings(request, tokenizer) if self.reads(request.config) else None
        made = quantize.apply(load_task_model(source), request.config, given)
        if elsewhere:
            onnxruntime_backend.save_for_onnxruntime(made.model, request.output)
            save_tokenizer(tokenizer, request.output)
        else:
            save_checkpoint(made.model, tokenizer, request.output)
        summary: dict[str, Any] = {
            "parameters": count_parameters(made.model),
            "bytes": bytes_on_disk(request.output),
            "bytes_before": bytes_on_disk(source),
        }
        if made.training is not None and given is not None:
            summary |= training_summary(made.model, given.data, made.training)
        if made.scan is not None:
            summary["mixed"] = dataclasses.asdict(made.scan)
        return summary


def _surroundings(request: StageRequest, tokenizer: "PreTrainedTokenizerBase") -> "Surroundings":
    from compression.quantization.surroundings import Surroundings

    return Surroundings(
        tokenizer=tokenizer,
        data=load_data(request),
        work=request.work,
        history=request.output / "history.jsonl",
        seed=request.seed,
        runtime=request.runtime,
        control=request.control,
    )
