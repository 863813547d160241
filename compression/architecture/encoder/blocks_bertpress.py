"""Building blocks of the encoder of any shape: embeddings, attention, feed-forward, pooler."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .configuration_bertpress import BertpressConfig


class LowRankLinear(nn.Module):
    """A linear map factorised into two: in -> rank without bias, rank -> out with bias.

    Args:
        in_features: width of the input.
        out_features: width of the output.
        rank: width between the two.

    Example:
        >>> sum(parameter.numel() for parameter in LowRankLinear(8, 6, 2).parameters())
        34
    """

    def __init__(self, in_features: int, out_features: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Linear(in_features, rank, bias=False)
        self.up = nn.Linear(rank, out_features)

    def forward(self, hidden: Tensor) -> Tensor:
        """Apply both maps to (..., in); returns (..., out)."""
        return self.up(self.down(hidden))  # type: ignore[no-any-return]


class OutputBias(nn.Module):
    """What is left of an output map whose inputs were all removed: its bias.

    Args:
        out_features: width of the output.
    """

    def __init__(self, out_features: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(out_features))

    def forward(self, hidden: Tensor) -> Tensor:
        """The bias, to be broadcast over (batch, length)."""
        del hidden
        return self.bias


def linear(config: BertpressConfig, name: str, in_features: int, out_features: int) -> nn.Module:
    """A linear map, factorised where the configuration gives it a rank.

    Args:
        config: configuration of the encoder.
        name: the map's name in `config.ranks`.
        in_features: width of the input.
        out_features: width of the output.

    Returns:
        The module.
    """
    rank = config.ranks.get(name)
    return nn.Linear(in_features, out_features) if rank is None else LowRankLinear(in_features, out_features, rank)


class Embeddings(nn.Module):
    """Sum of word, token-type and position embeddings, normalised; factorised as the configuration says.

    Args:
        config: configuration of the encoder.
    """

    def __init__(self, config: BertpressConfig) -> None:
        super().__init__()
        hidden, factorised = config.hidden_size, config.embedding_size
        projection = config.embedding_projection
        width = factorised if projection == "all" else hidden
        self.word_embeddings = nn.Embedding(config.vocab_size, factorised, padding_idx=config.pad_token_id)
        self.word_projection = nn.Linear(factorised, hidden, bias=False) if projection == "word" else None
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, width)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, width) if config.type_vocab_size else None
        self.LayerNorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.projection = nn.Linear(factorised, hidden) if projection == "all" else None

    def forward(self, input_ids: Tensor, token_type_ids: Tensor | None, position_ids: Tensor | None) -> Tensor:
        """Embed word pieces.

        Args:
            input_ids: (batch, length) word pieces.
            token_type_ids: (batch, length); None means type 0. Without meaning to an encoder without token types.
            position_ids: (batch, length) or (1, length); None counts from 0.

        Returns:
            (batch, length, hidden_size).
        """
        embedded = self.word_embeddings(input_ids)
        if self.word_projection is not None:
            embedded = self.word_projection(embedded)
        if self.token_type_embeddings is not None:
            types = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
            embedded = embedded + self.token_type_embeddings(types)
        if position_ids is None:
            position_ids = torch.arange(input_ids.shape[1], device=input_ids.device).unsqueeze(0)
        embedded = self.dropout(self.LayerNorm(embedded + self.position_embeddings(position_ids)))
        return embedded if self.projection is None else self.projection(embedded)  # type: ignore[no-any-return]


def eager_attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """Attention in plain matrix products; see transformers' attention interface."""
    output, probabilities, _scores = _attend(module, query, key, value, attention_mask, scaling, dropout)
    return output, probabilities


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Output (batch, length, heads, head_size), probabilities and raw scores (batch, heads, length, length)."""
    scores = torch.matmul(query, key.transpose(2, 3)) * scaling
    masked = scores if attention_mask is None else scores + attention_mask
    probabilities = nn.functional.softmax(masked, dim=-1)
    kept = nn.functional.dropout(probabilities, p=dropout, training=module.training)
    return torch.matmul(kept, value).transpose(1, 2).contiguous(), probabilities, scores


class AttentionBlock(nn.Module):
    """Multi-head self-attention with residual connection and LayerNorm (Vaswani et al. 2017, arXiv:1706.03762).

    Args:
        config: configuration of the encoder.
        block: number of the attention block.
    """

    def __init__(self, config: BertpressConfig, block: int) -> None:
        super().__init__()
        self.config = config
        self.heads = config.attention_heads[block]
        self.head_size = config.head_size
        self.scaling = self.head_size**-0.5
        self.is_causal = False
        hidden, width = config.hidden_size, self.heads * self.head_size
        if self.heads:
            self.query, self.key, self.value = (
                linear(config, f"attention.{block}.{name}", hidden, width) for name in ("query", "key", "value")
            )
        self.output = linear(config, f"attention.{block}.output", width, hidden) if self.heads else OutputBias(hidden)
        self.attention_dropout = nn.Dropout(config.attention_probs_dropout_prob)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.LayerNorm = nn.LayerNorm(hidden, eps=config.layer_norm_eps)

    def forward(
        self, hidden: Tensor, attention_mask: Tensor | None, capture: dict[str, Tensor] | None = None
    ) -> Tensor:
        """Attend.

        Args:
            hidden: (batch, length, hidden_size).
            attention_mask: what transformers' mask functions give for the attention implementation; None without
                padding.
            capture: filled with `scores` (before mask and softmax) and `probabilities`, both (batch, heads, length,
                length), and `values` (batch, heads, length, head_size). Attention is then computed in plain matrix
                products, with an additive mask.

        Returns:
            (batch, length, hidden_size).
        """
        attended = self._attended(hidden, attention_mask, capture) if self.heads else hidden
        if capture is not None and not self.heads:
            batch, length, _ = hidden.shape
            empty = hidden.new_zeros(batch, 0, length, length)
            capture.update(scores=empty, probabilities=empty, values=hidden.new_zeros(batch, 0, length, self.head_size))
        return self.LayerNorm(self.dropout(self.output(attended)) + hidden)  # type: ignore[no-any-return]

    def _attended(self, hidden: Tensor, attention_mask: Tensor | None, capture: dict[str, Tensor] | None) -> Tensor:
        """The heads' outputs, side by side: (batch, length, heads * head_size)."""
        shape = (*hidden.shape[:2], self.heads, self.head_size)
        query, key, value = (
            projection(hidden).view(shape).transpose(1, 2) for projection in (self.query, self.key, self.value)
        )
        dropout = self.attention_dropout.p if self.training else 0.0
        if capture is None:
            attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
            output, _ = attend(self, query, key, value, attention_mask, dropout=dropout, scaling=self.scaling)
        else:
            output, capture["probabilities"], capture["scores"] = _attend(
                self, query, key, value, attention_mask, self.scaling, dropout
            )
            capture["values"] = value
        return output.reshape(*hidden.shape[:2], -1).contiguous()  # type: ignore[no-any-return]


