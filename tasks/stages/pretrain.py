"""The `pretrain` stage: masked-language modelling on a corpus."""

from typing import Any, ClassVar

from compression.architecture.shape import EncoderShape
from compression.data.corpus_config import CorpusConfig
from compression.pretraining.config import PretrainConfig
from tasks.stages.base import Product, Split, Stage, StageRequest
from tasks.stages.training import starting_folder, trained_shape, training_arguments


class Pretrain(Stage):
    """Trains the chain's encoder, or a new student, to predict masked word pieces; it leaves an encoder with its head.

    One for all tasks, unless the corpus is the task's own rows.
    """

    kind = "pretrain"
    config_model = PretrainConfig
    accepts: ClassVar[frozenset[Product]] = frozenset({"encoder"})
    produces = "encoder"
    uses_seed = True
    several_processes = True
    resource = "training"

    def roles(self, config: PretrainConfig) -> tuple[str, ...]:
        """The pretrained encoder, when a student is made from it."""
        return ("encoder",) if config.student is not None else ()

    def reads(self, config: PretrainConfig) -> tuple[Split, ...]:
        """The training rows of the task, when they are the corpus."""
        return ("train",) if config.corpus.task_rows else ()

    def corpus(self, config: PretrainConfig) -> CorpusConfig:
        """The corpus; see `Stage.corpus`."""
        return config.corpus

    def reshape(self, config: PretrainConfig, shape: EncoderShape) -> EncoderShape:
        """The student's shape, where there is one; see `Stage.reshape`."""
        return trained_shape(config.student, shape)

    def run(self, request: StageRequest) -> dict[str, Any]:
        """Train and save the encoder; see `Stage.run`."""
        from compression.architecture.checkpoint import count_parameters, load_tokenizer, save_checkpoint
        from compression.architecture.masked_lm import load_masked_lm
        from compression.architecture.student import build_masked_lm_student
        from compression.data.corpus import Corpus
        from compression.pretraining import pretrain
        from compression.training.layer_drop import droppable

        config: PretrainConfig = request.config
        folder = starting_folder(request, config.student)
        pairs, seed = config.has_pairs, request.seed
        if config.student is None:
            model = load_masked_lm(folder, sentence_head=pairs, seed=seed)
        else:
            model = build_masked_lm_student(config.student, folder, sentence_head=pairs, seed=seed)
        model = droppable(model, config.layer_drop)
        tokenizer = load_tokenizer(folder)
        result = pretrain.apply(
            model,
            tokenizer,
            Corpus(config.corpus, request.roots, request.task),
            config,
            **training_arguments(request),
        )
        save_checkpoint(model, tokenizer, request.output)
        validation = {f"validation_{name}": value for name, value in result.validation.items()}
        return {
            "parameters": count_parameters(model),
            "training": result.training.summary(),
            "corpus": dict(result.corpus),
            "final": {"loss": result.training.final_loss, **validation},
        }
