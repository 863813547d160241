"""The `quantize` stage: a task model's weights in a smaller number format."""

from typing import Any, ClassVar

from compression.quantization.config import QuantizeConfig
from tasks.stages.base import Product, Stage, StageRequest


class Quantize(Stage):
    """Quantizes the chain's classifier; no data is needed, and nothing is random."""

    kind = "quantize"
    config_model = QuantizeConfig
    accepts: ClassVar[frozenset[Product]] = frozenset({"classifier"})
    produces = "quantized"

    def run(self, request: StageRequest) -> dict[str, Any]:
        """Quantize and save the model; see `Stage.run`."""
        from compression.architecture.checkpoint import (
            count_parameters,
            load_task_model,
            load_tokenizer,
            save_checkpoint,
        )
        from compression.evaluation.efficiency import bytes_on_disk
        from compression.quantization import quantize

        source = request.inputs["model"]
        model = quantize.apply(load_task_model(source), request.config)
        save_checkpoint(model, load_tokenizer(source), request.output)
        return {
            "parameters": count_parameters(model),
            "bytes": bytes_on_disk(request.output),
            "bytes_before": bytes_on_disk(source),
        }
