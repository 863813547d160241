"""Number formats that weights alone are stored in: integers with a scale a group of columns, and 8-bit floats.

A codec turns a matrix into codes and fp32 scales, and back. Arithmetic is that of the fp32 matrix that it gives back:
such a format makes files smaller, not products faster.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

_NIBBLE_ZERO = 8  # a nibble holds code + 8
_FLOAT8 = {"fp8-e4m3": torch.float8_e4m3fn, "fp8-e5m2": torch.float8_e5m2}


class WeightCodec(Protocol):
    """A number format for matrices."""

    def encode(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Codes and fp32 scales of a finite matrix (rows, columns)."""

    def decode(self, codes: Tensor, scales: Tensor, columns: int) -> Tensor:
        """The fp32 matrix (…, columns) that codes and scales of any of its rows stand for."""

    def empty(self, rows: int, columns: int) -> tuple[Tensor, Tensor]:
        """Codes and scales of a matrix of zeros, to load others into."""


@dataclass(frozen=True)
class GroupCodec:
    """Symmetric integers with one scale for each group of neighbouring columns of a row.

    With L = 2^(bits - 1) - 1, a group g has `s_g = max|w| / L` and codes `round(w / s_g)` in -L..L; the last group of a
    row may be smaller. Eight bits are stored as int8, four bits two codes a byte (`pack_int4`).

    Attributes:
        bits: 8 or 4.
        group_size: columns that share a scale.

    Example:
        >>> codec = GroupCodec(bits=4, group_size=2)
        >>> codes, scales = codec.encode(torch.tensor([[0.7, -0.1, 7.0]]))
        >>> codec.decode(codes, scales, 3)
        tensor([[ 0.7000, -0.1000,  7.0000]])
    """

    bits: int
    group_size: int

    def encode(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """See `WeightCodec`; the scale of a group of zeros is 0."""
        limit = 2 ** (self.bits - 1) - 1
        weight = weight.detach().float()
        columns = weight.shape[1]
        padded = torch.nn.functional.pad(weight, (0, -columns % self.group_size))
        groups = padded.view(len(padded), -1, self.group_size)
        scales = groups.abs().amax(dim=2) / limit
        # A group of zeros has no scale to divide by; a subnormal one could overflow the quotient.
        divisor = scales.clamp_min(torch.finfo(torch.float32).tiny).unsqueeze(2)
        codes = (groups / divisor).round().clamp(-limit, limit).to(torch.int8).flatten(1)[:, :columns].contiguous()
        return (pack_int4(codes) if self.bits == 4 else codes), scales

    def decode(self, codes: Tensor, scales: Tensor, columns: int) -> Tensor:
        """See `WeightCodec`."""
        numbers = unpack_int4(codes, columns) if self.bits == 4 else codes
        return numbers * scales.repeat_interleave(self.group_size, dim=-1)[..., :columns]

    def empty(self, rows: int, columns: int) -> tuple[Tensor, Tensor]:
        """See `WeightCodec`."""
        scales = torch.zeros(rows, -(-columns // self.group_size))
        if self.bits == 4:
            return torch.zeros(rows, -(-columns // 2), dtype=torch.uint8), scales
        return torch.zeros(rows, columns, dtype=torch.int8), scales


@dataclass(frozen=True)
class Float8Codec:
    """8-bit floats (Micikevicius et al. 2022, arXiv:2209.05433) with one scale a row.

    `s_n = max|w| / M`, where M is the format's largest number (448 of e4m3, 57344 of e5m2), so that a row uses the
    whole range; codes are `w / s_n` rounded to the nearest number of the format, ties to even.

    Attributes:
        dtype: torch.float8_e4m3fn or torch.float8_e5m2.

    Example:
        >>> codes, scales = Float8Codec(torch.float8_e4m3fn).encode(torch.tensor([[448.0, 17.0]]))
        >>> codes.float().tolist(), scales.tolist()
        ([[448.0, 16.0]], [1.0])
    """

    dtype: torch.dtype

    def encode(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """See `WeightCodec`; the scale of a row of zeros is 0."""
        weight = weight.detach().float()
        largest = torch.finfo(self.dtype).max
        scales = weight.abs().amax(dim=1) / largest
        divisor = scales.clamp_min(torch.finfo(torch.float32).tiny).unsqueeze(1)
        return (weight / divisor).clamp(-largest, largest).to(self.dtype), scales

    def decode(self, codes: Tensor, scales: Tensor, columns: int) -> Tensor:
        """See `WeightCodec`."""
        del columns
        return codes.float() * scales.unsqueeze(-1)

    def empty(self, rows: int, columns: int) -> tuple[Tensor, Tensor]:
        """See `WeightCodec`."""
        return torch.zeros(rows, columns).to(self.dtype), torch.zeros(rows)


def weight_codec(scheme: str, group_size: int) -> WeightCodec | None:
    """The codec of a scheme.

    Args:
        scheme: name of a scheme.
        group_size: columns that share a scale, where the scheme has groups.

    Returns:
        The codec; None for a scheme that stores more than weights, or fp32.

    Example:
        >>> weight_codec("int4-weight", 32)
        GroupCodec(bits=4, group_size=32)
    """
    if scheme in _FLOAT8:
        return Float8Codec(_FLOAT8[scheme])
    if scheme in ("int8-weight", "int4-weight"):
        return GroupCodec(bits=int(scheme[3]), group_size=group_size)
    return None


def pack_int4(codes: Tensor) -> Tensor:
    """Store codes two a byte: `code + 8` of even columns in the low nibble, of odd ones in the high nibble.

    Args:
        codes: int8 (rows, columns) in -8..7.

    Returns:
        uint8 (rows, ceil(columns / 2)); the last nibble of an odd row stands for 0.

    Example:
        >>> pack_int4(torch.tensor([[-7, 7, 0]], dtype=torch.int8)).tolist()
        [[241, 136]]
    """
    nibbles = torch.nn.functional.pad(codes, (0, codes.shape[1] % 2)) + _NIBBLE_ZERO
    return (nibbles[:, 0::2] | (nibbles[:, 1::2] << 4)).view(torch.uint8)


def unpack_int4(packed: Tensor, columns: int) -> Tensor:
    """The codes that `pack_int4` stored.

    Args:
        packed: uint8 (..., ceil(columns / 2)).
        columns: codes a row.

    Returns:
        int8 (..., columns).

    Example:
        >>> unpack_int4(torch.tensor([[241, 136]], dtype=torch.uint8), 3).tolist()
        [[-7, 7, 0]]
    """
    nibbles = torch.stack([packed & 15, packed >> 4], dim=-1).flatten(-2)[..., :columns]
    return nibbles.to(torch.int8) - _NIBBLE_ZERO
