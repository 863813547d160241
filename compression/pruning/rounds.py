"""Pruning in rounds, with training between them; a stopped one goes on from the last round that was finished."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compression.architecture.checkpoint import save_checkpoint
from compression.architecture.editing import load_editable
from compression.control import Control, Progress

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from compression.architecture.encoder.modeling_bertpress import BertpressPreTrainedModel
    from compression.training.loop import TrainingResult

_STATE = "pruning.json"


@dataclass
class Rounds:
    """Where a pruning in rounds stands.

    Attributes:
        model: the model as it is.
        left: for each of its layers, its number before the first round.
        done: rounds that are finished, the training after them included.
        steps: optimiser steps of all trainings so far.
        told: what each round tells.
    """

    model: "BertpressPreTrainedModel"
    left: list[int]
    done: int = 0
    steps: int = 0
    told: list[dict[str, Any]] = field(default_factory=list)

    def save(self, tokenizer: "PreTrainedTokenizerBase", work: Path) -> None:
        """Keep the state after a round; a crash at any moment leaves the round whole or absent.

        Args:
            tokenizer: the model's tokenizer.
            work: folder that survives a killed attempt.
        """
        folder, aside = work / f"round-{self.done}", work / "round.partial"
        shutil.rmtree(aside, ignore_errors=True)
        save_checkpoint(self.model, tokenizer, aside)
        state = {"left": self.left, "done": self.done, "steps": self.steps, "told": self.told}
        (aside / _STATE).write_text(json.dumps(state), encoding="utf-8")
        aside.rename(folder)

    @classmethod
    def resume(cls, model: "BertpressPreTrainedModel", work: Path) -> "Rounds":
        """The state after the last finished round.

        Args:
            model: the model before the first round.
            work: folder that survives a killed attempt.

        Returns:
            The state; that before the first round when none was finished.
        """
        finished = sorted(work.glob("round-*"), key=lambda folder: int(folder.name.removeprefix("round-")))
        if not finished:
            return cls(model, list(range(model.config.num_hidden_layers)))
        state = json.loads((finished[-1] / _STATE).read_text(encoding="utf-8"))
        loaded = load_editable(finished[-1]).to(next(model.parameters()).device)
        return cls(model=loaded, **state)


def run_rounds(
    state: Rounds,
    iterations: int,
    *,
    prune: Callable[[Rounds, int], None],
    recover: Callable[["BertpressPreTrainedModel", Path, Path, Control], "TrainingResult"],
    tokenizer: "PreTrainedTokenizerBase",
    work: Path,
    control: Control,
    history: Path,
) -> None:
    """Prune and recover in turn; after the last round nothing is trained.

    Args:
        state: where to begin; changed.
        iterations: number of rounds.
        prune: (state, round from 1) -> prunes the state's model.
        recover: (model, work folder, history file, control) -> trains the model in place.
        tokenizer: the model's tokenizer.
        work: folder that survives a killed attempt.
        control: where to report progress, and whether to stop.
        history: file for the loss curves of all trainings, one after another.
    """
    for number in range(state.done + 1, iterations + 1):
        prune(state, number)
        if number < iterations:
            shifted = replace(control, progress=_Shifted(control.progress, state.steps))
            curve = work / f"history-{number}.jsonl"
            result = recover(state.model, work / f"recovery-{number}", curve, shifted)
            shift_history(curve, state.steps)
            state.steps += result.steps
            state.done = number
            state.save(tokenizer, work)
    curves = [work / f"history-{number}.jsonl" for number in range(1, iterations)]
    if curves:
        history.write_text("".join(curve.read_text(encoding="utf-8") for curve in curves), encoding="utf-8")


def shift_history(curve: Path, steps: int) -> None:
    """Number the records of a loss curve on from an earlier training's last step.

    Args:
        curve: file with a JSON object a line; rewritten.
        steps: steps before.
    """
    records = [json.loads(line) for line in curve.read_text(encoding="utf-8").splitlines()]
    lines = [json.dumps({**record, "step": record["step"] + steps}) + "\n" for record in records]
    curve.write_text("".join(lines), encoding="utf-8")


class _Shifted(Progress):
    """Progress of a training whose steps follow those of earlier ones."""

    def __init__(self, inner: Progress, steps: int) -> None:
        self._inner, self._steps = inner, steps

    def start(self, description: str, total: int, *, unit: str = "step", done: int = 0) -> None:
        self._inner.start(description, total, unit=unit, done=done)

    def advance(self, amount: int = 1, *, tokens: int = 0) -> None:
        self._inner.advance(amount, tokens=tokens)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._inner.log(step + self._steps, metrics)

    def finish(self) -> None:
        self._inner.finish()
