"""General distillation: a student learns from a pretrained teacher on a corpus, before any task."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from compression.architecture.conversion import shape_of_model, to_bertpress
from compression.control import Control
from compression.data.corpus import Corpus
from compression.data.corpus_packing import pack
from compression.distillation.capture import Captured, capture, frozen_teacher
from compression.distillation.comparison import Comparison, compare
from compression.distillation.general_config import GeneralDistillConfig
from compression.distillation.losses.averaging import Form
from compression.distillation.losses.kl_divergence import kl_by_row
from compression.distillation.objectives import objective_losses, weighted
from compression.distillation.student_module import StudentModule, give_back, student_module
from compression.errors import UserError
from compression.pretraining.config import Objective
from compression.pretraining.pretrain import PretrainResult, check_fits_corpus, length_batches, validation_rows
from compression.pretraining.rows import MaskedRows, special_tokens
from compression.pretraining.vocabulary import Vocabulary
from compression.runtime import Runtime
from compression.training.loop import train
from compression.training.precision import DTYPES, dropout_probability, training_attention
from compression.training.predict import model_inputs

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from compression.architecture.encoder.modeling_bertpress import BertpressPreTrainedModel

_SEQUENCES: Objective = "masked_lm"  # sequences of one segment: DistilBERT, TinyBERT and MiniLM have no task on pairs


def apply(
    student: "PreTrainedModel",
    teacher: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    corpus: Corpus,
    config: GeneralDistillConfig,
    *,
    seed: int,
    runtime: Runtime,
    work: Path,
    control: Control,
    history: Path,
) -> PretrainResult:
    """Distil a pretrained teacher into a student, in place (DistilBERT, arXiv:1910.01108; TinyBERT, arXiv:1909.10351).

    The teacher sees what the student sees, masks included, in evaluation mode; as masks change from step to step,
    nothing of it is kept.

    Args:
        student: encoder, with a masked-LM head where the objectives need one.
        teacher: pretrained encoder, likewise; left as it is.
        tokenizer: tokenizer of both.
        corpus: texts to learn from.
        config: what is compared, how much it weighs, and how to train.
        seed: seed of masks, the order of the sequences, of dropout and of projections.
        runtime: device and precision.
        work: folder for the packed corpus and resumable state.
        control: where to report progress, and whether to stop.
        history: file for the loss curve, with the unweighted objectives by name.

    Returns:
        Steps, losses, and the losses on the held-out part of the corpus.

    Raises:
        Interrupted: a stop was asked for; the same call resumes.
        DataError: the corpus cannot be read, or is too small.
        UserError: layers or vocabularies do not fit, a model cannot take the sequences, or the training diverged.
    """
    for model in (student, teacher):
        check_fits_corpus(model, tokenizer, config.max_length)
    pair = _Pair.prepare(student, teacher, config, seed=seed, runtime=runtime)
    vocabulary = Vocabulary.of(tokenizer)
    splits = pack(
        corpus,
        tokenizer,
        work / "corpus",
        special_tokens=special_tokens(_SEQUENCES),
        max_length=config.max_length,
        control=control,
    )
    rows = MaskedRows(splits.train, vocabulary, config.masking, _SEQUENCES, seed)
    held_out = validation_rows(splits, vocabulary, config.masking, _SEQUENCES, config.corpus.split_seed)
    with training_attention(pair.module.student, runtime), dropout_probability(pair.module.student, config.dropout):
        result = train(
            pair.module,
            pair.loss,
            rows,
            config=config,
            seed=seed,
            runtime=runtime,
            work=work,
            control=control,
            history=history,
            evaluate=None if held_out is None else _selection_score(pair, held_out, control),
            description="distilling",
        )
    validation = {} if held_out is None else measure(pair, held_out, control)
    give_back(pair.module.student, student)
    return PretrainResult(result, splits.summary(), validation)


@dataclass(frozen=True)
class _Pair:
    """A student and its teacher, both as encoders of any shape."""

    module: StudentModule
    teacher: "BertpressPreTrainedModel"
    comparison: Comparison
    config: GeneralDistillConfig

    @classmethod
    def prepare(
        cls,
        student: "PreTrainedModel",
        teacher: "PreTrainedModel",
        config: GeneralDistillConfig,
        *,
        seed: int,
        runtime: Runtime,
    ) -> "_Pair":
        ours, frozen = to_bertpress(student), frozen_teacher(teacher, DTYPES[runtime.precision], runtime.device)
        if config.objectives.soft and ours.config.vocab_size != frozen.config.vocab_size:
            raise UserError(
                f"objective `soft` compares scores of the same vocabulary; the student has {ours.config.vocab_size} "
                f"word pieces, the teacher {frozen.config.vocab_size}"
            )
        shapes = shape_of_model(ours), shape_of_model(frozen)
        comparison = compare(config.objectives, config.layer_mapping, config.heads, *shapes)
        form: Form = "released" if config.reference_code else "paper"
        module = student_module(ours, comparison, shapes[1].hidden_size, seed=seed, form=form)
        return cls(module, frozen, comparison, config)

    def loss(self, model: Any, batch: dict[str, Tensor]) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Weighted sum of the objectives on a batch of `MaskedRows`, and the unweighted objectives by name."""
        weights = self.config.objectives
        positions = self._positions(batch)
        own = model(**model_inputs(model, batch), compared=True, predict_positions=positions)
        with torch.no_grad():
            asked = positions if weights.soft else None
            taught = capture(self.teacher, batch, self.comparison.teacher, asked)
        parts: dict[str, Tensor] = {}
        if weights.soft:
            parts["soft"] = self._soft(own.captured, taught, batch)
        if weights.masked_lm:
            parts["masked_lm"] = self._masked_lm(own.captured, batch)
        total = sum((getattr(weights, name) * value for name, value in parts.items()), torch.zeros(()))
        if self.comparison.objectives:
            form: Form = "released" if self.config.reference_code else "paper"
            inside = objective_losses(self.comparison, own, taught, batch["attention_mask"], form)
            total, parts = total + weighted(inside, weights), {**parts, **inside}
        return total, parts

    def _positions(self, batch: dict[str, Tensor]) -> Tensor | None:
        """Where heads are computed: a vocabulary of 30,000 costs more than a small encoder."""
        if not self.config.objectives.predicts:
            return None
        if self.config.objectives.soft and self.config.soft_positions == "all":
            return batch["attention_mask"].flatten().nonzero().squeeze(1)
        return batch["positions"]

    def _soft(self, own: Captured, taught: Captured, batch: dict[str, Tensor]) -> Tensor:
        """Mean over the word pieces that are compared; of a masked batch over all masked pieces of the step."""
        by_row = kl_by_row(_scores(own), _scores(taught), self.config.temperature)
        if self.config.soft_positions == "masked":
            return by_row.sum() / _targets(batch)
        if self.config.reference_code:
            return by_row.mean()
        lengths = batch["attention_mask"].sum(dim=1)
        return (by_row / lengths.repeat_interleave(lengths)).sum() / len(lengths)

    def _masked_lm(self, own: Captured, batch: dict[str, Tensor]) -> Tensor:
        """Mean over all masked word pieces of the optimiser step, of which a micro-batch adds its share."""
        logits = _scores(own)
        if len(logits) != len(batch["targets"]):  # the head was computed at all word pieces
            place = batch["attention_mask"].flatten().cumsum(0)[batch["positions"]] - 1
            logits = logits[place]
        return functional.cross_entropy(logits.float(), batch["targets"], reduction="sum") / _targets(batch)


