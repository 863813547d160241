import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from tiny_models import tiny_classifier, tiny_rows
from torch.nn import functional

from compression.control import Control, Progress
from compression.data.encoding import LengthBucketBatches, collate
from compression.errors import DataError, Interrupted, UserError
from compression.runtime import Runtime
from compression.training import loop
from compression.training.batches import EncodedRows, StepBatches
from compression.training.config import TrainingConfig
from compression.training.loop import train
from compression.training.optimizer import learning_rate_factor

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
INPUTS = ("input_ids", "attention_mask")


def loss_function(model, batch):
    logits = model(**{name: batch[name] for name in INPUTS}).logits
    loss = functional.cross_entropy(logits, batch["labels"])
    return loss, {"doubled": 2 * loss}


def selection_score(model) -> float:
    """A score that depends on the weights; draws random numbers, as a measurement may."""
    torch.rand(3)
    model.eval()
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[2, 5, 12, 3], [2, 8, 11, 3]])).logits
    return float(logits[0, 1] - logits[1, 1])


@dataclass
class Run:
    """One training of the tiny classifier, in a folder that survives it."""

    folder: Path
    config: TrainingConfig
    seed: int = 0
    runtime: Runtime = field(default_factory=Runtime)
    evaluate: Callable | None = selection_score
    loss: Callable = loss_function
    changes: dict = field(default_factory=dict)

    def __call__(self, control: Control | None = None, model: torch.nn.Module | None = None):
        self.folder.mkdir(parents=True, exist_ok=True)
        self.model = model or tiny_classifier(**self.changes)
        return train(
            self.model,
            self.loss,
            EncodedRows(tiny_rows(), 0),
            config=self.config,
            seed=self.seed,
            runtime=self.runtime,
            work=self.folder,
            control=control or Control(),
            history=self.history_file,
            evaluate=self.evaluate,
        )

    @property
    def history_file(self) -> Path:
        return self.folder / "history.jsonl"

    def history(self) -> list[dict]:
        return [json.loads(line) for line in self.history_file.read_text().splitlines()]

    def left_behind(self) -> tuple:
        weights = {name: tensor.numpy().tobytes() for name, tensor in self.model.state_dict().items()}
        return weights, self.history_file.read_bytes()


def config(**changes) -> TrainingConfig:
    return TrainingConfig(**{"epochs": 2, "batch_size": 8, "learning_rate": 1e-2, **changes})


class StopAfter:
    """Asks to stop at the n-th look, once."""

    def __init__(self, looks: int) -> None:
        self.left = looks

    def __call__(self) -> bool:
        self.left -= 1
        return self.left == 0


