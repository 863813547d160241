"""Several processes that train one model together (torchrun): who does what, and what they agree on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Processes:
    """The processes of a training; one, unless it was started by torchrun or the like.

    All of them must decide alike (to stop, which weights are best), or one would wait for another for ever: they decide
    on values that they have in common.

    Attributes:
        accelerator: accelerate's handle.
    """

    accelerator: Any

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self.accelerator.num_processes)

    @property
    def index(self) -> int:
        """Number of this one; 0 reports progress, keeps the history and writes checkpoints."""
        return int(self.accelerator.process_index)

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes."""
        return self.index == 0

    def sums(self, values: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Sums over all processes.

        Args:
            values: name -> scalar; the same names in every process.

        Returns:
            Name -> sum, the same in every process.
        """
        if self.count == 1:
            return dict(values)
        together = torch.stack([value.float() for value in values.values()])
        return dict(zip(values, self.accelerator.reduce(together, reduction="sum"), strict=True))

    def any(self, flag: bool) -> bool:
        """Whether any process has the flag up.

        Args:
            flag: this one's.

        Returns:
            The same in every process.
        """
        if self.count == 1:
            return flag
        raised = torch.tensor([float(flag)], device=self.accelerator.device)
        return bool(self.accelerator.reduce(raised, reduction="sum").item() > 0)
