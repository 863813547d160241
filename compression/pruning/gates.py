"""Gates on the outputs of heads and neurons, and the loss's gradient by them, example by example."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compression.architecture.conversion import shape_of_model
from compression.architecture.editing import base_of
from compression.pruning.evidence import Evidence
from compression.pruning.units import units_of
from compression.runtime import Runtime
from compression.training.gold import gold_loss
from compression.training.precision import training_attention
from compression.training.predict import batches_for, task_logits

if TYPE_CHECKING:
    from compression.architecture.encoder.modeling_bertpress import BertpressPreTrainedModel


@contextmanager
def gated(model: "BertpressPreTrainedModel", gates: Mapping[str, Tensor]) -> Iterator[None]:
    """Multiply the outputs of heads and neurons by gates, without changing the model.

    A head's output is what enters its part of the block's output map, a neuron's its activation; so a gate of 0 removes
    it. The gates of a shared block act in every layer that uses it.

    Args:
        model: encoder with or without a head.
        gates: block, as `attention.0` -> (batch, units) or (1, units).

    Example:
        >>> from compression.architecture.encoder.configuration_bertpress import BertpressConfig
        >>> from compression.architecture.encoder.modeling_bertpress import BertpressModel
        >>> config = BertpressConfig.regular(layers=1, hidden_size=8, heads=2, intermediate_size=4, vocab_size=9)
        >>> model, pieces = BertpressModel(config).eval(), torch.tensor([[1, 2]])
        >>> with gated(model, {"attention.0": torch.ones(1, 2)}):
        ...     same = model(pieces).last_hidden_state
        >>> torch.equal(same, model(pieces).last_hidden_state)
        True
    """
    base = base_of(model)
    handles = [
        base.get_submodule(f"{block}.output").register_forward_pre_hook(_by(gate)) for block, gate in gates.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _by(gate: Tensor) -> Any:
    def multiplied(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        (hidden,) = inputs
        by_unit = hidden.view(*hidden.shape[:2], gate.shape[1], -1)  # (batch, length, units, head_size or 1)
        return ((by_unit * gate[:, None, :, None]).view_as(hidden),)

    return multiplied


def gate_gradients(
    model: "BertpressPreTrainedModel", evidence: Evidence, kinds: Sequence[str]
) -> dict[str, NDArray[np.float32]]:
    """Gradient of each example's own loss by the gate of each head or neuron, at gates of 1 (Michel et al. 2019).

    Every example has gates of its own, so one backward pass of the summed loss gives all gradients of a batch apart.
    The model is in evaluation mode; its weights get no gradient.

    Args:
        model: model with a head for the task.
        evidence: rows with labels.
        kinds: `attention`, `feed_forward` or both.

    Returns:
        Block -> (rows, units) gradients.

    Raises:
        Interrupted: a stop was asked for.
    """
    shape, encoded, control = shape_of_model(model), evidence.encoded, evidence.control
    sizes = {block: size for kind in kinds for block, size in units_of(shape, kind).items()}
    gradients = {block: np.empty((len(encoded), size), np.float32) for block, size in sizes.items()}
    device = next(model.parameters()).device
    order, gold = evidence.order, torch.from_numpy(np.asarray(encoded.labels))
    runtime = Runtime(device=device.type)
    control.progress.start("importance", len(encoded), unit="row")
    for rows, batch in batches_for(model, encoded, pad_token_id=evidence.pad_token_id, control=control):
        gates = {block: torch.ones(len(rows), size, device=device, requires_grad=True) for block, size in sizes.items()}
        with torch.enable_grad(), training_attention(model, runtime), gated(model, gates):
            logits = task_logits(model, batch)
            ordered = logits if order is None else logits[:, torch.tensor(order, device=device)]
            loss = gold_loss(ordered, gold[rows].to(device), batch["attention_mask"]) * len(rows)
            found = torch.autograd.grad(loss, list(gates.values()))
        for block, gradient in zip(gates, found, strict=True):
            gradients[block][rows] = gradient.cpu().numpy()
        control.progress.advance(len(rows), tokens=int(encoded.lengths[rows].sum()))
    control.progress.finish()
    return gradients
