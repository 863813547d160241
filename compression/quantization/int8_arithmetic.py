"""Arithmetic of the int8-dynamic scheme: 8-bit codes, and the matrix product on them.

A weight row n (an output channel) is stored as codes `c` in -127..127 with one scale: `w = s_n c`. A token's activation
row is coded as it comes with its own scale and minimum: `x = s_x q + m`, `q` in 0..255. Then

    y_n = s_x s_n (q . c_n) + m s_n sum(c_n) + b_n

whose only matrix product, `q . c_n`, is one of small integers, summed exactly in int32. Scales a token, rather than one
for the whole batch, keep a few large activations from coarsening all others, and make a row's result independent of the
rows and of the padding that share its batch.
"""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

WEIGHT_LIMIT = 127
"""Weight codes lie in -127..127: symmetric, so that no zero point is needed."""

# What FBGEMM adds to a row's range before it divides by it; the plain path repeats it to make the same codes.
_RANGE_OFFSET = 1e-8
# FBGEMM appends the scale and the minimum, two fp32 numbers, to each row of codes.
_APPENDED_BYTES = 8


def quantize_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round each row to symmetric int8 with a scale of its own.

    Args:
        weight: (rows, columns), finite.

    Returns:
        int8 codes (rows, columns) in -127..127 and fp32 scales (rows,), such that `codes * scale` is nearest to the
        weight; the scale of a row of zeros is 0.

    Example:
        >>> codes, scales = quantize_rows(torch.tensor([[0.5, -1.27], [0.0, 0.0]]))
        >>> codes.tolist()
        [[50, -127], [0, 0]]
    """
    weight = weight.detach().float()
    scales = weight.abs().amax(dim=1) / WEIGHT_LIMIT
    # A row of zeros has no scale to divide by; a subnormal one could overflow the quotient.
    divisor = scales.clamp_min(torch.finfo(torch.float32).tiny)
    codes = (weight / divisor[:, None]).round().clamp(-WEIGHT_LIMIT, WEIGHT_LIMIT)
    return codes.to(torch.int8), scales


def quantize_matrix(weight: Tensor, *, per_channel: bool) -> tuple[Tensor, Tensor]:
    """Round a matrix to symmetric int8.

    Args:
        weight: (rows, columns), finite.
        per_channel: a scale for each row, or one for all.

    Returns:
        int8 codes (rows, columns) and fp32 scales (rows,), all alike with one scale for all.

    Example:
        >>> codes, scales = quantize_matrix(torch.tensor([[1.27], [0.01]]), per_channel=False)
        >>> codes.tolist(), len(set(scales.tolist()))
        ([[127], [1]], 1)
    """
    if per_channel:
        return quantize_rows(weight)
    codes, scale = quantize_rows(weight.reshape(1, -1))
    return codes.view_as(weight), scale.expand(len(weight)).clone()


def quantize_activation(activation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Code each token by its own range, in plain torch.

    Args:
        activation: fp32 (..., features).

    Returns:
        Codes 0..255 as fp32 (..., features), scale and minimum (..., 1), such that `scale * codes + minimum` is
        near the activation.

    Example:
        >>> codes, scale, minimum = quantize_activation(torch.tensor([[-1.0, 0.0, 1.0]]))
        >>> codes.tolist(), round(scale.item(), 6), minimum.item()
        ([[0.0, 128.0, 255.0]], 0.007843, -1.0)
    """
    minimum, maximum = torch.aminmax(activation, dim=-1, keepdim=True)
    extent = maximum - minimum
    codes = ((activation - minimum) * (255.0 / (extent + _RANGE_OFFSET))).round()
    return codes, extent / 255.0, minimum


def linear(activation: Tensor, codes: Tensor, scales: Tensor, bias: Tensor | None) -> Tensor:
    """The layer in plain torch, for devices without an integer kernel and as the definition of what kernels compute.

    Args:
        activation: fp32 (..., in).
        codes: int8 (out, in).
        scales: fp32 (out,).
        bias: fp32 (out,).

    Returns:
        fp32 (..., out).
    """
    rows, scale, minimum = quantize_activation(activation)
    weight = codes.float()
    # Integers below 2^24 are exact in fp32, and sums of some thousand such products are far below it in practice.
    product = functional.linear(rows, weight) * scales
    result = product * scale + minimum * (weight.sum(dim=1) * scales)
    return result if bias is None else result + bias


