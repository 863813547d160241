"""The encoder of any shape, with its task heads."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.masking_utils import create_bidirectional_mask
from transformers.utils import ModelOutput

from .blocks_bertpress import (
    AttentionBlock,
    Embeddings,
    FeedForwardBlock,
    MaskedLanguageModelHead,
    OutputBias,
    Pooler,
)
from .configuration_bertpress import BertpressConfig

Chosen = bool | Sequence[int] | None


@dataclass
class BertpressOutput(ModelOutput):  # type: ignore[misc]  # transformers comes without types
    """What a forward pass gives; absent parts are None.

    Attributes:
        loss: of the labels that were given.
        logits: of the model's head; of a question-answering model (batch, length, 2): start and end.
        last_hidden_state: (batch, length, hidden_size).
        pooler_output: (batch, hidden_size).
        sentence_logits: (batch, 2), of a masked-LM model with a sentence head.
        hidden_states: (batch, length, hidden_size) each: of the chosen layers, 0 being the embeddings.
        attentions: probabilities (batch, heads, length, length) each, of the chosen layers counted from 0.
        attention_scores: raw scores before mask and softmax, of the chosen layers.
        attention_values: (batch, heads, length, head_size) each, of the chosen layers.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    last_hidden_state: Tensor | None = None
    pooler_output: Tensor | None = None
    sentence_logits: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    attention_scores: tuple[Tensor, ...] | None = None
    attention_values: tuple[Tensor, ...] | None = None


class BertpressPreTrainedModel(PreTrainedModel):  # type: ignore[misc]
    """What all models of this family have in common."""

    config_class = BertpressConfig
    base_model_prefix = "encoder"
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    _no_split_modules = ("AttentionBlock", "FeedForwardBlock")

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, OutputBias):
            init.zeros_(module.bias)


class BertpressModel(BertpressPreTrainedModel):
    """The encoder without a head.

    Args:
        config: shape and behaviour.
        add_pooling_layer: whether there is a pooler.

    Attributes:
        layer_drop: probability of leaving a whole layer out of a training step (LayerDrop, Fan et al. 2019,
            arXiv:1909.11556); not saved, and without effect where layers are captured.

    Example:
        >>> shape = BertpressConfig.regular(layers=2, hidden_size=16, heads=2, intermediate_size=32, vocab_size=20)
        >>> output = BertpressModel(shape)(torch.tensor([[1, 2, 3]]), output_attention_scores=[1])
        >>> output.last_hidden_state.shape, len(output.attention_scores), output.attention_scores[0].shape
        (torch.Size([1, 3, 16]), 1, torch.Size([1, 2, 3, 3]))
    """

    def __init__(self, config: BertpressConfig, add_pooling_layer: bool = True) -> None:
        super().__init__(config)
        self.embeddings = Embeddings(config)
        self.attention = nn.ModuleList(AttentionBlock(config, block) for block in range(len(config.attention_heads)))
        self.feed_forward = nn.ModuleList(
            FeedForwardBlock(config, block) for block in range(len(config.intermediate_sizes))
        )
        self.pooler = Pooler(config) if add_pooling_layer else None
        self.layer_drop = 0.0
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The word embedding; see transformers."""
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replace the word embedding; see transformers."""
        self.embeddings.word_embeddings = value

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        output_hidden_states: Chosen = None,
        output_attentions: Chosen = None,
        output_attention_scores: Chosen = None,
        output_attention_values: Chosen = None,
        return_dict: bool | None = None,
    ) -> BertpressOutput | tuple[Any, ...]:
        """Encode word pieces.

        Args:
            input_ids: (batch, length) word pieces.
            attention_mask: (batch, length), 1 for real and 0 for padding; None when all are real.
            token_type_ids: (batch, length); None means type 0.
            position_ids: (batch, length) or (1, length); None counts from 0.
            output_hidden_states: True for all, or numbers, 0 being the embeddings and i the output of the i-th layer.
            output_attentions: True for all layers, or numbers of layers counted from 0; likewise the following.
            output_attention_scores: scores before mask and softmax.
            output_attention_values: value projections by head.
            return_dict: False for a tuple.

        Returns:
            What was asked for, in the order in which layers were named.
        """
        layers = self.config.num_hidden_layers
        wanted = {
            "probabilities": _chosen(output_attentions, layers, "output_attentions"),
            "scores": _chosen(output_attention_scores, layers, "output_attention_scores"),
            "values": _chosen(output_attention_values, layers, "output_attention_values"),
        }
        states = _chosen(output_hidden_states, layers + 1, "output_hidden_states")
        captured: dict[int, dict[str, Tensor]] = {layer: {} for numbers in wanted.values() for layer in numbers}
        hidden = self.embeddings(input_ids, token_type_ids, position_ids)
        mask = create_bidirectional_mask(config=self.config, inputs_embeds=hidden, attention_mask=attention_mask)
        plain_mask = _additive_mask(attention_mask, hidden.dtype) if captured else None
        passed = [hidden]
        may_drop = self.training and self.layer_drop > 0 and not captured and not states
        for layer, (attention, feed_forward) in enumerate(
            zip(self.config.attention_blocks, self.config.feed_forward_blocks, strict=True)
        ):
            if may_drop and float(torch.rand(())) < self.layer_drop:
                continue
            capture = captured.get(layer)
            hidden = self.attention[attention](hidden, mask if capture is None else plain_mask, capture)
            hidden = self.feed_forward[feed_forward](hidden)
            passed.append(hidden)
        taken = {
            name: tuple(captured[layer][name] for layer in numbers) if numbers else None
            for name, numbers in wanted.items()
        }
        output = BertpressOutput(
            last_hidden_state=hidden,
            pooler_output=None if self.pooler is None else self.pooler(hidden),
            hidden_states=tuple(passed[number] for number in states) if states else None,
            attentions=taken["probabilities"],
            attention_scores=taken["scores"],
            attention_values=taken["values"],
        )
        return output.to_tuple() if return_dict is False else output


