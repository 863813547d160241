"""What quantisation is given besides the model, where it looks at data."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from compression.control import Control
from compression.data.load import TaskData
from compression.runtime import Runtime

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Surroundings:
    """The task, and whatever training needs.

    Attributes:
        tokenizer: the model's tokenizer.
        data: the task. Only its training rows, and for what is measured its selection rows, are ever looked at.
        work: folder for resumable state of a training.
        history: file for the loss curve of a training.
        seed: seed of a training.
        runtime: device and precision.
        control: where to report progress, and whether to stop.
    """

    tokenizer: "PreTrainedTokenizerBase"
    data: TaskData
    work: Path
    history: Path
    seed: int = 0
    runtime: Runtime = field(default_factory=Runtime)
    control: Control = field(default_factory=Control)
