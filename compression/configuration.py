"""The base of every configuration model."""

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """An immutable configuration: unknown fields are refused, defaults are checked, infinities are not numbers.

    Example:
        >>> class Example(Config):
        ...     rank: int = 64
        >>> Example(rank=128).rank
        128
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)
