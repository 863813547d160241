"""The `share` stage: layers of a group use the same weights."""

from typing import Any, ClassVar

from compression.architecture.shape import EncoderShape
from compression.sharing.config import ShareConfig
from compression.sharing.shape import shape_after
from tasks.stages.base import Product, Split, Stage, StageRequest
from tasks.stages.editing import save_edited, train_rows
from tasks.stages.training import trained_shape


class Share(Stage):
    """Lets layers of the chain's model, or of a new encoder, share weights.

    Its folder holds, beside the checkpoint, how far the shared blocks are from the original ones: `sharing.json`.
    """

    kind = "share"
    config_model = ShareConfig
    accepts: ClassVar[frozenset[Product]] = frozenset({"encoder", "classifier"})
    produces = "same"

    def roles(self, config: ShareConfig) -> tuple[str, ...]:
        """The pretrained encoder, when a student is made from it."""
        return ("encoder",) if config.student is not None else ()

    def reads(self, config: ShareConfig) -> tuple[Split, ...]:
        """The train rows, when layers are compared on them; see `Stage.reads`."""
        return ("train",) if config.reads_data else ()

    def is_random(self, config: ShareConfig) -> bool:
        """Only a student that does not copy everything is; see `Stage.is_random`."""
        student = config.student
        return student is not None and not (student.layers and student.embeddings and student.pooler)

    def reshape(self, config: ShareConfig, shape: EncoderShape) -> EncoderShape:
        """The shape with shared blocks; see `Stage.reshape`."""
        return shape_after(config, trained_shape(config.student, shape))

    def run(self, request: StageRequest) -> dict[str, Any]:
        """Share and save the model; see `Stage.run`."""
        from compression.architecture.editing import load_editable
        from compression.architecture.student import build_encoder
        from compression.sharing import share

        student = request.config.student
        source = request.inputs["model" if student is None else "encoder"]
        model = load_editable(source) if student is None else build_encoder(student, source, seed=request.seed)
        rows = train_rows(request, model, source) if request.config.reads_data else None
        made, report = share.apply(model, request.config, rows, runtime=request.runtime, control=request.control)
        save_edited(made, source, request.output, details=report.details(), name="sharing.json")
        return report.summary()