def _chosen(asked: Chosen, count: int, argument: str) -> tuple[int, ...]:
    if asked is None or isinstance(asked, bool):
        return tuple(range(count)) if asked else ()
    wrong = [number for number in asked if not 0 <= number < count]
    if wrong:
        raise ValueError(f"{argument} names {wrong[0]}; allowed: 0 to {count - 1}")
    return tuple(asked)


def _additive_mask(attention_mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """(batch, 1, 1, length): 0 for real word pieces, the type's most negative number for padding."""
    if attention_mask is None:
        return None
    padding = 1.0 - attention_mask[:, None, None, :].to(dtype)
    return padding * torch.finfo(dtype).min


class _WithHead(BertpressPreTrainedModel):
    """An encoder with a head on top; `_output` passes on what the encoder captured."""

    def _finished(
        self, encoded: BertpressOutput, loss: Tensor | None, logits: Tensor, return_dict: bool | None, **more: Any
    ) -> BertpressOutput | tuple[Any, ...]:
        kept = {name: encoded[name] for name in ("hidden_states", "attentions", "attention_scores", "attention_values")
                if name in encoded}  # fmt: skip
        output = BertpressOutput(loss=loss, logits=logits, **more, **kept)
        return output.to_tuple() if return_dict is False else output


class BertpressForMaskedLM(_WithHead):
    """The encoder with a masked-LM head and, if `config.sentence_head`, a classifier of sentence pairs.

    Args:
        config: shape and behaviour.
    """

    _tied_weights_keys = {"head.decoder.weight": "encoder.embeddings.word_embeddings.weight"}  # noqa: RUF012

    def __init__(self, config: BertpressConfig) -> None:
        super().__init__(config)
        self.encoder = BertpressModel(config, add_pooling_layer=config.sentence_head)
        self.head = MaskedLanguageModelHead(config)
        self.sentence_classifier = nn.Linear(config.hidden_size, 2) if config.sentence_head else None
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        """The output map; see transformers."""
        return self.head.decoder

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        """Replace the output map; see transformers."""
        self.head.decoder = new_embeddings

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        labels: Tensor | None = None,
        sentence_labels: Tensor | None = None,
        predict_positions: Tensor | None = None,
        output_hidden_states: Chosen = None,
        output_attentions: Chosen = None,
        output_attention_scores: Chosen = None,
        output_attention_values: Chosen = None,
        return_dict: bool | None = None,
    ) -> BertpressOutput | tuple[Any, ...]:
        """Score the vocabulary at every position, or at chosen ones.

        Args:
            input_ids: see `BertpressModel.forward`, as for all arguments not named here.
            attention_mask: see there.
            token_type_ids: see there.
            position_ids: see there.
            labels: word pieces to predict, -100 elsewhere; of the shape of the logits without the vocabulary.
            sentence_labels: (batch,) classes of the sentence head.
            predict_positions: (n,) indices into the batch × length positions; the head, which costs more than a small
                encoder, is then computed there alone.
            output_hidden_states: see there.
            output_attentions: see there.
            output_attention_scores: see there.
            output_attention_values: see there.
            return_dict: see there.

        Returns:
            Logits (batch, length, vocab_size), or (n, vocab_size) at chosen positions.
        """
        encoded = self.encoder(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            output_hidden_states,
            output_attentions,
            output_attention_scores,
            output_attention_values,
        )
        hidden = encoded.last_hidden_state
        if predict_positions is not None:
            hidden = hidden.flatten(0, 1)[predict_positions]
        logits = self.head(hidden, self.encoder.embeddings.word_projection)
        loss, sentence_logits = None, None
        if labels is not None:
            loss = nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten(), ignore_index=-100)
        if self.sentence_classifier is not None:
            sentence_logits = self.sentence_classifier(encoded.pooler_output)
            if sentence_labels is not None:
                order = nn.functional.cross_entropy(sentence_logits, sentence_labels)
                loss = order if loss is None else loss + order
        return self._finished(encoded, loss, logits, return_dict, sentence_logits=sentence_logits)


