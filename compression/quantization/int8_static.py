"""Static int8: activations are coded by a scale and a zero point that were fixed beforehand, one pair a layer.

With `x = s_x (q - z)`, `q` in 0..255, and weights `w = s_n c`,

    y_n = s_x s_n (sum(q c_n) - z sum(c_n)) + b_n

is one product of integers, and nothing is measured while the model runs. What a range does not hold is clipped.
"""

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from compression.quantization import int8_arithmetic
from compression.quantization.int8_arithmetic import PackedWeight
from compression.quantization.int8_modules import Int8Linear

LEVELS = 255
"""Activation codes lie in 0..255."""


@dataclass(frozen=True)
class ActivationCode:
    """How a layer's input is coded: `x = scale * (q - zero_point)`.

    Attributes:
        scale: width of a step, above 0.
        zero_point: code of 0, in 0..255.
    """

    scale: float
    zero_point: int

    @classmethod
    def of_range(cls, low: float, high: float) -> Self:
        """The code whose 256 numbers span a range; 0 is always one of them.

        Args:
            low: smallest number, finite.
            high: largest number, finite.

        Returns:
            The code.

        Example:
            >>> ActivationCode.of_range(-50.0, 205.0)
            ActivationCode(scale=1.0, zero_point=50)
            >>> ActivationCode.of_range(0.0, 0.0)
            ActivationCode(scale=1.0, zero_point=0)
        """
        low, high = min(low, 0.0), max(high, 0.0)
        scale = (high - low) / LEVELS
        # Below fp32's normal numbers there is nothing to tell apart.
        if scale < torch.finfo(torch.float32).tiny:
            return cls(1.0, 0)
        return cls(scale, min(LEVELS, max(0, round(-low / scale))))

    @classmethod
    def symmetric(cls, limit: float) -> Self:
        """The code of Q8BERT: 127 steps to either side of 0.

        Args:
            limit: largest absolute value, finite.

        Returns:
            The code; the lowest of the 256 numbers lies one step beyond `-limit`.

        Example:
            >>> ActivationCode.symmetric(1.27)
            ActivationCode(scale=0.01, zero_point=128)
        """
        scale = limit / int8_arithmetic.WEIGHT_LIMIT
        return cls(scale if scale >= torch.finfo(torch.float32).tiny else 1.0, 128)


def code_activation(activation: Tensor, scale: float, zero_point: int, largest: int = LEVELS) -> Tensor:
    """Code an activation.

    Args:
        activation: fp32 (..., features).
        scale: width of a step.
        zero_point: code of 0.
        largest: largest code.

    Returns:
        Codes 0..largest as fp32.

    Example:
        >>> code_activation(torch.tensor([-9.0, 0.0, 0.26]), 0.1, 10).tolist()
        [0.0, 10.0, 13.0]
    """
    return activation.div(scale).round_().add_(zero_point).clamp_(0, largest)


class Int8StaticLinear(Int8Linear):
    """A linear layer with int8 weights, one scale an output channel, whose input is coded by a fixed scale.

    Inference only. Besides what `Int8Linear` has, buffers `activation_scale` fp32 and `activation_zero_point` int32.

    Example:
        >>> layer, activation = nn.Linear(8, 3), torch.rand(5, 8)
        >>> made = Int8StaticLinear.from_float(layer, ActivationCode.of_range(0, 1))
        >>> bool((made(activation) - layer(activation)).abs().max() < 0.1)
        True
    """

    activation_scale: Tensor
    activation_zero_point: Tensor

    def __init__(self, in_features: int, out_features: int, *, bias: bool = True) -> None:
        super().__init__(in_features, out_features, bias=bias)
        self.register_buffer("activation_scale", torch.ones(()))
        self.register_buffer("activation_zero_point", torch.zeros((), dtype=torch.int32))
        self._code: ActivationCode | None = None

    @classmethod
    def from_float(cls, layer: nn.Linear, code: ActivationCode | None = None, *, per_channel: bool = True) -> Self:
        """Quantize a layer.

        Args:
            layer: layer with finite weights.
            code: how its input is coded; None leaves step 1 and zero point 0.
            per_channel: a scale for each output channel, or one for all.

        Returns:
            The int8 layer on the same device.
        """
        made = super().from_float(layer, per_channel=per_channel)
        if code is not None:
            made.activation_scale.fill_(code.scale)
            made.activation_zero_point.fill_(code.zero_point)
        return made

    def forward(self, activation: Tensor) -> Tensor:
        """Apply the layer to floating point (..., in); returns (..., out) in the input's precision."""
        if self._code is None:  # kept as numbers: reading them from tensors would wait for the device
            self._code = ActivationCode(float(self.activation_scale), int(self.activation_zero_point))
        single = activation.float()
        bits = int8_arithmetic.kernel_bits() if activation.is_cpu else None
        if bits is None:
            result = _plain(single, self._code, self.weight, self.weight_scale, self.bias)
        else:
            self._packed = self._packed or PackedWeight.pack(self.weight, self.weight_scale, self.bias, bits)
            result = _packed(single, self._code, self._packed)
        return result.to(activation.dtype)

    def fault(self) -> str | None:
        """What is wrong with the stored numbers, if anything is."""
        scale, zero_point = self.activation_scale, self.activation_zero_point
        if not torch.isfinite(scale) or scale <= 0 or not 0 <= zero_point <= LEVELS:
            return "does not hold a scale above 0 and a zero point of 0 to 255 for its activations"
        return super().fault()

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_code": None}


def _plain(activation: Tensor, code: ActivationCode, weight: Tensor, scales: Tensor, bias: Tensor | None) -> Tensor:
    """The layer in plain torch: the definition of what the kernel computes."""
    centred = code_activation(activation, code.scale, code.zero_point) - code.zero_point
    # Integers below 2^24 are exact in fp32, and sums of some thousand such products are far below it in practice.
    result = functional.linear(centred, weight.float()) * (scales * code.scale)
    return result if bias is None else result + bias


def _packed(activation: Tensor, code: ActivationCode, packed: PackedWeight) -> Tensor:
    """The layer on integer arithmetic; with 7-bit codes steps are twice as wide."""
    wider = 2 ** (8 - packed.bits)
    scale, zero_point = code.scale * wider, code.zero_point // wider
    codes = code_activation(activation, scale, zero_point, LEVELS // wider).to(torch.uint8)
    return torch.ops.onednn.qlinear_pointwise.default(  # type: ignore[no-any-return]
        codes, scale, zero_point, packed.weight, packed.scales, packed.zero_points, packed.bias,
        1.0, 0, torch.float32, "none", [], "",
    )  # fmt: skip
