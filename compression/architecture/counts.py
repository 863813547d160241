"""Parameters and multiply-accumulates of a shape, computed before anything is allocated."""

from typing import Literal

from compression.architecture.shape import EncoderShape

Head = Literal["none", "masked_lm", "classifier", "question_answering"]


def parameters_by_part(
    shape: EncoderShape, *, pooler: bool = True, head: Head = "none", labels: int = 2
) -> dict[str, int]:
    """Count parameters, shared ones once (the arithmetic of Lan et al. 2019, arXiv:1909.11942, Table 1).

    Args:
        shape: the encoder.
        pooler: whether there is a pooler.
        head: task head; a masked-LM head shares the word embeddings.
        labels: outputs of a classifier.

    Returns:
        Part -> number of parameters, in the order of the forward pass; parts that do not exist are left out.

    Example:
        >>> shape = EncoderShape.regular(layers=12, hidden_size=768, heads=12, intermediate_size=3072)
        >>> sum(parameters_by_part(shape).values())
        109482240
    """
    hidden, narrow = shape.hidden_size, shape.embedding_size
    width = narrow if shape.embedding_projection == "all" else hidden
    projection = {"none": 0, "word": narrow * hidden, "all": narrow * hidden + hidden}[shape.embedding_projection]
    norms = 2 * hidden
    maps = {name: _linear(*sizes, shape.ranks.get(name)) for name, sizes in shape.linear_maps().items()}
    parts = {
        "word embeddings": shape.vocab_size * narrow,
        "position embeddings": shape.max_position_embeddings * width,
        "token-type embeddings": shape.type_vocab_size * width,
        "embedding LayerNorm": 2 * width,
        "embedding projection": projection,
        # An output whose inputs are all gone keeps its bias.
        "attention": sum(size for name, size in maps.items() if name.startswith("attention"))
        + norms * len(shape.attention_heads)
        + hidden * sum(heads == 0 for heads in shape.attention_heads),
        "feed-forward": sum(size for name, size in maps.items() if name.startswith("feed_forward"))
        + norms * len(shape.intermediate_sizes)
        + hidden * sum(size == 0 for size in shape.intermediate_sizes),
        "pooler": _linear(hidden, hidden) if pooler else 0,
        "head": _head(shape, head, width, labels),
    }
    return {part: count for part, count in parts.items() if count}


def multiply_accumulates(shape: EncoderShape, length: int, *, pooler: bool = True) -> int:
    """Count multiply-accumulates of one sequence; one is two floating-point operations.

    As in Kwon et al. 2022 (arXiv:2204.09656): per layer length·(3Hd + 2·length·d + dH) a head and 2·length·H a neuron.
    Look-ups, normalisation, activations and biases are left out.

    Args:
        shape: the encoder.
        length: word pieces of the sequence.
        pooler: whether there is a pooler.

    Returns:
        Their number.

    Example:
        >>> shape = EncoderShape.regular(layers=12, hidden_size=768, heads=12, intermediate_size=3072)
        >>> round(2 * multiply_accumulates(shape, 128) / 1e9, 1)  # TinyBERT's Table 1 prints 22.5
        22.3
    """
    maps = {name: _weights(*sizes, shape.ranks.get(name)) for name, sizes in shape.linear_maps().items()}

    def block(kind: str, number: int) -> int:
        return sum(size for name, size in maps.items() if name.startswith(f"{kind}.{number}."))

    total = 0
    for attention, feed_forward in zip(shape.attention_blocks, shape.feed_forward_blocks, strict=True):
        products = 2 * length * shape.attention_heads[attention] * shape.head_size
        total += length * (block("attention", attention) + products + block("feed_forward", feed_forward))
    if shape.embedding_projection != "none":
        total += length * shape.embedding_size * shape.hidden_size
    return total + (shape.hidden_size**2 if pooler else 0)


def _weights(in_features: int, out_features: int, rank: int | None = None) -> int:
    return in_features * out_features if rank is None else rank * (in_features + out_features)


def _linear(in_features: int, out_features: int, rank: int | None = None) -> int:
    return _weights(in_features, out_features, rank) + out_features


def _head(shape: EncoderShape, head: Head, width: int, labels: int) -> int:
    if head == "masked_lm":
        return _linear(shape.hidden_size, width) + 2 * width + shape.vocab_size
    if head == "classifier":
        return _linear(shape.hidden_size, labels)
    return _linear(shape.hidden_size, 2) if head == "question_answering" else 0
