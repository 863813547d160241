"""Where a student's shape and first weights come from."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from compression.architecture.presets import PRESETS
from compression.configuration import Config
from compression.distillation.layer_mapping import choose_layers
from compression.errors import UserError, did_you_mean

LayerIndex = Annotated[int, Field(ge=0)]
LayerStrategy = Literal["uniform", "top", "bottom", "first-last", "distilbert"]

DISTILBERT_LAYERS = 6


class StudentConfig(Config):
    """A student: a preset shape with random weights, or chosen layers of the pretrained encoder.

    A bare string in YAML names a preset.

    Example:
        >>> StudentConfig(layers=[0, 2, 4]).layers
        (0, 2, 4)
        >>> StudentConfig(layers="uniform", count=4).chosen_layers(12)
        (2, 5, 8, 11)
        >>> StudentConfig.model_validate("tinybert-4l-312").preset
        'tinybert-4l-312'
    """

    alternatives: ClassVar[tuple[str, ...]] = ("preset", "layers")

    preset: str | None = Field(None, description=f"Named shape with random weights: {', '.join(PRESETS)}")
    layers: LayerStrategy | Annotated[tuple[LayerIndex, ...], Field(min_length=1)] | None = Field(
        None,
        description="Layers of the pretrained encoder to copy: a list in ascending order, counted from 0, or a strategy (uniform, top, bottom, first-last, distilbert) that chooses `count` of them",
    )
    count: int | None = Field(None, ge=1, description="Number of layers that a strategy chooses; 6 for distilbert")
    embeddings: bool = Field(True, description="Copy the embeddings as well; off, they start at random")
    pooler: bool = Field(True, description="Copy the pooler as well; off, it starts at random")
    token_types: bool = Field(
        True, description="Keep the embeddings of token types; off, the student has none, like DistilBERT"
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
        if isinstance(self.layers, tuple) and list(self.layers) != sorted(set(self.layers)):
            raise ValueError(f"layers {list(self.layers)} must ascend without repetition")
        return self

    @model_validator(mode="after")
    def _fields_of_the_origin(self) -> Self:
        copied = [name for name in ("embeddings", "pooler", "token_types") if not getattr(self, name)]
        if self.preset is not None and copied:
            raise ValueError(f"a preset copies nothing from the encoder; leave out `{copied[0]}`")
        if isinstance(self.layers, str) and self.layers != "distilbert" and self.count is None:
            raise ValueError(f"layers {self.layers!r} needs a `count` of layers")
        if not isinstance(self.layers, str) and self.count is not None:
            raise ValueError("`count` belongs to a strategy such as `layers: uniform`; leave it out")
        return self

    def chosen_layers(self, depth: int) -> tuple[int, ...]:
        """Layers of an encoder that the student copies.

        Args:
            depth: the encoder's number of layers.

        Returns:
            The layers in ascending order, counted from 0; none for a preset.

        Raises:
            UserError: the encoder does not have them.
        """
        if isinstance(self.layers, str):
            return choose_layers(self.layers, self.count or DISTILBERT_LAYERS, depth)
        absent = [layer for layer in self.layers or () if layer >= depth]
        if absent:
            raise UserError(
                f"student layer {absent[0]} does not exist: the encoder has {depth} layers, 0 to {depth - 1}"
            )
        return self.layers or ()
