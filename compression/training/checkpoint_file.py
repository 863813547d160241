"""A resumable checkpoint: everything that a training needs to go on as if nothing had happened, in one file."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn


@dataclass
class TrainingState:
    """Where a training stands, besides weights and optimiser.

    Attributes:
        step: optimiser steps done.
        tokens: real tokens seen.
        seconds: wall-clock seconds spent, over all attempts.
        measured_step: step of the last measurement on the selection split.
        best_step: step whose weights are the best.
        best_score: their score.
        without_gain: measurements since then.
        interval_steps: steps since the last record of the history.
        history: the records so far.
        interval_sums: sums of the losses over the steps since the last record; on the device, so that no step waits.
        best_weights: weights at `best_step`, empty when nothing was measured.
    """

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    measured_step: int = 0
    best_step: int = 0
    best_score: float | None = None
    without_gain: int = 0
    interval_steps: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    interval_sums: dict[str, torch.Tensor] = field(default_factory=dict)
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)

    def counters(self) -> dict[str, Any]:
        """The fields that are not tensors."""
        return {name: value for name, value in vars(self).items() if name not in {"interval_sums", "best_weights"}}


def weights_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and saved buffers by name, shared ones once; the tensors themselves, not copies.

    Args:
        model: any module.

    Returns:
        Name -> tensor.

    Example:
        >>> linear = nn.Linear(3, 2)
        >>> sorted(weights_of(nn.ModuleList([linear, linear])))
        ['0.bias', '0.weight']
    """
    unique: dict[int, tuple[str, torch.Tensor]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        unique.setdefault(id(tensor), (name, tensor))
    return {name: tensor.detach() for name, tensor in unique.values()}


def restore_weights(model: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Copy weights that `weights_of` gave back into their model."""
    for name, tensor in weights_of(model).items():
        tensor.copy_(weights[name])


def identity(model: nn.Module, *settings: str) -> str:
    """Digest of what a computation starts from: two that agree may share saved state.

    Args:
        model: model before the computation.
        settings: whatever else decides the result, as text; rows by their digest.

    Returns:
        SHA-256 in hexadecimal.
    """
    digest = hashlib.sha256(json.dumps(settings).encode())
    for name, tensor in weights_of(model).items():
        digest.update(name.encode())
        digest.update(tensor.cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file so that a crash at any moment leaves the old file or the new one, whole.

    Args:
        path: file to write or replace.
        tensors: name -> tensor.
        metadata: text stored in the file's header.
    """
    aside = path.with_name(f"{path.name}.{os.getpid()}.partial")  # another process may write the same file
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, aside, dict(metadata))
    with aside.open("rb") as file:
        os.fsync(file.fileno())
    aside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_tensors(path: Path, owner: str) -> tuple[dict[str, torch.Tensor], dict[str, str]] | None:
    """Read a file of `write_tensors`.

    Args:
        path: the file.
        owner: `identity` that its metadata must carry under the key `identity`.

    Returns:
        (tensors, metadata), or None when the file is absent, damaged, or belongs to another computation.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("identity") != owner:
                return None
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118 (not a mapping)
    except (FileNotFoundError, SafetensorError):
        return None


class CheckpointFile:
    """Saves and restores a training.

    Args:
        path: the file.
        model: module being trained.
        optimizer: its optimiser.
        scaler: gradient scaler of fp16, None otherwise.
        owner: `identity` of the training; a checkpoint of another one is not resumed from.
    """

    def __init__(
        self,
        path: Path,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler | None,
        owner: str,
    ) -> None:
        self._path, self._model, self._optimizer, self._scaler, self._owner = path, model, optimizer, scaler, owner

    def save(self, state: TrainingState) -> None:
        """Write the training's present state, replacing the previous checkpoint."""
        groups = {
            "model": weights_of(self._model),
            "best": state.best_weights,
            "sums": state.interval_sums,
            "optimizer": {
                f"{index}/{name}": tensor
                for index, entry in self._optimizer.state_dict()["state"].items()
                for name, tensor in entry.items()
            },
        }
        tensors = {f"{group}/{name}": tensor for group, named in groups.items() for name, tensor in named.items()}
        document = {"state": state.counters(), "scaler": self._scaler.state_dict() if self._scaler else None}
        write_tensors(self._path, tensors, {"identity": self._owner, "training": json.dumps(document)})

    def load(self) -> TrainingState:
        """Restore weights and optimiser from the checkpoint, if there is a usable one.

        Returns:
            The state to go on from: a new one without a usable checkpoint.
        """
        read = read_tensors(self._path, self._owner)
        if read is None:
            return TrainingState()
        groups: dict[str, dict[str, torch.Tensor]] = {"model": {}, "best": {}, "sums": {}, "optimizer": {}}
        for name, tensor in read[0].items():
            group, _, rest = name.partition("/")
            groups[group][rest] = tensor
        document = json.loads(read[1]["training"])
        restore_weights(self._model, groups["model"])
        self._restore_optimizer(groups["optimizer"])
        if self._scaler:
            self._scaler.load_state_dict(document["scaler"])
        return TrainingState(**document["state"], interval_sums=groups["sums"], best_weights=groups["best"])

    def _restore_optimizer(self, tensors: Mapping[str, torch.Tensor]) -> None:
        entries: dict[int, dict[str, Any]] = {}
        for name, tensor in tensors.items():
            index, _, key = name.partition("/")
            entries.setdefault(int(index), {})[key] = tensor
        self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": entries})
