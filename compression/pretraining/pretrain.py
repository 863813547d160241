"""Masked-language modelling: a model learns to predict masked word pieces of a corpus."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from compression.architecture.masked_lm import MaskedLanguageModel
from compression.control import Control
from compression.data.corpus import Corpus
from compression.data.corpus_packing import PackedSplits, pack, vocabulary_size
from compression.errors import CheckpointError, UserError
from compression.pretraining.config import MaskingConfig, Objective, PretrainConfig
from compression.pretraining.rows import MaskedRows, special_tokens
from compression.pretraining.vocabulary import Vocabulary
from compression.runtime import Runtime
from compression.training.layer_drop import layer_drop
from compression.training.loop import TrainingResult, train
from compression.training.precision import build_accelerator, dropout_probability, training_attention
from compression.training.predict import longest_input, model_inputs

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_TOKENS_A_BATCH = 4096  # of a measurement: a stop request is answered between batches


@dataclass(frozen=True)
class PretrainResult:
    """What a pretraining came to.

    Attributes:
        training: steps, losses and speed.
        corpus: counts of word pieces and sequences.
        validation: measurements of the kept weights on the held-out part, see `measure`; empty without one.
    """

    training: TrainingResult
    corpus: Mapping[str, int | bool]
    validation: Mapping[str, float]


def apply(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    corpus: Corpus,
    config: PretrainConfig,
    *,
    seed: int,
    runtime: Runtime,
    work: Path,
    control: Control,
    history: Path,
) -> PretrainResult:
    """Train a masked language model in place (Devlin et al. 2018, arXiv:1810.04805).

    Args:
        model: masked language model, with a sentence head for an objective of pairs.
        tokenizer: its tokenizer.
        corpus: texts to learn from.
        config: objective, masking, and how to train.
        seed: seed of masks, pairs, the order of the sequences and of dropout.
        runtime: device and precision.
        work: folder for the packed corpus and resumable state.
        control: where to report progress, and whether to stop.
        history: file for the loss curve.

    Returns:
        Steps, losses, and the loss on the held-out part of the corpus.

    Raises:
        Interrupted: a stop was asked for; the same call resumes.
        DataError: the corpus cannot be read, or is too small.
        UserError: the model cannot take the sequences, or the training diverged.
    """
    vocabulary = Vocabulary.of(tokenizer)
    check_fits_corpus(model, tokenizer, config.max_length)
    _check_pairs(tokenizer, config)
    with build_accelerator(runtime).main_process_first():
        splits = pack(
            corpus,
            tokenizer,
            work / "corpus",
            special_tokens=special_tokens(config.objective),
            max_length=config.max_length,
            control=control,
        )
    rows = MaskedRows(splits.train, vocabulary, config.masking, config.objective, seed)
    held_out = validation_rows(splits, vocabulary, config.masking, config.objective, config.corpus.split_seed)
    trained = MaskedLanguageModel(model)
    with (
        training_attention(model, runtime),
        dropout_probability(model, config.dropout),
        layer_drop(model, config.layer_drop),
        _trainable(model, config),
    ):
        result = train(
            trained,
            masked_lm_loss,
            rows,
            config=config,
            seed=seed,
            runtime=runtime,
            work=work,
            control=control,
            history=history,
            evaluate=None if held_out is None else _selection_score(held_out, control),
            description="pretraining",
        )
    validation = {} if held_out is None else measure(trained, held_out, control)
    return PretrainResult(result, splits.summary(), validation)


def validation_rows(
    splits: PackedSplits, vocabulary: Vocabulary, masking: MaskingConfig, objective: Objective, seed: int
) -> MaskedRows | None:
    """The held-out sequences, masked in the same way for every seed of a study, so that losses can be compared.

    Args:
        splits: the packed corpus.
        vocabulary: the tokenizer's vocabulary.
        masking: shares and way of choosing.
        objective: whether sequences are cut into pairs.
        seed: seed of the masks, the corpus's `split_seed`.

    Returns:
        The rows; None when nothing is held out.
    """
    if splits.validation is None:
        return None
    return MaskedRows(splits.validation, vocabulary, masking, objective, seed, counts=splits.train.counts)


def masked_lm_loss(model: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
    """Cross-entropy of the masked word pieces, and of the pairs if there are any.

    The first is the mean over all masked pieces of the optimiser step, of which a micro-batch adds its share: micro-
    batches with few masked pieces count for less.

    Args:
        model: `MaskedLanguageModel`, also when wrapped for training.
        batch: what `MaskedRows` makes.

    Returns:
        Their sum, and the parts `masked_lm` and `sentence_pairs`, scalars in fp32.
    """
    logits, pair_logits = model(batch["positions"], **model_inputs(getattr(model, "module", model).model, batch))
    targets = batch["targets_a_row"] * len(batch["input_ids"])
    masked = functional.cross_entropy(logits.float(), batch["targets"], reduction="sum") / targets
    if "labels" not in batch:
        return masked, {"masked_lm": masked}
    pairs = functional.cross_entropy(pair_logits.float(), batch["labels"])
    return masked + pairs, {"masked_lm": masked, "sentence_pairs": pairs}


def measure(model: Any, rows: MaskedRows, control: Control) -> dict[str, float]:
    """Losses and accuracies of a model on held-out sequences, in evaluation mode.

    Args:
        model: `MaskedLanguageModel`, also when wrapped for training; left in evaluation mode.
        rows: the sequences.
        control: whether to stop.

    Returns:
        `loss`, mean cross-entropy of a masked word piece in nats; `perplexity`, its exponential; `accuracy`, share of
        masked pieces that are ranked first; and for pairs `pair_loss` and `pair_accuracy`.

    Raises:
        Interrupted: a stop was asked for.
    """
    model.eval()
    device = next(model.parameters()).device
    inner = getattr(model, "module", model).model
    sums = dict.fromkeys(("targets", "loss", "accuracy", "pairs", "pair_loss", "pair_accuracy"), 0.0)
    with torch.inference_mode():
        for number, part in enumerate(length_batches(rows.lengths)):
            control.check()
            batch = {name: tensor.to(device) for name, tensor in rows.tensors(number, [part], [0])[0].items()}
            logits, pair_logits = model(batch["positions"], **model_inputs(inner, batch))
            _add(sums, "targets", "loss", "accuracy", logits, batch["targets"])
            if "labels" in batch:
                _add(sums, "pairs", "pair_loss", "pair_accuracy", pair_logits, batch["labels"])
    loss = sums["loss"] / max(1.0, sums["targets"])
    measured = {
        "loss": loss,
        "perplexity": math.exp(min(loss, 700.0)),
        "accuracy": sums["accuracy"] / max(1.0, sums["targets"]),
    }
    if sums["pairs"]:
        measured |= {name: sums[name] / sums["pairs"] for name in ("pair_loss", "pair_accuracy")}
    return measured


def _add(
    sums: dict[str, float], count: str, loss: str, accuracy: str, logits: torch.Tensor, gold: torch.Tensor
) -> None:
    sums[count] += len(gold)
    sums[loss] += float(functional.cross_entropy(logits.float(), gold, reduction="sum"))
    sums[accuracy] += int((logits.argmax(dim=1) == gold).sum())


def length_batches(lengths: np.ndarray) -> Iterator[np.ndarray]:
    """Rows from long to short, in parts of about as many word pieces, for a measurement.

    Args:
        lengths: (rows,) word pieces of each row.

    Yields:
        Row numbers of each part.

    Example:
        >>> [part.tolist() for part in length_batches(np.array([2048, 4096, 2048]))]
        [[1], [0, 2]]
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, _TOKENS_A_BATCH // int(lengths[order[start]]))
        yield order[start : start + size]
        start += size