def _targets(batch: dict[str, Tensor]) -> Tensor:
    """Masked word pieces that this batch stands for: its share of those of the whole step."""
    return batch["targets_a_row"] * len(batch["input_ids"])


def _scores(captured: Captured) -> Tensor:
    if captured.logits is None:
        raise UserError("a model without a masked-LM head cannot predict word pieces")
    return captured.logits


def measure(pair: _Pair, rows: MaskedRows, control: Control) -> dict[str, float]:
    """Objectives on held-out sequences, the student in evaluation mode.

    Args:
        pair: student and teacher.
        rows: the sequences.
        control: whether to stop.

    Returns:
        `loss`, the weighted sum, and the unweighted objectives by name; means over sequences.

    Raises:
        Interrupted: a stop was asked for.
    """
    return _measured(pair, pair.module, rows, control)


def _measured(pair: _Pair, model: Any, rows: MaskedRows, control: Control) -> dict[str, float]:
    model.eval()
    device = next(model.parameters()).device
    sums: dict[str, float] = {}
    with torch.no_grad():
        for number, part in enumerate(length_batches(rows.lengths)):
            control.check()
            batch = {name: tensor.to(device) for name, tensor in rows.tensors(number, [part], [0])[0].items()}
            total, parts = pair.loss(model, batch)
            for name, value in {"loss": total, **parts}.items():
                sums[name] = sums.get(name, 0.0) + float(value) * len(part)
    return {name: value / len(rows.lengths) for name, value in sums.items()}


def _selection_score(pair: _Pair, rows: MaskedRows, control: Control) -> Callable[[Any], float]:
    """Model -> what is to be as high as possible: the negative loss of the held-out part."""
    return lambda model: -_measured(pair, model, rows, control)["loss"]