def test_equals_a_plain_torch_loop(tmp_path):
    settings = config(max_grad_norm=0.5, schedule="cosine", weight_decay=0.2)
    run = Run(tmp_path, settings, seed=3, evaluate=None, changes=NO_DROPOUT)
    result = run()
    model, rows = tiny_classifier(**NO_DROPOUT), tiny_rows()
    model.train()
    groups = [
        {"params": [p for n, p in model.named_parameters() if "bias" not in n and "LayerNorm" not in n]},
        {"params": [p for n, p in model.named_parameters() if "bias" in n or "LayerNorm" in n], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1.0, weight_decay=0.2, foreach=False)
    order = LengthBucketBatches(rows.lengths, 8, 3)
    batches = [batch for epoch in range(2) for batch in order.epoch(epoch)]
    for step, batch in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * learning_rate_factor(step, len(batches), 0.1, "cosine")
        loss, _ = loss_function(model, collate(rows, batch, 0))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
    assert result.steps == len(batches) == 14
    for name, tensor in model.state_dict().items():
        # The fused kernel rounds otherwise than the plain one, by how much depends on the CPU; a step is up to 1e-2.
        torch.testing.assert_close(run.model.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)


def test_same_seed_same_bits_other_seed_other_bits(tmp_path):
    runs = [Run(tmp_path / str(index), config(), seed=seed) for index, seed in enumerate([0, 0, 1])]
    for run in runs:
        run()
    assert runs[0].left_behind() == runs[1].left_behind()
    assert runs[0].left_behind()[0] != runs[2].left_behind()[0]


@pytest.mark.parametrize("looks", [1, 2, 8, 17, 26])
def test_a_stopped_training_goes_on_bit_for_bit(tmp_path, looks):
    settings = config(accumulation_steps=2, evaluations_per_epoch=3, early_stopping_patience=50)
    undisturbed = Run(tmp_path / "undisturbed", settings)
    undisturbed_result = undisturbed()
    run = Run(tmp_path / "stopped", settings)
    with pytest.raises(Interrupted):
        run(Control(should_stop=StopAfter(looks)))
    result = run()
    assert run.left_behind() == undisturbed.left_behind()
    assert (result.steps, result.tokens) == (undisturbed_result.steps, undisturbed_result.tokens)
    assert (result.best_step, result.best_score) == (undisturbed_result.best_step, undisturbed_result.best_score)


def test_stopped_again_and_again_and_within_a_measurement(tmp_path):
    undisturbed = Run(tmp_path / "undisturbed", config())
    undisturbed()
    run = Run(tmp_path / "stopped", config())
    attempts = 0
    while True:
        control = Control(should_stop=StopAfter(4))

        def measured(model, control=control):
            control.check()
            return selection_score(model)

        run.evaluate = measured
        attempts += 1
        try:
            run(control)
            break
        except Interrupted:
            assert attempts < 20
    assert attempts > 4
    assert run.left_behind() == undisturbed.left_behind()


def test_how_often_checkpoints_are_written_has_no_influence(tmp_path):
    always, never = (Run(tmp_path / str(s), config(checkpoint_seconds=s)) for s in (0.0, 1e6))
    always()
    never()
    assert (tmp_path / "0.0" / "training.safetensors").exists()
    assert always.left_behind()[0] == never.left_behind()[0]
    assert not list(tmp_path.glob("*/*.partial"))


@pytest.mark.parametrize("spoil", ["truncated", "other seed", "other data"])
def test_a_checkpoint_that_does_not_fit_is_not_resumed_from(tmp_path, spoil):
    fresh = Run(tmp_path / "fresh", config())
    fresh()
    run = Run(tmp_path / "work", config(), seed=7 if spoil == "other seed" else 0)
    if spoil == "other data":
        run.changes = {"type_vocab_size": 3}
    with pytest.raises(Interrupted):
        run(Control(should_stop=StopAfter(5)))
    file = tmp_path / "work" / "training.safetensors"
    if spoil == "truncated":
        file.write_bytes(file.read_bytes()[:-100])
    run.seed, run.changes = 0, {}
    run()
    assert run.left_behind() == fresh.left_behind()


@pytest.mark.parametrize("parts", [2, 3, 8])
def test_accumulated_micro_batches_equal_one_big_batch(tmp_path, parts):
    whole = Run(tmp_path / "whole", config(batch_size=16), changes=NO_DROPOUT)
    split = Run(tmp_path / "split", config(batch_size=16, accumulation_steps=parts), changes=NO_DROPOUT)
    whole()
    split()
    for name, tensor in whole.model.state_dict().items():
        torch.testing.assert_close(split.model.state_dict()[name], tensor, rtol=1e-3, atol=2e-5)
    for one, other in zip(whole.history(), split.history(), strict=True):
        assert one == pytest.approx(other, rel=1e-3)


def test_worker_processes_prepare_the_same_batches(tmp_path):
    inline, workers = (
        Run(tmp_path / str(count), config(), runtime=Runtime(dataloader_workers=count)) for count in (0, 2)
    )
    inline()
    workers()
    assert inline.left_behind() == workers.left_behind()


def test_every_row_once_an_epoch_the_last_partial_batch_too(tmp_path):
    batches = StepBatches(EncodedRows(tiny_rows(), 0), config(epochs=2), seed=0)
    assert (batches.steps_per_epoch, len(batches)) == (7, 14)
    for epoch in (0, 1):
        rows = [row for step in range(7) for part in batches[7 * epoch + step] for row in part.rows]
        assert sorted(rows) == list(range(50))
    result = Run(tmp_path, config())()
    assert result.tokens == 2 * tiny_rows().lengths.sum()
    assert result.epochs == 2


@pytest.mark.parametrize(("epochs", "steps"), [(0.01, 1), (0.5, 4), (1.0, 7), (1.2, 9)])
def test_fractions_of_an_epoch(tmp_path, epochs, steps):
    run = Run(tmp_path, config(epochs=epochs))
    assert run().steps == steps
    assert run.history()[-1]["step"] == steps


def test_steps_take_the_place_of_epochs(tmp_path):
    run = Run(tmp_path, config(steps=10, epochs=500, evaluations_per_epoch=1))
    result = run()
    assert (result.steps, result.epochs) == (10, pytest.approx(10 / 7))
    rates = {record["step"]: record["learning_rate"] for record in run.history() if "loss" in record}
    assert rates[10] == pytest.approx(1e-2 * learning_rate_factor(9, 10, 0.1, "linear"))


def test_the_last_weights_may_be_kept(tmp_path):
    scores, seen = iter([0.5, 0.9, 0.1]), []

    def evaluate(model):
        seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return next(scores)

    run = Run(tmp_path, config(epochs=3, keep="last"), evaluate=evaluate)
    result = run()
    assert (result.best_step, result.best_score, result.steps) == (21, 0.1, 21)
    for name, tensor in run.model.state_dict().items():
        assert torch.equal(tensor, seen[2][name]), name
    with pytest.raises(ValidationError, match="needs keep: best"):
        config(keep="last", early_stopping_patience=1)


def test_no_rows():
    rows = tiny_rows(0)
    with pytest.raises(DataError, match="no training rows"):
        StepBatches(EncodedRows(rows, 0), config(), seed=0)


@pytest.mark.parametrize(
    ("per_epoch", "measured"),
    [(0, []), (1, [7, 14]), (2, [4, 7, 11, 14]), (100, list(range(1, 15)))],
)
def test_measurements_an_epoch(tmp_path, per_epoch, measured):
    run = Run(tmp_path, config(evaluations_per_epoch=per_epoch))
    result = run()
    assert [record["step"] for record in run.history() if "selection_score" in record] == measured
    assert (result.best_score is None) == (not measured)


def test_best_weights_are_restored_and_training_stops_early(tmp_path):
    scores, seen = iter([0.1, 0.5, 0.5, 0.4, 0.9]), []

    def evaluate(model):
        seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return next(scores)

    run = Run(tmp_path, config(epochs=9, evaluations_per_epoch=1, early_stopping_patience=2), evaluate=evaluate)
    result = run()
    assert (result.best_step, result.best_score, result.steps) == (14, 0.5, 28)
    for name, tensor in run.model.state_dict().items():
        assert torch.equal(tensor, seen[1][name]), name
    assert not run.model.training
    assert "loss" in run.history()[-1] or run.history()[-1]["step"] == 28


def test_measurements_do_not_disturb_the_training(tmp_path):
    rising = iter(range(100))
    measured = Run(
        tmp_path / "a", config(evaluations_per_epoch=7), evaluate=lambda m: selection_score(m) * 0 + next(rising)
    )
    plain = Run(tmp_path / "b", config(), evaluate=None)
    measured()
    plain()
    assert measured.left_behind()[0] == plain.left_behind()[0]


def test_modes(tmp_path):
    modes = []

    def loss(model, batch):
        modes.append(model.training)
        return loss_function(model, batch)

    Run(tmp_path, config(evaluations_per_epoch=7), loss=loss)()
    assert all(modes)


def test_history_holds_mean_losses_and_learning_rates_but_no_time(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "HISTORY_RECORDS", 5)
    losses = []

    def loss(model, batch):
        value, parts = loss_function(model, batch)
        losses.append((value.item(), len(batch["labels"])))
        return value, parts

    run = Run(
        tmp_path, config(batch_size=10, epochs=2.8), loss=loss
    )  # 14 steps: a record every 3, and one for the rest
    result = run()
    records = [record for record in run.history() if "loss" in record]
    assert [record["step"] for record in records] == [3, 6, 9, 12, 14]
    for index, record in enumerate(records):
        expected = np.mean([value for value, _ in losses[3 * index : 3 * index + 3]])
        assert record["loss"] == pytest.approx(expected, rel=1e-5)
        assert record["doubled"] == pytest.approx(2 * expected, rel=1e-5)
        rate = 1e-2 * learning_rate_factor(record["step"] - 1, 14, 0.1, "linear")
        assert record["learning_rate"] == pytest.approx(rate)
        assert set(record) == {"step", "epoch", "loss", "learning_rate", "doubled"}
    assert result.final_loss == records[-1]["loss"]
    assert set(result.summary()) >= {"steps", "tokens_per_second", "best_score"}


def test_divergence_is_reported_with_what_to_change(tmp_path):
    def loss(model, batch):
        value, parts = loss_function(model, batch)
        return value * math.nan, parts

    with pytest.raises(UserError, match=r"training diverged.*learning_rate \(now 0\.01\)"):
        Run(tmp_path, config(), loss=loss)()


class Recorder(Progress):
    def __init__(self):
        self.calls, self.steps, self.tokens = [], 0, 0

    def start(self, description, total, *, unit="step", done=0):
        self.calls.append(("start", total, done))

    def advance(self, amount=1, *, tokens=0):
        self.steps += amount
        self.tokens += tokens

    def log(self, step, metrics):
        self.calls.append(("log", step, *metrics))

    def finish(self):
        self.calls.append(("finish",))


def test_progress_counts_steps_and_real_tokens_also_over_a_stop(tmp_path):
    run, recorder = Run(tmp_path, config(epochs=1)), Recorder()
    with pytest.raises(Interrupted):
        run(Control(recorder, StopAfter(4)))
    assert recorder.calls[0] == ("start", 7, 0)
    assert recorder.calls[-1] == ("finish",)
    run(Control(recorder))
    assert ("start", 7, 3) in recorder.calls
    assert (recorder.steps, recorder.tokens) == (7, tiny_rows().lengths.sum())
    assert ("log", 7, "epoch", "selection_score") in recorder.calls


def test_autocast_only_when_the_runtime_says_so_and_weights_stay_fp32(tmp_path):
    run, seen = Run(tmp_path, config(epochs=0.2)), set()
    run.model = tiny_classifier()
    run.model.bert.encoder.layer[0].output.dense.register_forward_hook(lambda _m, _i, out: seen.add(out.dtype))
    attributes = set(vars(run.model))
    # One model trained three times: what one training leaves behind must not decide how the next one computes.
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp32", torch.float32)):
        run.runtime = Runtime(precision=precision)
        seen.clear()
        run(model=run.model)
        assert seen == {dtype}
        assert {parameter.dtype for parameter in run.model.parameters()} == {torch.float32}
        assert set(vars(run.model)) == attributes


def test_half_precision_needs_a_gpu(tmp_path):
    with pytest.raises(UserError, match="fp16 needs a GPU"):
        Run(tmp_path, config(), runtime=Runtime(precision="fp16"))()


def test_extra_batch_gives_the_rows_their_own_tensors(tmp_path):
    rows = tiny_rows()

    def loss(model, batch):
        assert torch.equal(batch["lengths"], batch["attention_mask"].sum(dim=1))
        return loss_function(model, batch)

    train(
        tiny_classifier(),
        loss,
        EncodedRows(rows, 0),
        config=config(epochs=1, accumulation_steps=2),
        seed=0,
        runtime=Runtime(),
        work=tmp_path,
        control=Control(),
        history=tmp_path / "history.jsonl",
        extra_batch=lambda part: {"lengths": torch.from_numpy(rows.lengths[part])},
    )
