"""Factors of the word embedding: V×H becomes V×E · E×H (Lan et al. 2019, arXiv:1909.11942, section 3.1)."""

from collections.abc import Mapping

from torch import Tensor

WORDS = "embeddings.word_embeddings.weight"
PROJECTION = "embeddings.word_projection.weight"
DECODER = "head.decoder.weight"


def table(weights: Mapping[str, Tensor], prefix: str) -> Tensor:
    """The word embedding as the layers see it, the product of its factors where it has some.

    Args:
        weights: a model's weights by name.
        prefix: what the encoder's names start with.

    Returns:
        (vocabulary, hidden size).
    """
    words, projection = weights[prefix + WORDS], weights.get(prefix + PROJECTION)
    return words if projection is None else words @ projection.T


def with_factors(weights: Mapping[str, Tensor], prefix: str, up: Tensor, down: Tensor) -> dict[str, Tensor]:
    """A model's weights with other factors of the word embedding.

    A masked-LM head's output map is the embedding, and so the same factors transposed; it is left out, for tying to
    fill in.

    Args:
        weights: the weights by name.
        prefix: what the encoder's names start with.
        up: (hidden size, E).
        down: (E, vocabulary).

    Returns:
        The new weights.
    """
    kept = {name: tensor for name, tensor in weights.items() if name != DECODER}
    return kept | {prefix + WORDS: down.T.contiguous(), prefix + PROJECTION: up}
