"""Calibration: what the inputs of a model's linear layers are on rows of the training split."""

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from compression.control import Control
from compression.data.encoding import Encoded
from compression.data.sample import evenly_spaced
from compression.errors import UserError
from compression.quantization.config import CalibrationConfig
from compression.quantization.format import layers_of
from compression.quantization.int8_static import ActivationCode
from compression.quantization.observers import BINS, Observed, activation_code
from compression.training.predict import batches_for

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def calibrate(
    model: "PreTrainedModel",
    names: Collection[str],
    encoded: Encoded,
    config: CalibrationConfig,
    *,
    pad_token_id: int,
    control: Control,
) -> dict[str, ActivationCode]:
    """Choose how the inputs of linear layers are coded.

    The rows pass the model twice: for the range of each layer, then for its histogram. Padding is left out: its
    states mean nothing, and no output depends on them.

    Args:
        model: a floating-point model; left in evaluation mode.
        names: layers within the encoder.
        encoded: rows of the training split; an evenly spaced sample of them is taken.
        config: how many rows, and how a range is chosen.
        pad_token_id: token that fills short sequences.
        control: whether to stop.

    Returns:
        Name -> code.

    Raises:
        UserError: there are no rows, or an input is not finite.
        Interrupted: a stop was asked for.
    """
    if len(encoded) == 0:
        raise UserError("there are no training rows to calibrate on")
    chosen = evenly_spaced(len(encoded), config.rows)
    ends: dict[str, tuple[float, float]] = {}
    histograms = {name: torch.zeros(BINS, dtype=torch.float64) for name in names}

    def note_range(name: str, values: Tensor) -> None:
        if not torch.isfinite(values).all():
            raise UserError(f"inputs of {name} are not finite: the model has diverged in training")
        low, high = (float(end) for end in torch.aminmax(values))
        before = ends.get(name, (low, high))
        ends[name] = min(low, before[0]), max(high, before[1])

    def count(name: str, values: Tensor) -> None:
        low, high = ends[name]
        if high > low:
            histograms[name] += torch.histc(values, BINS, low, high).cpu().double()

    for note in (note_range, count):
        with _noting(model, names, note) as mask:
            for _, batch in batches_for(model, encoded, pad_token_id=pad_token_id, control=control, chosen=chosen):
                mask["mask"] = batch["attention_mask"].bool()
                model(**batch)
    return {
        name: activation_code(Observed(*ends[name], histograms[name].numpy()), config.observer, config.percentile)
        for name in names
        if name in ends
    }


@contextmanager
def _noting(
    model: "PreTrainedModel", names: Collection[str], note: Callable[[str, Tensor], None]
) -> Iterator[dict[str, Tensor]]:
    """Call `note` with each named layer's inputs at real word pieces, while the yielded `mask` says which are real."""
    mask: dict[str, Tensor] = {}
    layers = layers_of(model)

    def hook(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def before(_layer: nn.Module, inputs: tuple[Any, ...]) -> None:
            note(name, real_rows(inputs[0].detach().float(), mask["mask"]))

        return before

    with ExitStack() as stack, torch.inference_mode():
        for name in names:
            stack.callback(layers[name].register_forward_pre_hook(hook(name)).remove)
        yield mask


def real_rows(activation: Tensor, mask: Tensor) -> Tensor:
    """The rows of an activation that belong to real word pieces.

    Args:
        activation: (batch, length, features); or (batch, features) of one position a sequence, which is always real.
        mask: (batch, length), true on real word pieces.

    Returns:
        (rows, features).

    Example:
        >>> real_rows(torch.arange(4.0).view(1, 2, 2), torch.tensor([[True, False]]))
        tensor([[0., 1.]])
    """
    return activation[mask] if activation.dim() == mask.dim() + 1 else activation
