"""The rows that importance is estimated on, as every method is given them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from compression.control import Control
from compression.data.encoding import Encoded


@dataclass(frozen=True)
class Evidence:
    """A sample of the task's train rows.

    Attributes:
        encoded: the rows with their labels.
        order: output of the model for each of the task's classes; None where they are not classes, as of spans.
        pad_token_id: token that fills short sequences.
        control: where to report progress, and whether to stop.
    """

    encoded: Encoded
    pad_token_id: int
    order: Sequence[int] | None = None
    control: Control = field(default_factory=Control)

    @property
    def mean_length(self) -> float:
        """Word pieces of a row, on average."""
        return float(self.encoded.lengths.mean())
