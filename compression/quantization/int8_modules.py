"""Layers whose weights are int8."""

from typing import Any, Self

import torch
from torch import Tensor, nn

from compression.quantization import int8_arithmetic
from compression.quantization.int8_arithmetic import PackedWeight


class Int8Linear(nn.Module):
    """A linear layer with int8 weights, one scale an output channel, that codes its input as it comes.

    Inference only. Parameters: `weight` int8 (out, in), `bias` fp32 (out,) or None. Buffer: `weight_scale` fp32 (out,).

    Example:
        >>> layer = nn.Linear(8, 3)
        >>> activation = torch.randn(5, 8)
        >>> bool((Int8Linear.from_float(layer)(activation) - layer(activation)).abs().max() < 0.1)
        True
    """

    weight: Tensor
    weight_scale: Tensor

    def __init__(self, in_features: int, out_features: int, *, bias: bool = True) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.weight = nn.Parameter(torch.zeros(out_features, in_features, dtype=torch.int8), requires_grad=False)
        self.register_buffer("weight_scale", torch.zeros(out_features))
        self.bias = nn.Parameter(torch.zeros(out_features), requires_grad=False) if bias else None
        self._packed: PackedWeight | None = None
        self.register_load_state_dict_post_hook(_forget_packed)  # type: ignore[no-untyped-call]

    @classmethod
    def like(cls, layer: nn.Linear) -> Self:
        """A layer of the same shape, to load weights into.

        Args:
            layer: the shape.

        Returns:
            The layer, all zeros.
        """
        return cls(layer.in_features, layer.out_features, bias=layer.bias is not None)

    @classmethod
    def from_float(cls, layer: nn.Linear, *, per_channel: bool = True) -> Self:
        """Quantize a layer.

        Args:
            layer: layer with finite weights.
            per_channel: a scale for each output channel, or one for all.

        Returns:
            The int8 layer on the same device.
        """
        made = cls.like(layer).to(layer.weight.device)
        codes, scales = int8_arithmetic.quantize_matrix(layer.weight, per_channel=per_channel)
        made.weight.copy_(codes)
        made.weight_scale.copy_(scales)
        if made.bias is not None:
            made.bias.data.copy_(layer.bias.detach())
        return made

    def forward(self, activation: Tensor) -> Tensor:
        """Apply the layer.

        Args:
            activation: floating point (..., in).

        Returns:
            (..., out) in the input's precision.
        """
        # Small layers take some 50 us, of which every needless call here would be a few per cent.
        if self._packed is not None and activation.is_cpu and activation.dtype is torch.float32:
            return self._packed.linear(activation)
        single = activation.float()
        bits = int8_arithmetic.kernel_bits() if activation.is_cpu else None
        if bits is None:
            result = int8_arithmetic.linear(single, self.weight, self.weight_scale, self.bias)
        else:
            self._packed = self._packed or PackedWeight.pack(self.weight, self.weight_scale, self.bias, bits)
            result = self._packed.linear(single)
        return result.to(activation.dtype)

    def fault(self) -> str | None:
        """What is wrong with the stored numbers, if anything is."""
        return scale_fault(self.weight_scale)

    def extra_repr(self) -> str:
        """Shape, for `print(model)`."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"

    def __getstate__(self) -> dict[str, Any]:
        # oneDNN's opaque tensors can neither be copied nor stored; a copy packs its own.
        return {**self.__dict__, "_packed": None}


class Int8Embedding(nn.Module):
    """An embedding table of int8 rows, one scale a row.

    Inference only. Parameter: `weight` int8 (rows, width). Buffer: `weight_scale` fp32 (rows,).

    Example:
        >>> table = nn.Embedding(10, 4)
        >>> rows = torch.tensor([[1, 7]])
        >>> bool((Int8Embedding.from_float(table)(rows) - table(rows)).abs().max() < 0.02)
        True
    """

    weight: Tensor
    weight_scale: Tensor

    def __init__(self, num_embeddings: int, embedding_dim: int) -> None:
        super().__init__()
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.weight = nn.Parameter(torch.zeros(num_embeddings, embedding_dim, dtype=torch.int8), requires_grad=False)
        self.register_buffer("weight_scale", torch.zeros(num_embeddings))

    @classmethod
    def like(cls, table: nn.Embedding) -> Self:
        """A table of the same shape, to load weights into.

        Args:
            table: the shape.

        Returns:
            The table, all zeros.
        """
        return cls(table.num_embeddings, table.embedding_dim)

    @classmethod
    def from_float(cls, table: nn.Embedding, *, per_channel: bool = True) -> Self:
        """Quantize a table.

        Args:
            table: table with finite weights.
            per_channel: a scale for each row, or one for all.

        Returns:
            The int8 table on the same device.
        """
        made = cls.like(table).to(table.weight.device)
        codes, scales = int8_arithmetic.quantize_matrix(table.weight, per_channel=per_channel)
        made.weight.copy_(codes)
        made.weight_scale.copy_(scales)
        return made

    def forward(self, rows: Tensor) -> Tensor:
        """Look rows up.

        Args:
            rows: integer indices (...).

        Returns:
            fp32 (..., width).
        """
        return self.weight[rows] * self.weight_scale[rows].unsqueeze(-1)

    def fault(self) -> str | None:
        """What is wrong with the stored numbers, if anything is."""
        return scale_fault(self.weight_scale)

    def extra_repr(self) -> str:
        """Shape, for `print(model)`."""
        return f"{self.num_embeddings}, {self.embedding_dim}"


def scale_fault(scale: Tensor) -> str | None:
    """What is wrong with the scales of a weight, if anything is.

    Args:
        scale: fp32 scales.

    Returns:
        The fault in words, or None.

    Example:
        >>> scale_fault(torch.tensor([0.5, -1.0]))
        'does not hold finite scales'
    """
    return None if torch.isfinite(scale).all() and (scale >= 0).all() else "does not hold finite scales"


def _forget_packed(layer: nn.Module, _report: Any) -> None:
    """New weights were loaded: the packed ones are stale."""
    layer._packed = None  # type: ignore[assignment]
    if hasattr(layer, "_code"):
        layer._code = None  # type: ignore[assignment]