def _selection_score(rows: MaskedRows, control: Control) -> Callable[[Any], float]:
    """Model -> what is to be as high as possible: the negative loss that is trained on, of the held-out part."""

    def score(model: Any) -> float:
        measured = measure(model, rows, control)
        return -measured["loss"] - measured.get("pair_loss", 0.0)

    return score


@contextmanager
def _trainable(model: "PreTrainedModel", config: PretrainConfig) -> Iterator[None]:
    """Freeze what is not to be trained, and thaw it afterwards; a pooler without a sentence head has no gradient."""
    encoder = model.base_model
    pooler = getattr(encoder, "pooler", None)
    still = list(encoder.parameters()) if config.train == "heads" else []
    if pooler is not None:
        own = {id(parameter) for parameter in pooler.parameters()}
        still = [parameter for parameter in still if id(parameter) not in own]
        still += [] if config.has_pairs else list(pooler.parameters())
    for parameter in still:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in still:
            parameter.requires_grad_(True)


def check_fits_corpus(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", max_length: int) -> None:
    """Refuse sequences that a model cannot take.

    Args:
        model: the model.
        tokenizer: the tokenizer of the sequences.
        max_length: their longest length in word pieces.

    Raises:
        CheckpointError: the model has fewer positions, or a smaller vocabulary.
    """
    positions = longest_input(model.config)
    if max_length > positions:
        raise CheckpointError(
            f"max_length {max_length} is more than the model has positions: set it to at most {positions}"
        )
    if vocabulary_size(tokenizer) > model.config.vocab_size:
        raise CheckpointError(
            f"the tokenizer does not belong to the model: it has {vocabulary_size(tokenizer)} word pieces, "
            f"the model's vocabulary {model.config.vocab_size}"
        )


def _check_pairs(tokenizer: "PreTrainedTokenizerBase", config: PretrainConfig) -> None:
    if config.has_pairs and tokenizer.num_special_tokens_to_add(pair=True) != special_tokens(config.objective):
        raise UserError(
            f"objective {config.objective} needs a tokenizer that joins pairs as [CLS] … [SEP] … [SEP]; this one adds "
            f"{tokenizer.num_special_tokens_to_add(pair=True)} special tokens to a pair"
        )
