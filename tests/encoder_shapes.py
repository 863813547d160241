"""Random encoder shapes for property tests, small enough to be built by the hundred."""

from hypothesis import strategies as st

from compression.architecture.shape import EncoderShape, renumbered

VOCABULARY, POSITIONS = 13, 8


@st.composite
def encoder_shapes(draw: st.DrawFn, *, low_rank: bool = True) -> EncoderShape:
    """Any shape: uneven heads and widths (zero included), shared blocks, factorised embeddings and linear maps."""
    layers = draw(st.integers(1, 3))
    hidden = draw(st.sampled_from([4, 6, 8]))
    projection = draw(st.sampled_from(["none", "word", "all"]))
    maps = [draw(st.lists(st.integers(0, layers - 1), min_size=layers, max_size=layers)) for _ in range(2)]
    (attention, attention_kept), (feed_forward, feed_forward_kept) = map(renumbered, maps)
    shape = EncoderShape(
        vocab_size=VOCABULARY,
        max_position_embeddings=POSITIONS,
        type_vocab_size=draw(st.integers(0, 2)),
        hidden_size=hidden,
        head_size=draw(st.integers(1, 4)),
        attention_heads=tuple(draw(st.integers(0, 3)) for _ in attention_kept),
        intermediate_sizes=tuple(draw(st.integers(0, 5)) for _ in feed_forward_kept),
        attention_blocks=attention,
        feed_forward_blocks=feed_forward,
        embedding_size=hidden if projection == "none" else draw(st.integers(1, hidden)),
        embedding_projection=projection,
    )
    chosen = (
        draw(st.lists(st.sampled_from(sorted(shape.linear_maps())), unique=True, max_size=3))
        if (low_rank and shape.linear_maps())
        else []
    )
    return shape.edited(ranks={name: draw(st.integers(1, min(shape.linear_maps()[name]))) for name in chosen})
