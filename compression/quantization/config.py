"""Configuration of the `quantize` stage."""

from typing import Literal, Self

from pydantic import Field, model_validator

from compression.configuration import Config

Scheme = Literal[
    "int8-dynamic", "int8-static", "int8-qat", "int8-weight", "int4-weight", "fp8-e4m3", "fp8-e5m2", "bf16", "fp16"
]


class QuantizeConfig(Config):
    """Number format of the weights and of the arithmetic.

    Example:
        >>> QuantizeConfig().scheme
        'int8-dynamic'
        >>> QuantizeConfig(scheme="int4-weight", group_size=32, exclude=["pooler.*"]).exclude
        ('pooler.*',)
    """

    scheme: Scheme = Field(
        "int8-dynamic",
        description="int8-dynamic: int8 products, activations coded as they come; int8-weight, int4-weight: weights alone, a scale a group; fp8-e4m3, fp8-e5m2: weights stored as 8-bit floats; bf16, fp16: everything cast",
    )
    embeddings: bool = Field(
        True, description="Store the embedding tables in the smaller format too: they are most of a small model"
    )
    exclude: tuple[str, ...] = Field(
        (), description="Layers of the encoder that stay fp32, by name; `*` and `?` stand for any characters"
    )
    group_size: int = Field(
        64,
        ge=2,
        le=4096,
        description="Neighbouring weights of a row that share a scale, in int8-weight and int4-weight",
    )
    fake_activations: bool = Field(
        False,
        description="With fp8, round the inputs of linear layers to fp8 as well, a scale a token: to study accuracy, it makes nothing faster",
    )

    @model_validator(mode="after")
    def _fits_the_scheme(self) -> Self:
        if self.fake_activations and not self.scheme.startswith("fp8"):
            raise ValueError("fake_activations is for fp8-e4m3 and fp8-e5m2 alone")
        if self.scheme in ("bf16", "fp16") and (self.exclude or not self.embeddings):
            raise ValueError(f"{self.scheme} casts the whole model: it takes neither `exclude` nor `embeddings: false`")
        return self
