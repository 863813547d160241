"""What a factorisation makes of a shape, before any weight is seen."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from compression.architecture.shape import EncoderShape
from compression.errors import UserError
from compression.factorization.config import FactorizeConfig, RankConfig

EMBEDDING = "embedding"


@dataclass(frozen=True)
class Target:
    """A matrix that a factorisation is asked for.

    Attributes:
        name: `embedding`, or the name of a linear map: `attention.BLOCK.query`.
        inputs: columns of the map; the vocabulary of the embedding.
        outputs: rows of the map; the hidden size of the embedding.
        rank: its present rank; None when it is dense.
        choice: how its new rank is chosen.
    """

    name: str
    inputs: int
    outputs: int
    rank: int | None
    choice: RankConfig

    @property
    def part(self) -> str:
        """What it is a part of: `embedding`, `attention` or `feed_forward`."""
        return self.name.partition(".")[0]

    @property
    def parameters(self) -> int:
        """Weights that it has now; biases are not counted.

        Example:
            >>> Target("attention.0.query", 8, 8, None, RankConfig(rank=2)).parameters
            64
        """
        return self.parameters_at(self.rank)

    def parameters_at(self, rank: int | None) -> int:
        """Weights that it has at a rank.

        Args:
            rank: width between the factors; None for a dense matrix.

        Returns:
            Their number.
        """
        return self.inputs * self.outputs if rank is None else rank * (self.inputs + self.outputs)

    @property
    def largest_rank(self) -> int:
        """The largest rank at which factors have fewer weights than the matrix has now; 0 when there is none.

        Example:
            >>> Target("feed_forward.0.output", 3072, 768, None, RankConfig(rank=2)).largest_rank
            614
        """
        return (self.parameters - 1) // (self.inputs + self.outputs)

    @property
    def asked_rank(self) -> int | None:
        """The rank that is asked for; None where singular values decide."""
        if self.choice.ratio is not None:
            # The product can lie a rounding below a whole number that it should be.
            return max(1, int(self.choice.ratio * self.parameters / (self.inputs + self.outputs) + 1e-9))
        return self.choice.rank

    def refusal(self, rank: int) -> str | None:
        """Why factors of a rank are of no use.

        Args:
            rank: width between the factors.

        Returns:
            The reason; None when they have fewer weights than the matrix has now.

        Example:
            >>> Target("attention.0.query", 8, 8, None, RankConfig(rank=4)).refusal(4)
            'rank 4 gives attention.0.query (8×8) 64 weights and it has 64; ranks up to 3 make it smaller'
        """
        if rank <= self.largest_rank:
            return None
        present = "" if self.rank is None else f", of rank {self.rank} already"
        said = f"ranks up to {self.largest_rank} make it smaller" if self.largest_rank else "no rank makes it smaller"
        return (
            f"rank {rank} gives {self.name} ({self.outputs}×{self.inputs}{present}) {self.parameters_at(rank):,} "
            f"weights and it has {self.parameters:,}; {said}"
        )


def targets(config: FactorizeConfig, shape: EncoderShape) -> list[Target]:
    """The matrices that a configuration asks to factorise.

    Args:
        config: the stage's configuration.
        shape: the encoder before the stage.

    Returns:
        The word embedding, then linear maps in the order of the blocks.

    Raises:
        UserError: the embedding cannot be factorised, a pattern names no linear map, or the rank that is asked for
            makes no matrix of a part smaller.

    Example:
        >>> shape = EncoderShape.regular(layers=2, hidden_size=8, heads=2, intermediate_size=16)
        >>> [target.name for target in targets(FactorizeConfig(linear={"rank": 2, "maps": ["attention.*.key"]}), shape)]
        ['attention.0.key', 'attention.1.key']
    """
    found: list[Target] = []
    if config.embedding is not None:
        found.append(_embedding_target(config.embedding, shape))
    if config.linear is not None:
        maps = shape.linear_maps()
        found += [
            Target(name, *maps[name], shape.ranks.get(name), config.linear)
            for name in _matching(config.linear.maps, list(maps))
        ]
    for kind in ("embedding", "linear"):
        members = [target for target in found if (target.name == EMBEDDING) == (kind == "embedding")]
        refusals = [target.refusal(target.asked_rank) for target in members if target.asked_rank is not None]
        if refusals and None not in refusals:
            others = f" (and so on for all {len(refusals)} maps)" if len(refusals) > 1 else ""
            raise UserError(f"{kind}: {refusals[0]}{others}")
    return found


def shape_after(config: FactorizeConfig, shape: EncoderShape) -> EncoderShape:
    """The shape that a factorisation leaves.

    It is exact for `rank` and `ratio`. What `energy` decides is known only once the weights are seen: those matrices
    are left as they are here, so that the shape is the largest that can come out.

    Args:
        config: the stage's configuration.
        shape: the encoder before the stage.

    Returns:
        The shape after it. Matrices that factors of the rank would not make smaller stay as they are.

    Raises:
        UserError: as `targets`.

    Example:
        >>> shape = EncoderShape.regular(layers=2, hidden_size=8, heads=2, intermediate_size=16)
        >>> after = shape_after(FactorizeConfig(embedding={"rank": 4}), shape)
        >>> after.embedding_size, after.embedding_projection
        (4, 'word')
    """
    ranks = {
        target.name: target.asked_rank
        for target in targets(config, shape)
        if target.asked_rank is not None and target.refusal(target.asked_rank) is None
    }
    return with_ranks(shape, ranks)


def with_ranks(shape: EncoderShape, ranks: Mapping[str, int]) -> EncoderShape:
    """A shape with some matrices factorised.

    Args:
        shape: the shape.
        ranks: name of a target -> its new rank.

    Returns:
        The new shape.
    """
    changes: dict[str, object] = {
        "ranks": shape.ranks | {name: rank for name, rank in ranks.items() if name != EMBEDDING}
    }
    if EMBEDDING in ranks:
        changes |= {"embedding_size": ranks[EMBEDDING], "embedding_projection": "word"}
    return shape.edited(**changes)


def _embedding_target(choice: RankConfig, shape: EncoderShape) -> Target:
    if shape.embedding_projection == "all":
        raise UserError(
            f"the embedding is ALBERT's, {shape.vocab_size}×{shape.embedding_size} with a projection after LayerNorm, "
            "and cannot be factorised further: a second projection has no place in it"
        )
    rank = shape.embedding_size if shape.embedding_projection == "word" else None
    return Target(EMBEDDING, shape.vocab_size, shape.hidden_size, rank, choice)


def _matching(patterns: tuple[str, ...], names: list[str]) -> list[str]:
    chosen: set[str] = set()
    for pattern in patterns:
        found = {name for name in names if name.startswith(f"{pattern}.") or fnmatchcase(name, pattern)}
        if not found:
            allowed = f"such as {names[0]} and {names[-1]}" if names else "none, as all its blocks are empty"
            raise UserError(f"maps names {pattern!r}, but the encoder has no such linear map; it has {allowed}")
        chosen |= found
    return [name for name in names if name in chosen]
