"""Which rows an optimiser step sees, as micro-batches of tensors: a function of (seed, step) alone."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from compression.data.encoding import Encoded, LengthBucketBatches, collate
from compression.errors import DataError
from compression.runtime import Runtime
from compression.training.config import TrainingConfig


@dataclass(frozen=True)
class MicroBatch:
    """Part of an optimiser step that is computed at once.

    Attributes:
        rows: row numbers in the encoded data, [b].
        tensors: model inputs and labels, padded to the longest of the part.
        share: share of the step's rows; 0 for one that only keeps a process without rows in step with the others.
    """

    rows: np.ndarray
    tensors: dict[str, torch.Tensor]
    share: float


class TrainingRows(Protocol):
    """What a training reads: how long each row is, and the tensors of an optimiser step."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(rows,) real word pieces of each row."""

    def identity(self) -> str:
        """Digest of the rows: a checkpoint of a training on others is not resumed from."""

    def tensors(
        self, step: int, parts: Sequence[NDArray[np.int64]], wanted: Sequence[int]
    ) -> list[dict[str, torch.Tensor]]:
        """The tensors of an optimiser step; all randomness in them is a function of the step and its rows.

        Args:
            step: number of the step.
            parts: row numbers of each micro-batch; together they are the step's rows, in whatever parts.
            wanted: numbers of the parts to make; the others are made by other processes.

        Returns:
            Model inputs and labels of each wanted micro-batch.
        """


@dataclass(frozen=True)
class EncodedRows:
    """Tokenised rows, padded to the longest of their micro-batch.

    Attributes:
        encoded: the rows.
        pad_token_id: token that fills short ones.
    """

    encoded: Encoded
    pad_token_id: int

    @property
    def lengths(self) -> NDArray[np.int64]:
        """See `TrainingRows`."""
        return self.encoded.lengths

    def identity(self) -> str:
        """See `TrainingRows`."""
        return self.encoded.digest()

    def tensors(
        self, step: int, parts: Sequence[NDArray[np.int64]], wanted: Sequence[int]
    ) -> list[dict[str, torch.Tensor]]:
        """See `TrainingRows`; the same in every step."""
        del step
        return [collate(self.encoded, parts[number], self.pad_token_id) for number in wanted]


class StepBatches(Dataset[list[MicroBatch]]):
    """The batches of a training: item `i` is what optimiser step `i` sees.

    Random access by step is what lets a resumed training go on in the middle of an epoch, and worker processes prepare
    the same batches as the training process would.

    Args:
        rows: what is read.
        config: size of batches, epochs or steps.
        seed: seed of the order of the rows.
        processes: processes that share the rows of each step.
        process: number of this one.
    """

    def __init__(
        self, rows: TrainingRows, config: TrainingConfig, *, seed: int, processes: int = 1, process: int = 0
    ) -> None:
        count = len(rows.lengths)
        if count == 0:
            raise DataError("there are no training rows")
        self._rows = rows
        self._order = LengthBucketBatches(rows.lengths, config.batch_size, seed, bucketing=config.length_bucketing)
        self._micro_size = math.ceil(config.batch_size / (config.accumulation_steps * processes))
        self._processes, self._process = processes, process
        self._epoch: tuple[int, list[np.ndarray]] | None = None
        self.steps_per_epoch = math.ceil(count / config.batch_size)
        self.total_steps = config.steps or max(1, math.ceil(round(config.epochs * self.steps_per_epoch, 6)))

    def __len__(self) -> int:
        return self.total_steps

    def __getitem__(self, step: int) -> list[MicroBatch]:
        rows = self.rows(step)
        parts = [rows[start : start + self._micro_size] for start in range(0, len(rows), self._micro_size)]
        own = list(range(self._process, len(parts), self._processes))
        shares = [len(parts[number]) / len(rows) for number in own]
        if len(own) < math.ceil(len(parts) / self._processes):
            own, shares = [*own, 0], [*shares, 0.0]
        tensors = self._rows.tensors(step, parts, own)
        return [
            MicroBatch(parts[number], made, share) for number, made, share in zip(own, tensors, shares, strict=True)
        ]

    def rows(self, step: int) -> np.ndarray:
        """Row numbers of an optimiser step; the last batch of an epoch may be smaller."""
        epoch, index = divmod(step, self.steps_per_epoch)
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = (epoch, self._order.epoch(epoch))
        return self._epoch[1][index]

    def iterate(self, start: int, runtime: Runtime) -> Iterator[list[MicroBatch]]:
        """Steps from `start` to the end, prepared by `runtime.dataloader_workers` processes when there are any."""
        loader: DataLoader[list[MicroBatch]] = DataLoader(
            self,
            sampler=range(start, self.total_steps),
            batch_size=None,
            num_workers=runtime.dataloader_workers,
            collate_fn=_as_it_is,
            pin_memory=False,  # a list of dataclasses is copied by the loop itself
        )
        return iter(loader)


def _as_it_is(item: Any) -> Any:
    """DataLoader's own conversion would turn row numbers into tensors."""
    return item
