"""Mixed precision: the layers whose rounding changes the outputs most get a finer format."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from compression.control import Control
from compression.data.encoding import Encoded
from compression.errors import UserError
from compression.quantization.config import MixedConfig
from compression.quantization.format import PLAIN, QuantizedFormat, coded_layer, exchanged, layers_of
from compression.quantization.int8_static import ActivationCode
from compression.training.predict import predict

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Scan:
    """What a sensitivity scan found.

    Attributes:
        sensitivity: layer -> divergence of the outputs when it alone is quantized, the most sensitive first.
        layers: layers that get the finer format, and which.
        divergence: that of the outputs with this mixture.
    """

    sensitivity: dict[str, float]
    layers: dict[str, str]
    divergence: float


def scan(
    model: "PreTrainedModel",
    described: QuantizedFormat,
    codes: Mapping[str, ActivationCode],
    encoded: Encoded,
    config: MixedConfig,
    *,
    pad_token_id: int,
    control: Control,
) -> Scan:
    """Find the fewest layers to spare, most sensitive first, that keep the outputs within a tolerance.

    Each layer is quantized alone, then the most sensitive ones are spared by bisection, with all others quantized.

    Args:
        model: a floating-point classifier; as before afterwards.
        described: the format without exceptions.
        codes: how the inputs of layers in int8-static are coded.
        encoded: rows of the selection split.
        config: tolerance and finer format.
        pad_token_id: token that fills short sequences.
        control: whether to stop.

    Returns:
        What was found.

    Raises:
        UserError: there are no rows, or even the finer format everywhere is beyond the tolerance.
        Interrupted: a stop was asked for.
    """
    if len(encoded) == 0:
        raise UserError("mixed precision is chosen on the selection split, which has no rows")
    layers = layers_of(model)
    schemes = {name: described.scheme_of(name, layer) for name, layer in layers.items()}
    schemes = {name: scheme for name, scheme in schemes.items() if scheme != PLAIN}

    def outputs() -> NDArray[np.float32]:
        return predict(model, encoded, pad_token_id=pad_token_id, control=control)

    reference = outputs()

    def cost(chosen: Mapping[str, str]) -> float:
        made = {name: coded_layer(layers[name], scheme, described, codes.get(name)) for name, scheme in chosen.items()}
        with exchanged(model, {layers[name]: new for name, new in made.items() if new is not None}):
            return divergence(reference, outputs())

    progress = control.progress
    progress.start("scanning layers", len(schemes), unit="layer")
    alone = {}
    for name, scheme in schemes.items():
        alone[name] = cost({name: scheme})
        progress.advance()
    progress.finish()
    order = sorted(alone, key=lambda name: -alone[name])
    fewest, enough, reached = 0, len(order) + 1, float("inf")
    while fewest < enough:
        spared = (fewest + min(enough, len(order))) // 2
        found = cost({**schemes, **dict.fromkeys(order[:spared], config.fallback)})
        if found <= config.tolerance:
            enough, reached = spared, found
        elif spared == len(order):
            raise UserError(
                f"tolerance is {config.tolerance:g} nats, but with {config.fallback} in every layer the outputs still "
                f"diverge by {found:.3g}: raise it, or take a finer fallback"
            )
        else:
            fewest = spared + 1
    return Scan({name: alone[name] for name in order}, dict.fromkeys(order[:enough], config.fallback), reached)


def divergence(reference: NDArray[np.float32], outputs: NDArray[np.float32]) -> float:
    """How far outputs are from those of the fp32 model.

    Args:
        reference: (rows, outputs) logits of the fp32 model.
        outputs: likewise, of the other.

    Returns:
        Mean KL divergence of the predicted distributions in nats; of a single output half the mean squared difference
        over the variance of the reference, which is the divergence of two normal distributions of that variance.

    Example:
        >>> divergence(np.array([[0.0, 0.0]], np.float32), np.array([[1.0, 1.0]], np.float32))
        0.0
    """
    before, after = reference.astype(np.float64), outputs.astype(np.float64)
    if reference.shape[1] == 1:
        return float(np.mean((after - before) ** 2) / (2 * max(before.var(), np.finfo(np.float64).tiny)))
    true, told = log_softmax(before, axis=1), log_softmax(after, axis=1)
    return float(np.mean(np.sum(np.exp(true) * (true - told), axis=1)))
