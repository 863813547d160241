"""The one training loop: fine-tuning, distillation and pretraining differ in their loss alone."""

import json
import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from compression.control import Control
from compression.errors import Interrupted, UserError
from compression.runtime import Runtime
from compression.training.batches import MicroBatch, StepBatches, TrainingRows
from compression.training.checkpoint_file import CheckpointFile, TrainingState, identity, restore_weights, weights_of
from compression.training.config import TrainingConfig
from compression.training.hooks import StepHooks
from compression.training.optimizer import build_optimizer, learning_rate_factor
from compression.training.precision import build_accelerator, prepared, seed_step
from compression.training.processes import Processes

Tensors = dict[str, torch.Tensor]
LossFunction = Callable[[Any, Tensors], tuple[torch.Tensor, Mapping[str, torch.Tensor]]]

HISTORY_RECORDS = 100  # points of a loss curve, however long the training


@dataclass(frozen=True)
class TrainingResult:
    """What a training came to.

    Attributes:
        steps: optimiser steps done.
        epochs: passes over the rows.
        best_step: step whose weights were kept; the last one without measurements.
        best_score: their score on the selection split; None without measurements.
        tokens: real (not padding) tokens seen.
        seconds: wall-clock seconds of all attempts, measurements included.
        tokens_per_second: their quotient.
        final_loss: mean loss over the last steps.
    """

    steps: int
    epochs: float
    best_step: int
    best_score: float | None
    tokens: int
    seconds: float
    tokens_per_second: float
    final_loss: float

    def summary(self) -> dict[str, float | int | None]:
        """The values by name, ready for JSON."""
        return asdict(self)


def train(
    model: nn.Module,
    loss_function: LossFunction,
    rows: TrainingRows,
    *,
    config: TrainingConfig,
    seed: int,
    runtime: Runtime,
    work: Path,
    control: Control,
    history: Path,
    evaluate: Callable[[Any], float] | None = None,
    extra_batch: Callable[[np.ndarray], Tensors] | None = None,
    hooks: StepHooks | None = None,
    description: str = "training",
) -> TrainingResult:
    """Train a module in place. On a CPU the result is a function of the arguments: interruptions leave no trace in it.

    Started in several processes by torchrun, they share the rows of every step and end with the same weights; the first
    one reports, keeps the history and writes checkpoints.

    Args:
        model: module to train; whatever is trainable in it is trained.
        loss_function: (model, batch) -> (loss, its named parts). Both are means over the examples of the batch, so that
            accumulated micro-batches equal one big batch.
        rows: training rows.
        config: optimiser, schedule, batches and stopping.
        seed: seed of the order of the rows and of dropout.
        runtime: device, precision and data loader processes.
        work: folder for the resumable checkpoint; a training that was stopped goes on from there.
        control: where to report progress, and whether to stop.
        history: file for the loss curve, a JSON object a line.
        evaluate: model -> score on the selection split, higher is better. Every process measures; the first one counts.
        extra_batch: row numbers -> further tensors for the batch, such as the teacher's outputs.
        hooks: what else is done around each step.
        description: name of the phase in progress displays.

    Returns:
        Steps, tokens, losses and scores.

    Raises:
        Interrupted: a stop was asked for; the same call resumes.
        UserError: the training diverged.
    """
    work.mkdir(parents=True, exist_ok=True)
    accelerator = build_accelerator(runtime)
    processes = Processes(accelerator)
    batches = StepBatches(rows, config, seed=seed, processes=processes.count, process=processes.index)
    settings = config.model_dump_json(exclude={"checkpoint_seconds"})
    owner = identity(model, rows.identity(), settings, str(seed), runtime.device, runtime.precision)
    with prepared(accelerator, model, build_optimizer(model, config)) as (wrapped, optimizer):
        checkpoint = CheckpointFile(work / "training.safetensors", model, optimizer, accelerator.scaler, owner)
        run = _Run(
            model=wrapped,
            loss_function=loss_function,
            batches=batches,
            optimizer=optimizer,
            processes=processes,
            config=config,
            seed=seed,
            control=control if processes.is_first else Control(should_stop=control.should_stop),
            history=history,
            evaluate=evaluate,
            extra_batch=extra_batch,
            hooks=hooks or StepHooks(),
            lengths=rows.lengths,
            state=checkpoint.load(),
        )
        run.run(runtime, checkpoint, description)
    if run.state.best_weights:
        restore_weights(model, run.state.best_weights)
    model.eval()
    return run.result()


