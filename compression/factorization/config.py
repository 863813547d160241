"""Configuration of the `factorize` stage."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from compression.configuration import Config

MapPattern = Annotated[str, Field(min_length=1)]


class RankConfig(Config):
    """How thin the factors are: exactly one of `rank`, `ratio` and `energy`.

    Example:
        >>> RankConfig(ratio=0.5).ratio
        0.5
    """

    alternatives: ClassVar[tuple[str, ...]] = ("rank", "ratio", "energy")

    rank: int | None = Field(None, ge=1, description="Width between the two factors, of every matrix")
    ratio: float | None = Field(
        None, gt=0, lt=1, description="Share of a matrix's parameters that its two factors have together"
    )
    energy: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Share of the sum of a matrix's squared singular values that its factors keep, by the smallest rank that does",
    )

    @model_validator(mode="after")
    def _one_choice(self) -> Self:
        if sum(getattr(self, name) is not None for name in self.alternatives) != 1:
            raise ValueError("exactly one of `rank`, `ratio` and `energy` is needed")
        return self


class EmbeddingConfig(RankConfig):
    """The word embedding: V×H becomes V×E · E×H (Lan et al. 2019, section 3.1), by singular values.

    Example:
        >>> EmbeddingConfig(rank=64).weighting
        'none'
    """

    weighting: Literal["none", "frequency"] = Field(
        "none",
        description="Which rows must be approximated well: all alike, or those of frequent word pieces (occurrences in the task's train rows, plus one)",
    )


class LinearConfig(RankConfig):
    """Linear maps of the layers: W becomes up · down, by singular values.

    Example:
        >>> LinearConfig(energy=0.9, maps=["feed_forward"]).maps
        ('feed_forward',)
    """

    maps: tuple[MapPattern, ...] = Field(
        ("attention", "feed_forward"),
        min_length=1,
        description="Which maps: a beginning of their names, or a pattern with `*`: attention, feed_forward, attention.*.query, feed_forward.0.*",
    )
    weighting: Literal["none", "activations"] = Field(
        "none",
        description="What must be approximated well: the weights, or the outputs on a sample of the task's train rows",
    )
    sample: int = Field(512, ge=1, description="Train rows, evenly spaced, whose activations are used for weighting")


class FactorizeConfig(Config):
    """Replace trained matrices by products of two thin ones, by truncated singular value decomposition.

    Example:
        >>> FactorizeConfig(embedding={"rank": 64}).linear is None
        True
    """

    embedding: EmbeddingConfig | None = Field(None, description="Factorise the word embedding; null leaves it")
    linear: LinearConfig | None = Field(
        None, description="Factorise linear maps of attention and feed-forward blocks; null leaves them"
    )

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.embedding is None and self.linear is None:
            raise ValueError("`embedding`, `linear` or both are needed: else nothing is factorised")
        return self

    @property
    def reads_data(self) -> bool:
        """Whether train rows of the task decide what is approximated well."""
        return any(part is not None and part.weighting != "none" for part in (self.embedding, self.linear))
