"""Hidden states, raw attention scores and values of exactly the layers that are compared."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from compression.architecture.conversion import to_bertpress
from compression.distillation.comparison import Wanted
from compression.training.predict import model_inputs

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from compression.architecture.encoder.modeling_bertpress import BertpressPreTrainedModel


@dataclass(frozen=True)
class Captured:
    """What was captured, in the order of `Wanted`; as long as what was asked for.

    Attributes:
        hidden_states: [b, l, d] each.
        first_states: [b, d] each.
        scores: [b, h, l, l] each, query by key, before mask and softmax.
        values: [b, h, l, d / h] each.
        logits: the head's output.
    """

    hidden_states: tuple[Tensor, ...] = ()
    first_states: tuple[Tensor, ...] = ()
    scores: tuple[Tensor, ...] = ()
    values: tuple[Tensor, ...] = ()
    logits: Tensor | None = None


def capture(model: Any, batch: dict[str, Tensor], wanted: Wanted, predict_positions: Tensor | None = None) -> Captured:
    """Run a model once and take what is wanted of it.

    Args:
        model: an encoder of any shape, with or without a head, also when wrapped for training. Its mode and whether
            gradients are kept are the caller's.
        batch: word pieces, attention mask and, if there are any, token types; whatever else it holds is left out.
        wanted: what to take.
        predict_positions: (n,) positions among all b × l at which alone a masked-LM head is computed; None for models
            with another head, or with a masked-LM head at every position.

    Returns:
        The tensors, those of each kind as many as were asked for.

    Raises:
        RuntimeError: the model gave another number of tensors than were asked for. Losses pair them one by one, and
            would count missing ones as nothing.

    Example:
        >>> from compression.architecture.encoder.configuration_bertpress import BertpressConfig
        >>> from compression.architecture.encoder.modeling_bertpress import BertpressModel
        >>> shape = BertpressConfig.regular(layers=2, hidden_size=8, heads=2, intermediate_size=8, vocab_size=9)
        >>> batch = {"input_ids": torch.tensor([[1, 2, 3]])}
        >>> taken = capture(BertpressModel(shape), batch, Wanted((0, 2), scores=(1,)))
        >>> [tuple(state.shape) for state in taken.hidden_states], taken.scores[0].shape
        ([(1, 3, 8), (1, 3, 8)], torch.Size([1, 2, 3, 3]))
    """
    positions = {} if predict_positions is None else {"predict_positions": predict_positions}
    output = model(
        **model_inputs(model, batch),
        **positions,
        output_hidden_states=[*wanted.hidden_states, *wanted.first_states],
        output_attention_scores=list(wanted.scores),
        output_attention_values=list(wanted.values),
    )
    states = output.hidden_states or ()
    split = len(wanted.hidden_states)
    taken = Captured(
        hidden_states=tuple(states[:split]),
        first_states=tuple(state[:, 0] for state in states[split:]),
        scores=tuple(output.attention_scores or ()),
        values=tuple(output.attention_values or ()),
        logits=output.get("logits"),
    )
    for kind in ("hidden_states", "first_states", "scores", "values"):
        _check_count(kind, getattr(wanted, kind), getattr(taken, kind))
    return taken


def frozen_teacher(teacher: "PreTrainedModel", dtype: torch.dtype, device: str) -> "BertpressPreTrainedModel":
    """A copy of a teacher to capture from: an encoder of any shape, in evaluation mode, without gradients.

    Args:
        teacher: BERT, DistilBERT, ALBERT or bertpress model in any mode; left as it is.
        dtype: what its weights are converted to, which is twice as fast as autocast.
        device: where to put it.

    Returns:
        The copy.

    Raises:
        UserError: another architecture.
    """
    ours = to_bertpress(teacher)
    made = copy.deepcopy(ours) if ours is teacher else ours
    made.to(device=device, dtype=dtype).eval().requires_grad_(False)
    return made


def _check_count(kind: str, asked: Sequence[int], given: Sequence[Tensor]) -> None:
    if len(given) != len(asked):
        raise RuntimeError(f"the model gave {len(given)} {kind} where {len(asked)} were asked for: {list(asked)}")
