"""Shapes of published encoders, by name."""

from dataclasses import dataclass

from compression.architecture.shape import EncoderShape


@dataclass(frozen=True)
class Preset:
    """A published encoder.

    Attributes:
        layers: number of layers.
        hidden_size: width of the hidden states.
        heads: heads a layer.
        intermediate_size: feed-forward width.
        source: the paper that uses it.
        embedding_size: width of ALBERT's factorised embedding; None for hidden_size.
        groups: groups of layers that share all their weights; None shares nothing.
        vocab_size: word pieces of the published model; a student takes its teacher's.
        type_vocab_size: token types.
        hidden_act: activation.
    """

    layers: int
    hidden_size: int
    heads: int
    intermediate_size: int
    source: str
    embedding_size: int | None = None
    groups: int | None = None
    vocab_size: int = 30522
    type_vocab_size: int = 2
    hidden_act: str = "gelu"

    @property
    def is_bert(self) -> bool:
        """Whether a plain BERT has this shape."""
        return self.embedding_size is None and self.groups is None and self.type_vocab_size > 0

    def shape(
        self,
        *,
        vocab_size: int | None = None,
        max_position_embeddings: int = 512,
        type_vocab_size: int | None = None,
    ) -> EncoderShape:
        """The preset as a shape.

        Args:
            vocab_size: word pieces; the published model's by default.
            max_position_embeddings: longest input in word pieces.
            type_vocab_size: token types; the published model's by default.

        Returns:
            The shape.

        Example:
            >>> PRESETS["albert-base"].shape().attention_blocks
            (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        """
        return EncoderShape.regular(
            layers=self.layers,
            hidden_size=self.hidden_size,
            heads=self.heads,
            intermediate_size=self.intermediate_size,
            embedding_size=self.embedding_size,
            attention_groups=self.groups,
            feed_forward_groups=self.groups,
            vocab_size=vocab_size or self.vocab_size,
            max_position_embeddings=max_position_embeddings,
            type_vocab_size=self.type_vocab_size if type_vocab_size is None else type_vocab_size,
        )


def _albert(layers: int, hidden_size: int, heads: int) -> Preset:
    return Preset(
        layers,
        hidden_size,
        heads,
        4 * hidden_size,
        "Lan et al. 2019, arXiv:1909.11942",
        embedding_size=128,
        groups=1,
        vocab_size=30000,
        hidden_act="gelu_new",
    )


_BERT = "Devlin et al. 2018, arXiv:1810.04805"
_MINIATURES = "Turc et al. 2019, arXiv:1908.08962"
_TINYBERT = "Jiao et al. 2019, arXiv:1909.10351"
_MINILM = "Wang et al. 2020, arXiv:2002.10957"

PRESETS: dict[str, Preset] = {
    "bert-tiny": Preset(2, 128, 2, 512, _MINIATURES),
    "bert-mini": Preset(4, 256, 4, 1024, _MINIATURES),
    "bert-small": Preset(4, 512, 8, 2048, _MINIATURES),
    "bert-medium": Preset(8, 512, 8, 2048, _MINIATURES),
    "bert-4l-768": Preset(4, 768, 12, 3072, "Sun et al. 2019, arXiv:1908.09355 (BERT4-PKD), and DistilBERT4"),
    "bert-6l-768": Preset(6, 768, 12, 3072, "Sun et al. 2019, arXiv:1908.09355 (BERT6-PKD)"),
    "bert-base": Preset(12, 768, 12, 3072, _BERT),
    "bert-large": Preset(24, 1024, 16, 4096, _BERT),
    "distilbert-6l": Preset(6, 768, 12, 3072, "Sanh et al. 2019, arXiv:1910.01108", type_vocab_size=0),
    "tinybert-4l-312": Preset(4, 312, 12, 1200, _TINYBERT),
    "tinybert-6l-768": Preset(6, 768, 12, 3072, _TINYBERT),
    "minilm-6l-384": Preset(6, 384, 12, 1536, _MINILM),
    "minilm-12l-384": Preset(12, 384, 12, 1536, _MINILM),
    "albert-base": _albert(12, 768, 12),
    "albert-large": _albert(24, 1024, 16),
    "albert-xlarge": _albert(24, 2048, 16),
    "albert-xxlarge": _albert(12, 4096, 64),
}
