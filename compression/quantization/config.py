"""Configuration of the `quantize` stage."""

from typing import Literal

from pydantic import Field

from compression.configuration import Config


class QuantizeConfig(Config):
    """Number format of the weights and of the arithmetic.

    Example:
        >>> QuantizeConfig().scheme
        'int8-dynamic'
    """

    scheme: Literal["int8-dynamic"] = Field(
        "int8-dynamic",
        description="int8 weights, one scale an output channel; activations coded as they come, one scale a token",
    )
    embeddings: bool = Field(
        True, description="Store the embedding tables as int8 too, one scale a row: they are most of a small model"
    )
