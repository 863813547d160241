"""A shape in a few words: a preset with changes, or the sizes of an encoder whose layers are alike."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from compression.architecture.presets import PRESETS, Preset
from compression.architecture.shape import EncoderShape
from compression.configuration import Config
from compression.errors import UserError, did_you_mean


class ShapeDescription(Config):
    """What a paper says of an encoder's shape.

    Example:
        >>> described = ShapeDescription(preset="bert-base", vocabulary_size=30000, embedding_size=128, share="all")
        >>> described.encoder() == ShapeDescription(preset="albert-base").encoder()
        True
    """

    sizes: ClassVar[tuple[str, ...]] = ("layers", "hidden_size", "heads", "intermediate_size")

    preset: str | None = Field(None, description="Name of a known shape; or the four sizes below")
    layers: int | None = Field(None, ge=1, description="Number of layers")
    hidden_size: int | None = Field(None, ge=1, description="Width of the hidden states")
    heads: int | None = Field(None, ge=1, description="Attention heads a layer")
    intermediate_size: int | None = Field(None, ge=1, description="Width of the feed-forward blocks")
    embedding_size: int | None = Field(
        None, ge=1, description="Width of ALBERT's factorised embeddings; null is the preset's, or the hidden size"
    )
    share: Literal["none", "attention", "ffn", "all"] | None = Field(
        None, description="What all layers share; null is what the preset shares"
    )
    vocabulary_size: int | None = Field(None, ge=1, description="Word pieces; null is the preset's, or BERT's 30,522")
    token_types: int | None = Field(None, ge=0, description="Token types; null is the preset's, or BERT's 2")
    pooler: bool = Field(True, description="Whether the pooler counts as a part of the encoder")

    @model_validator(mode="after")
    def _preset_or_sizes(self) -> Self:
        given = [name for name in self.sizes if getattr(self, name) is not None]
        if self.preset is None and len(given) < len(self.sizes):
            raise ValueError(f"needs a `preset`, or all of {', '.join(self.sizes)}")
        if self.preset is not None and given:
            raise ValueError(f"`{given[0]}` is what the preset says; leave one out")
        if self.preset is not None and self.preset not in PRESETS:
            near = did_you_mean(self.preset, PRESETS)
            raise ValueError(f"unknown preset {self.preset!r}; allowed: {', '.join(PRESETS)}{near}")
        try:
            self.encoder()
        except UserError as error:
            raise ValueError(str(error)) from None
        return self

    def encoder(self) -> EncoderShape:
        """The shape in full, at 512 positions.

        Returns:
            The shape.
        """
        sizes = {name: getattr(self, name) for name in self.sizes}
        known = PRESETS[self.preset] if self.preset is not None else Preset(**sizes, source="")
        groups = known.groups if self.share is None else None
        return EncoderShape.regular(
            layers=known.layers,
            hidden_size=known.hidden_size,
            heads=known.heads,
            intermediate_size=known.intermediate_size,
            embedding_size=self.embedding_size or known.embedding_size,
            attention_groups=1 if self.share in ("attention", "all") else groups,
            feed_forward_groups=1 if self.share in ("ffn", "all") else groups,
            vocab_size=self.vocabulary_size or known.vocab_size,
            type_vocab_size=known.type_vocab_size if self.token_types is None else self.token_types,
        )