class FeedForwardBlock(nn.Module):
    """Two linear maps around an activation, with residual connection and LayerNorm.

    Args:
        config: configuration of the encoder.
        block: number of the feed-forward block.
    """

    def __init__(self, config: BertpressConfig, block: int) -> None:
        super().__init__()
        self.width = config.intermediate_sizes[block]
        hidden, name = config.hidden_size, f"feed_forward.{block}"
        self.intermediate = linear(config, f"{name}.intermediate", hidden, self.width) if self.width else None
        self.output = linear(config, f"{name}.output", self.width, hidden) if self.width else OutputBias(hidden)
        self.activation = ACT2FN[config.hidden_act]
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.LayerNorm = nn.LayerNorm(hidden, eps=config.layer_norm_eps)

    def forward(self, hidden: Tensor) -> Tensor:
        """Apply the block to (batch, length, hidden_size)."""
        inner = hidden if self.intermediate is None else self.activation(self.intermediate(hidden))
        return self.LayerNorm(self.dropout(self.output(inner)) + hidden)  # type: ignore[no-any-return]


class Pooler(nn.Module):
    """A linear map and an activation on the first word piece's hidden state.

    Args:
        config: configuration of the encoder.
    """

    def __init__(self, config: BertpressConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = ACT2FN[config.pooler_activation]

    def forward(self, hidden: Tensor) -> Tensor:
        """(batch, length, hidden_size) -> (batch, hidden_size)."""
        return self.activation(self.dense(hidden[:, 0]))  # type: ignore[no-any-return]


class MaskedLanguageModelHead(nn.Module):
    """Scores of the vocabulary, with the word embeddings as output weights (Devlin et al. 2018, section 3.1).

    A factorised embedding V×E · E×H makes the output map H×E · E×V: the same two factors, transposed.

    Args:
        config: configuration of the encoder.
    """

    def __init__(self, config: BertpressConfig) -> None:
        super().__init__()
        width = config.embedding_size if config.embedding_projection == "all" else config.hidden_size
        self.dense = nn.Linear(config.hidden_size, width)
        self.activation = ACT2FN[config.hidden_act]
        self.LayerNorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.decoder = nn.Linear(config.embedding_size, config.vocab_size)

    def forward(self, hidden: Tensor, word_projection: nn.Linear | None) -> Tensor:
        """Score the vocabulary.

        Args:
            hidden: (..., hidden_size).
            word_projection: the embeddings' own projection E -> H, None when there is none.

        Returns:
            (..., vocab_size).
        """
        transformed = self.LayerNorm(self.activation(self.dense(hidden)))
        if word_projection is not None:
            transformed = torch.matmul(transformed, word_projection.weight)
        return self.decoder(transformed)  # type: ignore[no-any-return]
