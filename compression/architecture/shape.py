"""The shape of an encoder, described without torch: what planning, counting and editing agree on.

The fields have the names and meanings of `BertpressConfig`, so `shape.model_dump()` is part of a configuration.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from compression.configuration import Config
from compression.errors import UserError

Size = Annotated[int, Field(ge=1)]
Width = Annotated[int, Field(ge=0)]
Block = Annotated[int, Field(ge=0)]

LINEAR_NAMES = {"attention": ("query", "key", "value", "output"), "feed_forward": ("intermediate", "output")}
FAMILIES = ("bert", "distilbert", "albert", "bertpress")


class EncoderShape(Config):
    """Sizes of an encoder whose layers may differ and may share their weights.

    Weights live in attention blocks and feed-forward blocks; each layer names the one of each that it uses.

    Example:
        >>> shape = EncoderShape.regular(layers=4, hidden_size=312, heads=12, intermediate_size=1200)
        >>> shape.layers, shape.head_size
        (4, 26)
    """

    vocab_size: Size = Field(30522, description="Rows of the word embedding")
    max_position_embeddings: Size = Field(512, description="Longest input in word pieces")
    type_vocab_size: Width = Field(2, description="Token types; 0 for an encoder without them")
    hidden_size: Size = Field(description="Width of the hidden states")
    head_size: Size = Field(description="Width of an attention head")
    attention_heads: tuple[Width, ...] = Field(description="Heads of each attention block")
    intermediate_sizes: tuple[Width, ...] = Field(description="Width of each feed-forward block")
    attention_blocks: tuple[Block, ...] = Field(description="For each layer the attention block that it uses")
    feed_forward_blocks: tuple[Block, ...] = Field(description="For each layer the feed-forward block that it uses")
    embedding_size: Size = Field(description="Width of the word embedding")
    embedding_projection: Literal["none", "word", "all"] = Field(
        "none",
        description="Nothing; word embeddings projected before positions are added (factorised BERT); "
        "or the normalised sum of all embeddings projected (ALBERT)",
    )
    ranks: dict[str, Size] = Field(
        default_factory=dict, description="Rank of factorised linear maps: `attention.BLOCK.query`, ..."
    )

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        for field, used, sizes in (
            ("attention_blocks", self.attention_blocks, self.attention_heads),
            ("feed_forward_blocks", self.feed_forward_blocks, self.intermediate_sizes),
        ):
            if sorted(set(used)) != list(range(len(sizes))):
                raise ValueError(f"{field} {list(used)} must name each of the {len(sizes)} blocks")
        if len(self.attention_blocks) != len(self.feed_forward_blocks):
            raise ValueError("attention_blocks and feed_forward_blocks must name a block for each layer")
        if self.embedding_projection == "none" and self.embedding_size != self.hidden_size:
            raise ValueError(
                f"embedding_size {self.embedding_size} differs from hidden_size {self.hidden_size}: "
                "that needs an embedding_projection"
            )
        unknown = sorted(set(self.ranks) - set(self.linear_maps()))
        if unknown:
            raise ValueError(f"ranks names {unknown[0]!r}, which is no linear map of this encoder")
        return self

    @classmethod
    def regular(
        cls,
        *,
        layers: int,
        hidden_size: int,
        heads: int,
        intermediate_size: int,
        embedding_size: int | None = None,
        attention_groups: int | None = None,
        feed_forward_groups: int | None = None,
        **fields: Any,
    ) -> "EncoderShape":
        """A shape in which all layers have the same sizes, and neighbouring ones may share weights.

        Args:
            layers: number of layers.
            hidden_size: width of the hidden states.
            heads: heads a layer, of width hidden_size / heads.
            intermediate_size: feed-forward width.
            embedding_size: width of ALBERT's factorised embedding; None, or hidden_size, for a plain one.
            attention_groups: groups of layers that share one attention block each; None shares nothing.
            feed_forward_groups: likewise for feed-forward blocks.
            fields: further fields.

        Returns:
            The shape.

        Raises:
            UserError: the heads do not divide the hidden size, or the groups do not divide the layers.

        Example:
            >>> EncoderShape.regular(
            ...     layers=4, hidden_size=16, heads=2, intermediate_size=64, attention_groups=2
            ... ).attention_blocks
            (0, 0, 1, 1)
        """
        if hidden_size % heads:
            raise UserError(f"hidden_size {hidden_size} is not divisible by {heads} heads")
        attention = grouped(layers, attention_groups or layers)
        feed_forward = grouped(layers, feed_forward_groups or layers)
        factorised = embedding_size is not None and embedding_size != hidden_size
        return cls(
            hidden_size=hidden_size,
            head_size=hidden_size // heads,
            attention_heads=(heads,) * (attention_groups or layers),
            intermediate_sizes=(intermediate_size,) * (feed_forward_groups or layers),
            attention_blocks=attention,
            feed_forward_blocks=feed_forward,
            embedding_size=embedding_size or hidden_size,
            embedding_projection="all" if factorised else "none",
            **fields,
        )

    @property
    def layers(self) -> int:
        """Number of layers."""
        return len(self.attention_blocks)

    def linear_maps(self) -> dict[str, tuple[int, int]]:
        """Linear maps inside the layers' blocks.

        Returns:
            `attention.BLOCK.query` and so on -> (in, out) features; blocks of size 0 have none.
        """
        maps: dict[str, tuple[int, int]] = {}
        for block, heads in enumerate(self.attention_heads):
            width = heads * self.head_size
            for name in LINEAR_NAMES["attention"] if heads else ():
                sizes = (width, self.hidden_size) if name == "output" else (self.hidden_size, width)
                maps[f"attention.{block}.{name}"] = sizes
        for block, width in enumerate(self.intermediate_sizes):
            for name in LINEAR_NAMES["feed_forward"] if width else ():
                sizes = (width, self.hidden_size) if name == "output" else (self.hidden_size, width)
                maps[f"feed_forward.{block}.{name}"] = sizes
        return maps

    def edited(self, **changes: Any) -> "EncoderShape":
        """The shape with some fields changed, checked again.

        Args:
            changes: field -> value.

        Returns:
            The new shape.

        Example:
            >>> shape = EncoderShape.regular(layers=1, hidden_size=8, heads=2, intermediate_size=16)
            >>> shape.edited(attention_heads=(1,)).attention_heads
            (1,)
        """
        return EncoderShape.model_validate({**self.model_dump(), **changes})


def grouped(layers: int, groups: int) -> tuple[int, ...]:
    """Assign neighbouring layers to groups of equal size (Lan et al. 2019, arXiv:1909.11942, section 3.1).

    Args:
        layers: number of layers.
        groups: number of groups.

    Returns:
        For each layer its group.

    Raises:
        UserError: the groups do not divide the layers.

    Example:
        >>> grouped(6, 2)
        (0, 0, 0, 1, 1, 1)
    """
    if groups < 1 or layers % groups:
        divisors = [number for number in range(1, layers + 1) if layers % number == 0]
        raise UserError(f"{groups} groups do not divide {layers} layers; allowed: {', '.join(map(str, divisors))}")
    return tuple(layer * groups // layers for layer in range(layers))


def renumbered(used: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Close the gaps that removed layers leave among block numbers.

    Args:
        used: for each remaining layer the number of its block.

    Returns:
        For each layer its new block number, and for each new block its old number.

    Example:
        >>> renumbered([0, 4, 4, 2])
        ((0, 2, 2, 1), (0, 2, 4))
    """
    kept = tuple(sorted(set(used)))
    return tuple(kept.index(block) for block in used), kept


