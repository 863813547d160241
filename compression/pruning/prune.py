"""Pruning: what contributes least is removed from a model."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from compression.architecture.conversion import shape_of_model
from compression.architecture.encoder.modeling_bertpress import (
    BertpressForQuestionAnswering,
    BertpressForSequenceClassification,
)
from compression.architecture.labels import output_order
from compression.control import Control
from compression.data.corpus import Corpus
from compression.data.load import TaskData
from compression.data.sample import evenly_spaced
from compression.errors import UserError
from compression.pruning.config import PruneConfig, WeightPruning
from compression.pruning.evidence import Evidence
from compression.pruning.removal import without_layers, without_units
from compression.pruning.report import summary
from compression.pruning.rounds import Rounds, run_rounds
from compression.pruning.selection import importances, next_layers, units_to_remove
from compression.pruning.shape import pruned_shape
from compression.pruning.structured import within_budget
from compression.pruning.vocabulary import without_unused_pieces
from compression.pruning.weights import prune_by_magnitude, pruned_gradually
from compression.runtime import Runtime
from compression.training import finetune
from compression.training.predict import encode_for

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from compression.architecture.encoder.modeling_bertpress import BertpressPreTrainedModel
    from compression.training.loop import TrainingResult


@dataclass(frozen=True)
class PruneResult:
    """A pruned model.

    Attributes:
        model: the model, on the CPU, in evaluation mode.
        tokenizer: its tokenizer; another one only where the vocabulary was pruned.
        summary: what was removed and what is left (see `report.summary`).
        rounds: what each round tells: importance of heads; of a budget, its share left and how blocks were tuned.
        training: of gradual pruning of weights, steps, losses and the selection score.
    """

    model: "BertpressPreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    summary: dict[str, Any]
    rounds: list[dict[str, Any]]
    training: "TrainingResult | None" = None


def apply(
    model: "BertpressPreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    config: PruneConfig,
    *,
    data: TaskData | None = None,
    corpus: Corpus | None = None,
    seed: int = 0,
    runtime: Runtime,
    work: Path,
    control: Control,
    history: Path,
) -> PruneResult:
    """Prune a model.

    Args:
        model: encoder with or without a head; importance by gradients, recovery and gradual pruning need one for the
            task.
        tokenizer: its tokenizer.
        config: what is removed, and how it is chosen.
        data: the task, where `config.reads_data`.
        corpus: further texts, for the vocabulary.
        seed: seed of random importance, of the order of rows and of dropout.
        runtime: device and precision.
        work: folder for resumable state.
        control: where to report progress, and whether to stop.
        history: file for loss curves, written when something is trained.

    Returns:
        The pruned model.

    Raises:
        UserError: the model does not have what is to be removed, or lacks the head that is needed.
        Interrupted: a stop was asked for; the same call resumes.
    """
    pruned_shape(config, shape_of_model(model))  # refuses what is impossible
    if config.needs_gradients or config.trains:
        _check_head(model, config)
    pruning = _Pruning(
        model.to(torch.device(runtime.device)), tokenizer, config, data, corpus, seed, runtime, work, control, history
    )
    result = pruning.run()
    result.model.to("cpu")
    return result


def _check_head(model: "BertpressPreTrainedModel", config: PruneConfig) -> None:
    if isinstance(model, BertpressForSequenceClassification | BertpressForQuestionAnswering):
        return
    why = "training" if config.trains else f"importance {config.importance or 'fisher'}"
    raise UserError(
        f"{why} needs a model with a head for the task, not a {type(model).__name__}: "
        "put a `finetune` stage before `prune`"
    )


@dataclass
class _Pruning:
    """One call of `apply`."""

    before: "BertpressPreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    config: PruneConfig
    data: TaskData | None
    corpus: Corpus | None
    seed: int
    runtime: Runtime
    work: Path
    control: Control
    history: Path

    def run(self) -> PruneResult:
        """Whatever the configuration names."""
        if self.config.weights is not None:
            return self._weights(self.config.weights)
        if self.config.vocabulary is not None:
            made, tokenizer = without_unused_pieces(
                self.before, self.tokenizer, self._texts(), self.config.vocabulary, self.control
            )
            return self._result(made, tokenizer=tokenizer)
        state = Rounds.resume(self.before, self.work)
        run_rounds(
            state,
            self.config.iterations,
            prune=self._round,
            recover=self._recover,
            tokenizer=self.tokenizer,
            work=self.work,
            control=self.control,
            history=self.history,
        )
        return self._result(state.model, left=state.left, rounds=state.told)

    def _round(self, state: Rounds, number: int) -> None:
        """Remove a round's part of heads, neurons or layers."""
        config, share = self.config, number / self.config.iterations
        whole = shape_of_model(self.before)
        told: dict[str, Any] = {}
        if config.structured is not None:
            sparsity = config.structured.sparsity * share
            state.model, told = within_budget(
                state.model, config.structured, self._evidence(config.structured.sample), whole=whole, sparsity=sparsity
            )
        elif config.layers is not None:
            evidence = self._evidence(config.layers.sample) if config.reads_data else None
            gone = next_layers(state.model, config.layers, evidence, left=state.left, depth=whole.layers, share=share)
            state.model = without_layers(state.model, [state.left.index(layer) for layer in gone])
            state.left = [layer for layer in state.left if layer not in gone]
        elif (chosen := config.heads or config.neurons) is not None:
            evidence = self._evidence(chosen.sample) if config.needs_gradients else None
            found = importances(state.model, chosen, evidence, self.seed)
            present = shape_of_model(state.model)
            removed = units_to_remove(found, chosen, whole=whole, present=present, share=share)
            state.model = without_units(state.model, removed)
            if config.heads is not None:
                told = {"importance": {block: values.tolist() for block, values in found.items()}}
        state.told.append(told)

    def _recover(
        self, model: "BertpressPreTrainedModel", work: Path, history: Path, control: Control
    ) -> "TrainingResult":
        assert self.config.recovery is not None  # noqa: S101  # PruneConfig has it with several iterations
        return finetune.apply(
            model,
            self.tokenizer,
            self._task(),
            self.config.recovery,
            seed=self.seed,
            runtime=self.runtime,
            work=work,
            control=control,
            history=history,
        )

    def _weights(self, config: WeightPruning) -> PruneResult:
        if config.training is None:
            made, training = copy.deepcopy(self.before), None
            prune_by_magnitude(made, config)
        else:
            if config.importance == "movement" and self.runtime.precision == "fp16":
                raise UserError("importance movement sums gradients, which fp16 scales: use precision bf16 or fp32")
            made = copy.deepcopy(self.before)
            with pruned_gradually(made, config, config.training) as hooks:
                training = finetune.apply(
                    made,
                    self.tokenizer,
                    self._task(),
                    config.training,
                    seed=self.seed,
                    runtime=self.runtime,
                    work=self.work,
                    control=self.control,
                    history=self.history,
                    hooks=hooks,
                )
        return self._result(made, training=training)

    def _evidence(self, sample: int) -> Evidence:
        """Evenly spaced train rows."""
        data = self._task()
        rows = data.train.iloc[evenly_spaced(len(data.train), sample)]
        encoded = encode_for(self.before, rows, self.tokenizer, data.config, self.control)
        has_labels = isinstance(self.before, BertpressForSequenceClassification)
        order = output_order(self.before.config.id2label, data.labels) if has_labels else None
        return Evidence(encoded, self.tokenizer.pad_token_id, order, self.control)

    def _texts(self) -> Iterator[str]:
        """The task's train texts, then those of the corpus."""
        train = self._task().train
        for column in ("text", "text_pair"):
            if column in train.columns:
                yield from train[column].tolist()
        for document in self.corpus.documents() if self.corpus is not None else ():
            yield from document

    def _task(self) -> TaskData:
        if self.data is None:
            raise ValueError("this configuration reads the task's rows")
        return self.data

    def _result(
        self,
        model: "BertpressPreTrainedModel",
        *,
        tokenizer: "PreTrainedTokenizerBase | None" = None,
        left: list[int] | None = None,
        training: "TrainingResult | None" = None,
        rounds: list[dict[str, Any]] | None = None,
    ) -> PruneResult:
        layers = list(range(model.config.num_hidden_layers)) if left is None else left
        told = summary(self.before, model, layers)
        return PruneResult(model, tokenizer or self.tokenizer, told, rounds or [], training)
