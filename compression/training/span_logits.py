"""Start and end logits of windows of different lengths, without padding."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray


@dataclass(frozen=True)
class SpanLogits:
    """What a model says of every word piece of many windows.

    Attributes:
        values: (word pieces of all windows, 2) start and end logits, window after window.
        bounds: (windows + 1,) where each window begins in `values`, and their end.
    """

    values: NDArray[np.float32]
    bounds: NDArray[np.int64]

    @classmethod
    def empty(cls, lengths: NDArray[np.int64]) -> "SpanLogits":
        """Room for windows of given lengths.

        Args:
            lengths: (windows,) word pieces of each.

        Returns:
            Logits that are all 0.
        """
        bounds = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return cls(np.zeros((int(bounds[-1]), 2), np.float32), bounds)

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def window(self, number: int) -> NDArray[np.float32]:
        """Logits of one window.

        Args:
            number: its position.

        Returns:
            (length, 2), a view.
        """
        return self.values[self.bounds[number] : self.bounds[number + 1]]

    def padded(self, windows: NDArray[np.int64] | Sequence[int]) -> torch.Tensor:
        """Logits of some windows as a batch, such as a teacher's for a loss that leaves padding out.

        Args:
            windows: (batch,) their positions.

        Returns:
            (batch, longest, 2), 0 on padding.

        Example:
            >>> logits = SpanLogits.empty(np.array([2, 1]))
            >>> logits.window(1)[:] = 5
            >>> logits.padded([1, 0])[:, :, 0]
            tensor([[5., 0.],
                    [0., 0.]])
        """
        chosen = [torch.from_numpy(self.window(int(number))) for number in windows]
        return torch.nn.utils.rnn.pad_sequence(chosen, batch_first=True)