class BertpressForSequenceClassification(_WithHead):
    """The encoder with a classifier, or a regressor, on the pooled first word piece.

    Args:
        config: shape and behaviour; `num_labels` and `problem_type` describe the head.
    """

    def __init__(self, config: BertpressConfig) -> None:
        super().__init__(config)
        self.encoder = BertpressModel(config)
        self.dropout = _head_dropout(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: Chosen = None,
        output_attentions: Chosen = None,
        output_attention_scores: Chosen = None,
        output_attention_values: Chosen = None,
        return_dict: bool | None = None,
    ) -> BertpressOutput | tuple[Any, ...]:
        """Classify sequences.

        Args:
            input_ids: see `BertpressModel.forward`, as for all arguments not named here.
            attention_mask: see there.
            token_type_ids: see there.
            position_ids: see there.
            labels: (batch,) classes, (batch,) numbers for regression, or (batch, labels) of 0 and 1 for several labels.
            output_hidden_states: see there.
            output_attentions: see there.
            output_attention_scores: see there.
            output_attention_values: see there.
            return_dict: see there.

        Returns:
            Logits (batch, labels).
        """
        encoded = self.encoder(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            output_hidden_states,
            output_attentions,
            output_attention_scores,
            output_attention_values,
        )
        logits = self.classifier(self.dropout(encoded.pooler_output))
        loss = None if labels is None else _classification_loss(logits, labels, self.config.problem_type)
        return self._finished(encoded, loss, logits, return_dict)


class BertpressForQuestionAnswering(_WithHead):
    """The encoder with start and end scores of an answer's span.

    Args:
        config: shape and behaviour.
    """

    def __init__(self, config: BertpressConfig) -> None:
        super().__init__(config)
        self.encoder = BertpressModel(config, add_pooling_layer=False)
        self.dropout = _head_dropout(config)
        self.qa_outputs = nn.Linear(config.hidden_size, 2)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        output_hidden_states: Chosen = None,
        output_attentions: Chosen = None,
        output_attention_scores: Chosen = None,
        output_attention_values: Chosen = None,
        return_dict: bool | None = None,
    ) -> BertpressOutput | tuple[Any, ...]:
        """Score every word piece as the start and as the end of the answer.

        Args:
            input_ids: see `BertpressModel.forward`, as for all arguments not named here.
            attention_mask: see there.
            token_type_ids: see there.
            position_ids: see there.
            start_positions: (batch,) first word piece of the answer; one past the end is ignored.
            end_positions: (batch,) last word piece of the answer; likewise.
            output_hidden_states: see there.
            output_attentions: see there.
            output_attention_scores: see there.
            output_attention_values: see there.
            return_dict: see there.

        Returns:
            Logits (batch, length, 2); the loss is the mean of both cross-entropies.
        """
        encoded = self.encoder(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            output_hidden_states,
            output_attentions,
            output_attention_scores,
            output_attention_values,
        )
        logits = self.qa_outputs(self.dropout(encoded.last_hidden_state))
        loss = None
        if start_positions is not None and end_positions is not None:
            length = logits.shape[1]
            gold = torch.stack([start_positions, end_positions], dim=1).clamp(0, length)
            loss = nn.functional.cross_entropy(logits, gold, ignore_index=length)
        return self._finished(encoded, loss, logits, return_dict)


def _head_dropout(config: BertpressConfig) -> nn.Dropout:
    own = config.classifier_dropout
    return nn.Dropout(config.hidden_dropout_prob if own is None else own)


def _classification_loss(logits: Tensor, labels: Tensor, problem: str | None) -> Tensor:
    if problem == "regression":
        return nn.functional.mse_loss(logits.squeeze(-1), labels.to(logits.dtype))
    if problem == "multi_label_classification":
        return nn.functional.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
    return nn.functional.cross_entropy(logits, labels)


__all__ = [
    "BertpressForMaskedLM",
    "BertpressForQuestionAnswering",
    "BertpressForSequenceClassification",
    "BertpressModel",
]
