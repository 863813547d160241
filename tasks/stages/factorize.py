"""The `factorize` stage: embedding and linear maps as products of two thin matrices."""

from typing import Any, ClassVar

from compression.architecture.shape import EncoderShape
from compression.factorization.config import FactorizeConfig
from compression.factorization.shape import shape_after
from tasks.stages.base import Product, Split, Stage, StageRequest
from tasks.stages.editing import save_edited, train_rows


class Factorize(Stage):
    """Factorises the chain's model; without a weighting it needs no data, and it is never random.

    Its folder holds, beside the checkpoint, the error of every matrix: `factorization.json`.
    """

    kind = "factorize"
    config_model = FactorizeConfig
    accepts: ClassVar[frozenset[Product]] = frozenset({"encoder", "classifier"})
    produces = "same"

    def reads(self, config: FactorizeConfig) -> tuple[Split, ...]:
        """The train rows, when a weighting looks at them; see `Stage.reads`."""
        return ("train",) if config.reads_data else ()

    def reshape(self, config: FactorizeConfig, shape: EncoderShape) -> EncoderShape:
        """The factorised shape; ranks that energy decides are not known yet, and leave it as it is."""
        return shape_after(config, shape)

    def run(self, request: StageRequest) -> dict[str, Any]:
        """Factorise and save the model; see `Stage.run`."""
        from compression.architecture.editing import load_editable
        from compression.factorization import factorize

        source = request.inputs["model"]
        model = load_editable(source)
        rows = train_rows(request, model, source) if request.config.reads_data else None
        made, report = factorize.apply(model, request.config, rows, runtime=request.runtime, control=request.control)
        save_edited(made, source, request.output, details=report.details(), name="factorization.json")
        return report.summary()
