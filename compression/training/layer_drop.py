"""LayerDrop: whole layers are left out of training steps, so that some can be pruned afterwards without harm.

Fan et al. 2019, arXiv:1909.11556.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch import nn

from compression.architecture.conversion import to_bertpress
from compression.architecture.encoder.modeling_bertpress import BertpressModel
from compression.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def droppable(model: "PreTrainedModel", probability: float) -> "PreTrainedModel":
    """The model as one whose layers can be left out.

    Args:
        model: a BERT, DistilBERT, ALBERT or bertpress model.
        probability: probability of leaving a layer out; at 0 the model is returned as it is.

    Returns:
        The model, or the encoder of any shape with its weights, in evaluation mode.

    Raises:
        UserError: another architecture.
    """
    return model if probability == 0 else to_bertpress(model)


@contextmanager
def layer_drop(model: nn.Module, probability: float) -> Iterator[None]:
    """Leave each layer out of each training step with a probability; without effect on evaluation.

    The draws come from torch's generator, which the training loop seeds at every step. A step in which layers are
    captured, as distillation of hidden states does, keeps all layers.

    Args:
        model: model with an encoder of any shape in it (see `droppable`).
        probability: probability of leaving a layer out.

    Raises:
        UserError: the probability is not 0 and the model has no such encoder.

    Example:
        >>> from compression.architecture.encoder.configuration_bertpress import BertpressConfig
        >>> encoder = BertpressModel(BertpressConfig.regular(layers=1, hidden_size=8, heads=2, intermediate_size=4))
        >>> with layer_drop(encoder, 0.2):
        ...     encoder.layer_drop
        0.2
        >>> encoder.layer_drop
        0.0
    """
    encoders = [module for module in model.modules() if isinstance(module, BertpressModel)]
    if probability > 0 and not encoders:
        raise UserError(f"layer_drop {probability:g} needs an encoder of any shape, not a {type(model).__name__}")
    before = [encoder.layer_drop for encoder in encoders]
    for encoder in encoders:
        encoder.layer_drop = probability
    try:
        yield
    finally:
        for encoder, own in zip(encoders, before, strict=True):
            encoder.layer_drop = own
