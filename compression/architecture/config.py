"""Where a student's shape and first weights come from."""

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from compression.architecture.presets import PRESETS
from compression.configuration import Config
from compression.errors import did_you_mean

LayerIndex = Annotated[int, Field(ge=0)]


class StudentConfig(Config):
    """A student: a preset shape with random weights, or chosen layers of the pretrained encoder.

    A bare string in YAML names a preset.

    Example:
        >>> StudentConfig(layers=[0, 2, 4]).layers
        (0, 2, 4)
        >>> StudentConfig.model_validate("tinybert-4l-312").preset
        'tinybert-4l-312'
    """

    alternatives: ClassVar[tuple[str, ...]] = ("preset", "layers")

    preset: str | None = Field(None, description=f"Named shape with random weights: {', '.join(PRESETS)}")
    layers: tuple[LayerIndex, ...] | None = Field(
        None,
        min_length=1,
        description="0-based layers of the pretrained encoder to copy, in ascending order, together with its embeddings",
    )

    @model_validator(mode="before")
    @classmethod
    def _string_is_a_preset(cls, given: object) -> object:
        return {"preset": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.preset is None) == (self.layers is None):
            raise ValueError("a student needs either `preset` or `layers`")
        if self.preset is not None and self.preset not in PRESETS:
            near = did_you_mean(self.preset, PRESETS)
            raise ValueError(f"unknown preset {self.preset!r}; allowed: {', '.join(PRESETS)}{near}")
        if self.layers is not None and list(self.layers) != sorted(set(self.layers)):
            raise ValueError(f"layers {list(self.layers)} must ascend without repetition")
        return self
