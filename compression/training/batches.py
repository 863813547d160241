"""Which rows an optimiser step sees, as micro-batches of tensors: a function of (seed, step) alone."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
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
    """

    rows: np.ndarray
    tensors: dict[str, torch.Tensor]


class StepBatches(Dataset[list[MicroBatch]]):
    """The batches of a training: item `i` is what optimiser step `i` sees.

    Random access by step is what lets a resumed training go on in the middle of an epoch, and worker processes prepare
    the same batches as the training process would.
    """

    def __init__(self, encoded: Encoded, config: TrainingConfig, *, seed: int, pad_token_id: int) -> None:
        rows = len(encoded.lengths)
        if rows == 0:
            raise DataError("there are no training rows")
        self._encoded = encoded
        self._pad_token_id = pad_token_id
        self._order = LengthBucketBatches(encoded.lengths, config.batch_size, seed, bucketing=config.length_bucketing)
        self._micro_size = math.ceil(config.batch_size / config.accumulation_steps)
        self._epoch: tuple[int, list[np.ndarray]] | None = None
        self.steps_per_epoch = math.ceil(rows / config.batch_size)
        self.total_steps = max(1, math.ceil(round(config.epochs * self.steps_per_epoch, 6)))

    def __len__(self) -> int:
        return self.total_steps

    def __getitem__(self, step: int) -> list[MicroBatch]:
        rows = self.rows(step)
        parts = [rows[start : start + self._micro_size] for start in range(0, len(rows), self._micro_size)]
        return [MicroBatch(part, collate(self._encoded, part, self._pad_token_id)) for part in parts]

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
