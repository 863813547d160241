"""Configuration of the encoder of any shape."""

from dataclasses import field
from typing import Any

from transformers import PreTrainedConfig

MODEL_TYPE = "bertpress"
LINEAR_NAMES = {"attention": ("query", "key", "value", "output"), "feed_forward": ("intermediate", "output")}


class BertpressConfig(PreTrainedConfig):  # type: ignore[misc]  # transformers comes without types
    """Shape and behaviour of a BERT-family encoder whose layers may differ and may share their weights.

    Weights live in blocks: attention blocks (projections, output, LayerNorm) and feed-forward blocks (two linear maps,
    LayerNorm). A layer names the one of each that it uses, so shared weights are one block that several layers name.

    Args:
        vocab_size: rows of the word embedding.
        max_position_embeddings: longest input in word pieces.
        type_vocab_size: token types; 0 for an encoder without them, such as DistilBERT.
        hidden_size: width H of the hidden states.
        head_size: width d of one attention head; need not be hidden_size / heads.
        attention_heads: heads of each attention block; 0 leaves its output bias alone.
        intermediate_sizes: width of each feed-forward block; 0 leaves its output bias alone.
        attention_blocks: for each layer the attention block that it uses; empty for one block a layer.
        feed_forward_blocks: for each layer the feed-forward block that it uses; empty for one block a layer.
        embedding_size: width E of the factorised embedding; 0 for hidden_size.
        embedding_projection: `none`; `word`, where word embeddings V×E are projected to H before positions and token
            types are added (a factorised BERT); or `all`, where all embeddings have width E and their normalised sum is
            projected (ALBERT, arXiv:1909.11942).
        ranks: rank of factorised linear maps, by name: `attention.BLOCK.query`, `feed_forward.BLOCK.output`.
        hidden_act: activation of the feed-forward blocks and the masked-LM head.
        pooler_activation: `tanh` (BERT), or `relu` (DistilBERT's classification head).
        hidden_dropout_prob: dropout on embeddings and block outputs.
        attention_probs_dropout_prob: dropout on attention probabilities.
        classifier_dropout: dropout before a task head; null for hidden_dropout_prob.
        initializer_range: standard deviation of fresh weights.
        layer_norm_eps: epsilon of every LayerNorm.
        sentence_head: whether the masked-LM model also classifies sentence pairs (order, or next sentence).

    Example:
        >>> config = BertpressConfig.regular(layers=4, hidden_size=312, heads=12, intermediate_size=1200)
        >>> config.head_size, config.attention_blocks
        (26, [0, 1, 2, 3])
    """

    model_type = MODEL_TYPE

    vocab_size: int = 30522
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    hidden_size: int = 768
    head_size: int = 64
    attention_heads: list[int] = field(default_factory=lambda: [12] * 12)
    intermediate_sizes: list[int] = field(default_factory=lambda: [3072] * 12)
    attention_blocks: list[int] = field(default_factory=list)
    feed_forward_blocks: list[int] = field(default_factory=list)
    embedding_size: int = 0
    embedding_projection: str = "none"
    ranks: dict[str, int] = field(default_factory=dict)
    hidden_act: str = "gelu"
    pooler_activation: str = "tanh"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    classifier_dropout: float | None = None
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    sentence_head: bool = False
    pad_token_id: int | None = 0
    tie_word_embeddings: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        """Fill in what is derived and refuse a shape that contradicts itself."""
        kwargs.pop("num_hidden_layers", None)
        self.attention_blocks = self.attention_blocks or list(range(len(self.attention_heads)))
        self.feed_forward_blocks = self.feed_forward_blocks or list(range(len(self.intermediate_sizes)))
        self.embedding_size = self.embedding_size or self.hidden_size
        self._refuse_contradictions()
        super().__post_init__(**kwargs)

    @classmethod
    def regular(
        cls, *, layers: int, hidden_size: int, heads: int, intermediate_size: int, **fields: Any
    ) -> "BertpressConfig":
        """A configuration in which all layers are alike and share nothing.

        Args:
            layers: number of layers.
            hidden_size: width of the hidden states.
            heads: heads a layer, of width hidden_size / heads.
            intermediate_size: feed-forward width.
            fields: further fields.

        Returns:
            The configuration.
        """
        return cls(
            hidden_size=hidden_size,
            head_size=fields.pop("head_size", hidden_size // heads),
            attention_heads=[heads] * layers,
            intermediate_sizes=[intermediate_size] * layers,
            **fields,
        )

    @property
    def num_hidden_layers(self) -> int:
        """Number of layers."""
        return len(self.attention_blocks)

    def to_dict(self) -> dict[str, Any]:
        """See transformers; the number of layers is written too, for tools that read it."""
        return {**super().to_dict(), "num_hidden_layers": self.num_hidden_layers}

    def _refuse_contradictions(self) -> None:
        """As `EncoderShape` does, which a folder that loads without this project does not have."""
        if len(self.attention_blocks) != len(self.feed_forward_blocks):
            raise ValueError(
                f"attention_blocks names {len(self.attention_blocks)} layers, feed_forward_blocks "
                f"{len(self.feed_forward_blocks)}"
            )
        for name, used, sizes in (
            ("attention_blocks", self.attention_blocks, self.attention_heads),
            ("feed_forward_blocks", self.feed_forward_blocks, self.intermediate_sizes),
        ):
            if sorted(set(used)) != list(range(len(sizes))):
                raise ValueError(f"{name} {used} must name each of the {len(sizes)} blocks, 0 to {len(sizes) - 1}")
            if min(sizes, default=0) < 0:
                raise ValueError(f"a block of {name} has a negative size: {sizes}")
        if self.embedding_projection not in ("none", "word", "all"):
            raise ValueError(f"embedding_projection is {self.embedding_projection!r}; allowed: none, word, all")
        if self.embedding_projection == "none" and self.embedding_size != self.hidden_size:
            raise ValueError(
                f"embedding_size {self.embedding_size} differs from hidden_size {self.hidden_size}, "
                "which needs an embedding_projection"
            )
        blocks = {"attention": len(self.attention_heads), "feed_forward": len(self.intermediate_sizes)}
        known = {
            f"{kind}.{block}.{name}" for kind in blocks for block in range(blocks[kind]) for name in LINEAR_NAMES[kind]
        }
        unknown = sorted(set(self.ranks) - known)
        if unknown:
            raise ValueError(f"ranks names {unknown[0]!r}, which is no linear map of this encoder")


__all__ = ["BertpressConfig"]
