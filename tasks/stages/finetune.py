"""The `finetune` stage: training on a task's gold labels."""

from typing import Any, ClassVar

from compression.architecture.shape import EncoderShape
from compression.training.finetune_config import FinetuneConfig
from tasks.stages.base import Product, Stage, StageRequest
from tasks.stages.training import load_data, starting_model, trained_shape, training_arguments, training_summary


class Finetune(Stage):
    """Trains the chain's model, or a new student, on a task's gold labels."""

    kind = "finetune"
    config_model = FinetuneConfig
    accepts: ClassVar[frozenset[Product]] = frozenset({"encoder", "classifier"})
    produces = "classifier"
    splits = ("train", "selection")
    uses_seed = True
    several_processes = True
    takes_rows = True
    resource = "training"

    def roles(self, config: FinetuneConfig) -> tuple[str, ...]:
        """The pretrained encoder, when a student is made from it."""
        return ("encoder",) if config.student is not None else ()

    def reshape(self, config: FinetuneConfig, shape: EncoderShape) -> EncoderShape:
        """The student's shape, where there is one; see `Stage.reshape`."""
        return trained_shape(config.student, shape)

    def run(self, request: StageRequest) -> dict[str, Any]:
        """Train and save the classifier; see `Stage.run`."""
        from compression.architecture.checkpoint import load_tokenizer, save_checkpoint
        from compression.training import finetune

        data = load_data(request)
        model, folder = starting_model(request, request.config.student, data)
        tokenizer = load_tokenizer(folder)
        result = finetune.apply(
            model,
            tokenizer,
            data,
            request.config,
            **training_arguments(request),
        )
        save_checkpoint(model, tokenizer, request.output)
        return training_summary(model, data, result)