def shape_of(declared: Mapping[str, Any]) -> EncoderShape:
    """Read the shape from the content of a `config.json`.

    Args:
        declared: a BERT, DistilBERT, ALBERT or bertpress configuration as JSON values.

    Returns:
        The shape.

    Raises:
        UserError: another architecture, or values that make no shape.

    Example:
        >>> shape_of({"model_type": "distilbert", "dim": 16, "n_heads": 2, "n_layers": 1, "hidden_dim": 32}).layers
        1
    """
    family = declared.get("model_type")
    try:
        if family == "bertpress":
            known = EncoderShape.model_fields.keys() & declared.keys()
            return EncoderShape.model_validate({name: declared[name] for name in known})
        if family == "distilbert":
            return _regular(declared, ("n_layers", 6), ("dim", 768), ("n_heads", 12), ("hidden_dim", 3072), types=0)
        if family == "bert":
            return _regular(
                declared,
                ("num_hidden_layers", 12),
                ("hidden_size", 768),
                ("num_attention_heads", 12),
                ("intermediate_size", 3072),
                types=declared.get("type_vocab_size", 2),
            )
        if family == "albert":
            return _albert(declared)
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"config.json of a {family!r} model describes no shape: {error}") from error
    raise UserError(f"a {family!r} model cannot be edited; allowed: {', '.join(FAMILIES)}")


def _regular(declared: Mapping[str, Any], *names: tuple[str, int], types: int) -> EncoderShape:
    layers, hidden, heads, intermediate = (declared.get(name, default) for name, default in names)
    return EncoderShape.regular(
        layers=layers,
        hidden_size=hidden,
        heads=heads,
        intermediate_size=intermediate,
        vocab_size=declared.get("vocab_size", 30522),
        max_position_embeddings=declared.get("max_position_embeddings", 512),
        type_vocab_size=types,
    )


def _albert(declared: Mapping[str, Any]) -> EncoderShape:
    """ALBERT's inner layers are layers of their own: each of the outer ones runs its whole group."""
    outer, inner = declared.get("num_hidden_layers", 12), declared.get("inner_group_num", 1)
    group = grouped(outer, declared.get("num_hidden_groups", 1))
    blocks = tuple(group[layer] * inner + place for layer in range(outer) for place in range(inner))
    hidden, heads = declared.get("hidden_size", 4096), declared.get("num_attention_heads", 64)
    count = max(blocks) + 1
    return EncoderShape(
        vocab_size=declared.get("vocab_size", 30000),
        max_position_embeddings=declared.get("max_position_embeddings", 512),
        type_vocab_size=declared.get("type_vocab_size", 2),
        hidden_size=hidden,
        head_size=hidden // heads,
        attention_heads=(heads,) * count,
        intermediate_sizes=(declared.get("intermediate_size", 16384),) * count,
        attention_blocks=blocks,
        feed_forward_blocks=blocks,
        embedding_size=declared.get("embedding_size", 128),
        embedding_projection="all",
    )
