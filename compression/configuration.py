"""The base of every configuration model."""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """An immutable configuration: unknown fields are refused, defaults are checked, infinities are not numbers.

    Attributes:
        alternatives: fields of which exactly one is given. Where a study file merges two mappings of this model, a
            later choice replaces the earlier mapping instead of joining it.

    Example:
        >>> class Example(Config):
        ...     rank: int = 64
        >>> Example(rank=128).rank
        128
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    alternatives: ClassVar[tuple[str, ...]] = ()