@dataclass
class _Run:
    """One call of `train`: its fixed parts and its changing `state`."""

    model: Any
    loss_function: LossFunction
    batches: StepBatches
    optimizer: Any
    processes: Processes
    config: TrainingConfig
    seed: int
    control: Control
    history: Path
    evaluate: Callable[[Any], float] | None
    extra_batch: Callable[[np.ndarray], Tensors] | None
    hooks: StepHooks
    lengths: np.ndarray
    state: TrainingState

    def run(self, runtime: Runtime, checkpoint: CheckpointFile, description: str) -> None:
        """All remaining steps, with records, measurements and checkpoints between them."""
        state, progress = self.state, self.control.progress
        if self.processes.is_first:
            self.history.write_text("".join(map(_json_line, state.history)), encoding="utf-8")
        progress.start(description, self.batches.total_steps, done=state.step)
        started = saved = time.monotonic()
        earlier = state.seconds
        try:
            self._measure_if_due()  # the last attempt may have been stopped within a measurement
            for micro_batches in self.batches.iterate(state.step, runtime):
                if self._early_stop():
                    break
                self._step(micro_batches)
                self._measure_if_due()
                state.seconds = earlier + time.monotonic() - started
                if time.monotonic() - saved >= self.config.checkpoint_seconds:
                    self._save(checkpoint)
                    saved = time.monotonic()
        except Interrupted:
            self._save(checkpoint)
            raise
        finally:
            progress.finish()
        if state.interval_steps:
            self._record_losses()
        self._refuse_divergence(finite=all(bool(torch.isfinite(p).all()) for p in self.model.parameters()))

    def _save(self, checkpoint: CheckpointFile) -> None:
        if self.processes.is_first:
            checkpoint.save(self.state)

    def result(self) -> TrainingResult:
        """Summary of the finished run."""
        state = self.state
        return TrainingResult(
            steps=state.step,
            epochs=state.step / self.batches.steps_per_epoch,
            best_step=state.best_step if state.best_weights else state.step,
            best_score=state.best_score,
            tokens=state.tokens,
            seconds=state.seconds,
            tokens_per_second=state.tokens / max(state.seconds, 1e-9),
            final_loss=next(record["loss"] for record in reversed(state.history) if "loss" in record),
        )

    def _step(self, micro_batches: list[MicroBatch]) -> None:
        """One optimiser step; a stop is honoured only before anything changes, so that the step is simply repeated."""
        state, accelerator = self.state, self.processes.accelerator
        seed_step(self.seed, state.step, self.processes.index)
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate(state.step)
        if not self.model.training:  # after a measurement; the switch walks over all modules
            self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        self.hooks.before_step(state.step, self.batches.total_steps)
        losses: Tensors = {}
        for part in micro_batches:
            if part is micro_batches[0] or self.processes.count == 1:
                self._check_stop()
            for name, value in self._backward(part, last=part is micro_batches[-1]).items():
                losses[name] = losses.get(name, 0) + part.share * value.detach().float()
        losses = self.processes.sums(losses)
        sums = {name: state.interval_sums.get(name, 0) + value for name, value in losses.items()}
        accelerator.clip_grad_norm_(self.model.parameters(), self.config.max_grad_norm or math.inf)
        self.optimizer.step()
        self.hooks.after_step()
        tokens = int(self.lengths[self.batches.rows(state.step)].sum())
        state.step += 1
        state.tokens += tokens
        state.interval_steps += 1
        state.interval_sums = sums
        self.control.progress.advance(tokens=tokens)
        if state.step % math.ceil(self.batches.total_steps / HISTORY_RECORDS) == 0:
            self._record_losses()

    def _check_stop(self) -> None:
        """Raise when a stop was asked for; all processes do, or none."""
        if self.processes.any(self.control.should_stop()):
            raise Interrupted("stopped on request")

    def _backward(self, part: MicroBatch, *, last: bool) -> Tensors:
        """Add a micro-batch's share to the gradient; returns its losses by name."""
        accelerator = self.processes.accelerator
        batch = dict(part.tensors)
        if self.extra_batch is not None:
            batch |= self.extra_batch(part.rows)
        batch = {name: tensor.to(accelerator.device, non_blocking=True) for name, tensor in batch.items()}
        with nullcontext() if last else accelerator.no_sync(self.model):
            loss, parts = self.loss_function(self.model, batch)
            # Gradients are averaged over the processes, and shares are of the rows of them all.
            accelerator.backward(loss * (part.share * self.processes.count))
        return {"loss": loss, **parts}

    def _learning_rate(self, step: int) -> float:
        config = self.config
        factor = learning_rate_factor(step, self.batches.total_steps, config.warmup_ratio, config.schedule)
        return config.learning_rate * factor

    def _record_losses(self) -> None:
        """Add the mean losses since the last record to the history."""
        state = self.state
        means = {name: float(value) / state.interval_steps for name, value in state.interval_sums.items()}
        self._refuse_divergence(finite=math.isfinite(means["loss"]))
        rate = self._learning_rate(state.step - 1)
        self._record({"epoch": self._epochs(), "loss": means.pop("loss"), "learning_rate": rate, **means})
        state.interval_steps, state.interval_sums = 0, {}

    def _measure_if_due(self) -> None:
        """Score the weights on the selection split when this step is one to measure at, and keep the best ones."""
        state, per_epoch = self.state, self.config.evaluations_per_epoch
        if self.evaluate is None or per_epoch == 0 or state.measured_step == state.step:
            return
        marks = [step * per_epoch // self.batches.steps_per_epoch for step in (state.step - 1, state.step)]
        if marks[0] == marks[1] and state.step != self.batches.total_steps:
            return
        if not self.hooks.is_candidate():
            return
        score = self._score(self.evaluate)
        state.measured_step = state.step
        state.without_gain += 1
        if self.config.keep == "last":
            state.best_score = score
        elif state.best_score is None or score > state.best_score:
            state.best_score, state.best_step, state.without_gain = score, state.step, 0
            weights = weights_of(self.processes.accelerator.unwrap_model(self.model))
            state.best_weights = {name: tensor.to("cpu", copy=True) for name, tensor in weights.items()}
        self._record({"epoch": self._epochs(), "selection_score": score})

    def _score(self, evaluate: Callable[[Any], float]) -> float:
        """The first process's score; a stop within any process's measurement stops all of them after theirs."""
        score, stopped = 0.0, False
        try:
            score = evaluate(self.processes.accelerator.unwrap_model(self.model))
        except Interrupted:
            stopped = True
        if self.processes.any(stopped):
            raise Interrupted("stopped on request")
        if self.processes.count == 1:
            return score
        mine = torch.tensor(score if self.processes.is_first else 0.0, device=self.processes.accelerator.device)
        return float(self.processes.sums({"score": mine})["score"])

    def _early_stop(self) -> bool:
        patience = self.config.early_stopping_patience
        return patience is not None and self.state.without_gain >= patience

    def _record(self, values: dict[str, float]) -> None:
        record = {"step": self.state.step, **values}
        self.state.history.append(record)
        if self.processes.is_first:
            with self.history.open("a", encoding="utf-8") as file:
                file.write(_json_line(record))
        self.control.progress.log(self.state.step, values)

    def _epochs(self) -> float:
        return round(self.state.step / self.batches.steps_per_epoch, 6)

    def _refuse_divergence(self, *, finite: bool) -> None:
        if not finite:
            raise UserError(
                f"training diverged: loss or weights are not finite at step {self.state.step} of "
                f"{self.batches.total_steps}; lower learning_rate (now {self.config.learning_rate:g}), lengthen the "
                f"warm-up (warmup_ratio {self.config.warmup_ratio:g}) or clip gradients (max_grad_norm "
                f"{self.config.max_grad_norm:g})"
            )


def _json_line(record: Mapping[str, float]) -> str:
    return json.dumps(record) + "\n"
