"""Configuration of the `share` stage."""

from typing import Literal

from pydantic import Field

from compression.architecture.config import StudentConfig
from compression.configuration import Config


class ShareConfig(Config):
    """Let neighbouring layers use the same weights (Lan et al. 2019, arXiv:1909.11942, section 3.1).

    Example:
        >>> ShareConfig(mode="ffn", groups=2).initialisation
        'first'
    """

    student: StudentConfig | None = Field(
        None, description="Encoder to share the layers of, at the start of a chain; absent, the chain's own model"
    )
    mode: Literal["none", "attention", "ffn", "all"] = Field(
        "all",
        description="What layers of a group share: nothing, attention blocks, feed-forward blocks, or both; a block includes its LayerNorm",
    )
    groups: int = Field(1, ge=1, description="Groups of neighbouring layers of equal number; 1 shares among all layers")
    initialisation: Literal["first", "mean", "best"] = Field(
        "first",
        description="Weights that a group shares: its first layer's, the mean over its layers, or those of the layer that, used in all of them, changes the hidden states least",
    )
    sample: int = Field(512, ge=1, description="Train rows of the task, evenly spaced, that `best` compares layers on")

    @property
    def reads_data(self) -> bool:
        """Whether train rows of the task decide which weights are shared."""
        return self.initialisation == "best" and self.mode != "none"
