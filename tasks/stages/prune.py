"""The `prune` stage: heads, neurons, layers, weights or word pieces that contribute least are removed."""

import json
from typing import Any, ClassVar

from compression.architecture.shape import EncoderShape
from compression.data.corpus_config import CorpusConfig
from compression.pruning.config import PruneConfig
from compression.pruning.shape import pruned_shape
from tasks.stages.base import Product, Split, Stage, StageRequest
from tasks.stages.training import load_data, training_arguments


class Prune(Stage):
    """Prunes the chain's model.

    Its folder holds, beside the checkpoint, what each round told: `pruning.json`.
    """

    kind = "prune"
    config_model = PruneConfig
    accepts: ClassVar[frozenset[Product]] = frozenset({"encoder", "classifier"})
    produces = "same"
    resource = "training"

    def refuses(self, config: PruneConfig, product: Product) -> str | None:
        """An encoder without a head, when its loss is needed; see `Stage.refuses`."""
        if product == "classifier" or not (config.needs_gradients or config.trains):
            return None
        return "it needs a classifier to train" if config.trains else "it needs a classifier's loss to tell importance"

    def reads(self, config: PruneConfig) -> tuple[Split, ...]:
        """The train rows, when they decide what goes, and the selection rows for training; see `Stage.reads`."""
        if config.trains:
            return ("train", "selection")
        return ("train",) if config.reads_data else ()

    def is_random(self, config: PruneConfig) -> bool:
        """Random importance and training are; see `Stage.is_random`."""
        return config.is_random

    def corpus(self, config: PruneConfig) -> CorpusConfig | None:
        """The corpus whose word pieces are kept; see `Stage.corpus`."""
        return config.corpus

    def reshape(self, config: PruneConfig, shape: EncoderShape) -> EncoderShape:
        """The pruned shape; see `Stage.reshape`."""
        return pruned_shape(config, shape)

    def remarks(self, config: PruneConfig, shape: EncoderShape | None, teacher: EncoderShape | None) -> tuple[str, ...]:
        """What the plan's size leaves open; see `Stage.remarks`."""
        if config.weights is not None:
            share = f"{config.weights.sparsity:.0%} of the layers' weights"
            return (f"{share} become 0, which dense arithmetic neither skips nor saves: not smaller, not faster",)
        if config.structured is not None:
            return ("size as if heads and neurons went in equal shares: the data decide",)
        if config.vocabulary is not None:
            return ("size with the whole vocabulary: the texts decide which word pieces stay",)
        return ()

    def run(self, request: StageRequest) -> dict[str, Any]:
        """Prune and save the model; see `Stage.run`."""
        from compression.architecture.checkpoint import load_tokenizer, save_checkpoint
        from compression.architecture.editing import load_editable
        from compression.data.corpus import Corpus
        from compression.pruning import prune

        config: PruneConfig = request.config
        source = request.inputs["model"]
        data = load_data(request) if config.reads_data else None
        result = prune.apply(
            load_editable(source),
            load_tokenizer(source),
            config,
            data=data,
            corpus=None if config.corpus is None else Corpus(config.corpus, request.roots, request.task),
            **training_arguments(request),
        )
        save_checkpoint(result.model, result.tokenizer, request.output)
        report = {**result.summary, "rounds": result.rounds}
        (request.output / "pruning.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        if result.training is None or data is None:
            return result.summary
        final = {"loss": result.training.final_loss}
        if result.training.best_score is not None:
            final[f"selection_{data.metrics[0]}"] = result.training.best_score
        return {**result.summary, "training": result.training.summary(), "final": final}