@cache
def kernel_bits() -> int | None:
    """Width of activation codes that this machine's integer kernel multiplies without error.

    x86 without VNNI multiplies bytes in pairs into int16, which overflows at 255 * 127 * 2 and saturates silently; with
    7-bit activation codes it cannot. Other processors, and builds without oneDNN, take the plain path.

    Returns:
        8, 7, or None without a kernel.

    Example:
        >>> kernel_bits() in (7, 8, None)
        True
    """
    features = torch.cpu.get_capabilities()
    if "onednn" not in torch.backends.quantized.supported_engines or not features.get("avx2", False):
        return None
    return 8 if features.get("avx512_vnni", False) or features.get("avx_vnni", False) else 7


def kernel_name(device: str = "cpu") -> str:
    """What multiplies int8 codes on a device, for the record of a measurement.

    Args:
        device: torch device type.

    Returns:
        `onednn-u8s8`, `onednn-u7s8` (7-bit activation codes) or `torch-fp32` (the plain path).

    Example:
        >>> kernel_name("cuda")
        'torch-fp32'
    """
    bits = kernel_bits() if device == "cpu" else None
    return "torch-fp32" if bits is None else f"onednn-u{bits}s8"


@dataclass(frozen=True)
class PackedWeight:
    """A weight in the kernel's own layout; a second copy, one byte a weight.

    Attributes:
        weight: codes as oneDNN stores them, opaque.
        scales: fp32 (out,).
        zero_points: zeros (out,), which the operator asks for.
        row_sums: fp32 (out,), `scale * sum(codes)`.
        bias: fp32 (out,), zeros without one.
        bits: width of activation codes.
    """

    weight: Tensor
    scales: Tensor
    zero_points: Tensor
    row_sums: Tensor
    bias: Tensor
    bits: int

    @classmethod
    def pack(cls, codes: Tensor, scales: Tensor, bias: Tensor | None, bits: int) -> "PackedWeight":
        """Lay a weight out for the kernel.

        Args:
            codes: int8 (out, in) on the CPU.
            scales: fp32 (out,).
            bias: fp32 (out,).
            bits: 8, or 7 where 8 would saturate.

        Returns:
            The packed weight.
        """
        return cls(
            weight=torch.ops.onednn.qlinear_prepack(codes, None),
            scales=scales,
            zero_points=torch.zeros(len(codes), dtype=torch.int64),
            row_sums=codes.sum(dim=1).float() * scales,
            bias=torch.zeros_like(scales) if bias is None else bias,
            bits=bits,
        )

    def linear(self, activation: Tensor) -> Tensor:
        """The layer on integer arithmetic.

        Args:
            activation: fp32 (..., in) on the CPU.

        Returns:
            fp32 (..., out).
        """
        features = activation.shape[-1]
        # Meant for embedding tables, this operator codes rows in one pass, where single tensor operations take five.
        rows = torch.ops.quantized.embedding_bag_byte_prepack.default(activation)
        codes = rows.narrow(-1, 0, features)
        appended = rows
        if features % 4:
            # A view as fp32 must start at a multiple of 4 bytes; a copy does.
            appended = rows.narrow(-1, features, _APPENDED_BYTES).clone(memory_format=torch.contiguous_format)
        appended = appended.view(torch.float32)
        scale, minimum = appended.narrow(-1, -2, 1), appended.narrow(-1, -1, 1)
        if self.bits == 7:
            # Halving rounds down, by half an old step on average, which the minimum gives back.
            codes, scale, minimum = codes.bitwise_right_shift(1), scale * 2, torch.add(minimum, scale, alpha=0.5)
        product = torch.ops.onednn.qlinear_pointwise.default(
            codes, 1.0, 0, self.weight, self.scales, self.zero_points, None, 1.0, 0, torch.float32, "none", [], ""
        )
        return torch.addcmul(self.bias, product, scale).addcmul_(self.row_sums, minimum)
