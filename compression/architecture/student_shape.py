"""The shape of a student before it is built."""

from compression.architecture.config import StudentConfig
from compression.architecture.presets import PRESETS
from compression.architecture.shape import EncoderShape, renumbered
from compression.errors import UserError


def student_shape(student: StudentConfig, encoder: EncoderShape) -> EncoderShape:
    """Shape of a student.

    Args:
        student: preset or layers.
        encoder: shape of the pretrained encoder.

    Returns:
        The preset's shape over the encoder's vocabulary and positions, or the encoder's with the chosen layers alone.

    Raises:
        UserError: a layer that the encoder does not have.

    Example:
        >>> encoder = EncoderShape.regular(layers=6, hidden_size=8, heads=2, intermediate_size=16)
        >>> student_shape(StudentConfig(layers=[0, 3]), encoder).layers
        2
        >>> student_shape(StudentConfig(layers="uniform", count=3, token_types=False), encoder).type_vocab_size
        0
    """
    if student.preset is not None:
        return PRESETS[student.preset].shape(
            vocab_size=encoder.vocab_size,
            max_position_embeddings=encoder.max_position_embeddings,
            type_vocab_size=encoder.type_vocab_size if PRESETS[student.preset].type_vocab_size else 0,
        )
    chosen = with_layers(encoder, student.chosen_layers(encoder.layers))
    return chosen if student.token_types else chosen.edited(type_vocab_size=0)


def with_layers(shape: EncoderShape, layers: tuple[int, ...]) -> EncoderShape:
    """The shape with some of its layers alone.

    Args:
        shape: the whole shape.
        layers: 0-based layers to keep, in their new order.

    Returns:
        The shape; blocks that no kept layer uses are gone.

    Raises:
        UserError: a layer that does not exist.

    Example:
        >>> shape = EncoderShape.regular(layers=4, hidden_size=8, heads=2, intermediate_size=16)
        >>> with_layers(shape, (1, 3)).attention_blocks
        (0, 1)
    """
    absent = [layer for layer in layers if layer >= shape.layers]
    if absent:
        raise UserError(
            f"layer {absent[0]} does not exist: the model has {shape.layers} layers, 0 to {shape.layers - 1}"
        )
    attention, kept_attention = renumbered([shape.attention_blocks[layer] for layer in layers])
    feed_forward, kept_feed_forward = renumbered([shape.feed_forward_blocks[layer] for layer in layers])
    new = {"attention": kept_attention, "feed_forward": kept_feed_forward}
    ranks = {}
    for name, rank in shape.ranks.items():
        kind, block, linear = name.split(".")
        if int(block) in new[kind]:
            ranks[f"{kind}.{new[kind].index(int(block))}.{linear}"] = rank
    return shape.edited(
        attention_heads=tuple(shape.attention_heads[block] for block in kept_attention),
        intermediate_sizes=tuple(shape.intermediate_sizes[block] for block in kept_feed_forward),
        attention_blocks=attention,
        feed_forward_blocks=feed_forward,
        ranks=ranks,
    )
