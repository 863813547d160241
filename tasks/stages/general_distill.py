"""The `general_distill` stage: a student learns from a pretrained teacher on a corpus."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from compression.architecture.shape import EncoderShape
from compression.data.corpus_config import CorpusConfig
from compression.distillation.general_config import GeneralDistillConfig
from compression.distillation.remarks import comparison_remarks, general_settings_remarks
from tasks.stages.base import Product, Split, Stage, StageRequest
from tasks.stages.training import trained_shape, training_arguments

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class GeneralDistill(Stage):
    """Trains the chain's encoder, or a new student, to be like a pretrained teacher; it leaves an encoder.

    A student is made of its teacher: the model before it in the chain, or the pretrained encoder. Without a student,
    the chain's own encoder learns from the pretrained one. One for all tasks, unless the corpus is the task's own rows.
    """

    kind = "general_distill"
    config_model = GeneralDistillConfig
    accepts: ClassVar[frozenset[Product]] = frozenset({"encoder"})
    produces = "encoder"
    uses_seed = True
    needs_student = True
    student_of_model = True
    resource = "training"

    def roles(self, config: GeneralDistillConfig) -> tuple[str, ...]:
        """The pretrained encoder."""
        return ("encoder",)

    def teacher_role(self, config: GeneralDistillConfig, given: tuple[str, ...]) -> str | None:
        """See `Stage.teacher_role`."""
        return "model" if config.student is not None and "model" in given else "encoder"

    def reads(self, config: GeneralDistillConfig) -> tuple[Split, ...]:
        """The training rows of the task, when they are the corpus."""
        return ("train",) if config.corpus.task_rows else ()

    def corpus(self, config: GeneralDistillConfig) -> CorpusConfig:
        """The corpus; see `Stage.corpus`."""
        return config.corpus

    def reshape(self, config: GeneralDistillConfig, shape: EncoderShape) -> EncoderShape:
        """The student's shape, where there is one; see `Stage.reshape`."""
        return trained_shape(config.student, shape)

    def remarks(
        self, config: GeneralDistillConfig, shape: EncoderShape | None, teacher: EncoderShape | None
    ) -> tuple[str, ...]:
        """Settings of a recipe, and the layers that are compared; see `Stage.remarks`."""
        return (*general_settings_remarks(config), *comparison_remarks(config, shape, teacher))

    def run(self, request: StageRequest) -> dict[str, Any]:
        """Distil and save the encoder; see `Stage.run`."""
        from compression.architecture.checkpoint import count_parameters, load_tokenizer, save_checkpoint
        from compression.architecture.conversion import plain_where_possible
        from compression.data.corpus import Corpus
        from compression.distillation import general
        from compression.distillation.same_tokenizer import check_same_tokenizer

        config: GeneralDistillConfig = request.config
        source = request.inputs[self.teacher_role(config, tuple(request.inputs)) or "encoder"]
        folder = source if config.student is not None else request.inputs["model"]
        tokenizer = load_tokenizer(folder)
        check_same_tokenizer(tokenizer, load_tokenizer(source))
        student = _student(config, folder, request.seed)
        result = general.apply(
            student,
            _teacher(config, source),
            tokenizer,
            Corpus(config.corpus, request.roots, request.task),
            config,
            **training_arguments(request),
        )
        save_checkpoint(plain_where_possible(student), tokenizer, request.output)
        validation = {f"validation_{name}": value for name, value in result.validation.items()}
        return {
            "parameters": count_parameters(student),
            "training": result.training.summary(),
            "corpus": dict(result.corpus),
            "final": {"loss": result.training.final_loss, **validation},
        }


def _student(config: GeneralDistillConfig, folder: Path, seed: int) -> "PreTrainedModel":
    """The student, with a masked-LM head when the objectives need one."""
    from compression.architecture.editing import load_editable
    from compression.architecture.masked_lm import load_masked_lm
    from compression.architecture.student import build_encoder, build_masked_lm_student

    if config.student is None:
        return load_masked_lm(folder, seed=seed) if config.objectives.predicts else load_editable(folder)
    if config.objectives.predicts:
        return build_masked_lm_student(config.student, folder, seed=seed)
    return build_encoder(config.student, folder, seed=seed)


def _teacher(config: GeneralDistillConfig, folder: Path) -> "PreTrainedModel":
    """The teacher; one that has to predict words needs a head that was trained to."""
    from compression.architecture.editing import load_editable
    from compression.architecture.masked_lm import load_masked_lm
    from compression.errors import CheckpointError

    if not config.objectives.soft:
        return load_editable(folder)
    try:
        return load_masked_lm(folder, fresh_head=False)
    except CheckpointError as error:
        raise CheckpointError(
            f"{error}; objective `soft` needs a teacher with one: put {{pretrain: {{train: heads}}}} before this stage"
        ) from error
