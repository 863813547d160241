"""Layers whose weights are stored in a smaller format and computed with in fp32."""

from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from compression.quantization.weight_codecs import WeightCodec


class _Coded(nn.Module):
    """What linear layers and tables have in common: a matrix as codes and scales."""

    weight: Tensor
    weight_scale: Tensor

    def __init__(self, rows: int, columns: int, codec: WeightCodec) -> None:
        super().__init__()
        self.rows, self.columns, self.codec = rows, columns, codec
        codes, scales = codec.empty(rows, columns)
        # No parameters: transformers takes the first one's number format for the whole model's, and cannot take fp8.
        self.register_buffer("weight", codes)
        self.register_buffer("weight_scale", scales)

    @property
    def uncounted_parameters(self) -> int:
        """Weights that no parameter holds; see `count_parameters`."""
        return self.rows * self.columns

    def fault(self) -> str | None:
        """What is wrong with the stored numbers, if anything is."""
        if (self.weight_scale < 0).any() or not torch.isfinite(self._decoded()).all():
            return "does not hold finite weights with finite scales"
        return None

    def extra_repr(self) -> str:
        """Shape and format, for `print(model)`."""
        return f"{self.rows}, {self.columns}, {self.codec}"

    def _encode(self, weight: Tensor) -> None:
        codes, scales = self.codec.encode(weight)
        self.weight.copy_(codes)
        self.weight_scale.copy_(scales)

    def _decoded(self) -> Tensor:
        return self.codec.decode(self.weight, self.weight_scale, self.columns)


class CodedLinear(_Coded):
    """A linear layer with stored codes for weights, decoded once, when it is first used.

    Inference only. Parameter: `bias` fp32 (out,) or None. Buffers: `weight`, the codes, and `weight_scale`, fp32.

    Args:
        in_features: width of the input.
        out_features: width of the output.
        codec: format of the weights.
        bias: whether there is a bias.
        fake_activations: round inputs to the same format as well, each token with a scale of its own.

    Example:
        >>> from compression.quantization.weight_codecs import GroupCodec
        >>> layer, activation = nn.Linear(8, 3), torch.randn(5, 8)
        >>> coded = CodedLinear.from_float(layer, GroupCodec(bits=8, group_size=4))
        >>> bool((coded(activation) - layer(activation)).abs().max() < 0.1)
        True
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        codec: WeightCodec,
        *,
        bias: bool = True,
        fake_activations: bool = False,
    ) -> None:
        super().__init__(out_features, in_features, codec)
        self.bias = nn.Parameter(torch.zeros(out_features), requires_grad=False) if bias else None
        self.fake_activations = fake_activations
        self._plain: Tensor | None = None
        self.register_load_state_dict_post_hook(_forget_plain)  # type: ignore[no-untyped-call]

    @classmethod
    def like(cls, layer: nn.Linear, codec: WeightCodec, *, fake_activations: bool = False) -> Self:
        """A layer of the same shape, to load weights into.

        Args:
            layer: the shape.
            codec: format of the weights.
            fake_activations: round inputs too.

        Returns:
            The layer, all zeros.
        """
        bias = layer.bias is not None
        return cls(layer.in_features, layer.out_features, codec, bias=bias, fake_activations=fake_activations)

    @classmethod
    def from_float(cls, layer: nn.Linear, codec: WeightCodec, *, fake_activations: bool = False) -> Self:
        """Quantize a layer.

        Args:
            layer: layer with finite weights.
            codec: format of the weights.
            fake_activations: round inputs too.

        Returns:
            The coded layer on the same device.
        """
        made = cls.like(layer, codec, fake_activations=fake_activations).to(layer.weight.device)
        made._encode(layer.weight)
        if made.bias is not None:
            made.bias.data.copy_(layer.bias.detach())
        return made

    def forward(self, activation: Tensor) -> Tensor:
        """Apply the layer to floating point (..., in); returns (..., out) in the input's precision."""
        if self._plain is None or self._plain.device != self.weight.device:
            self._plain = self._decoded()
        single = activation.float()
        if self.fake_activations:
            single = self.codec.decode(*self.codec.encode(single.flatten(0, -2)), self.columns).view_as(single)
        return functional.linear(single, self._plain, self.bias).to(activation.dtype)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_plain": None}


class CodedEmbedding(_Coded):
    """An embedding table of stored codes; rows are decoded as they are looked up.

    Inference only. Buffers: `weight`, the codes, and `weight_scale`, fp32.

    Example:
        >>> from compression.quantization.weight_codecs import GroupCodec
        >>> table, rows = nn.Embedding(10, 4), torch.tensor([[1, 7]])
        >>> coded = CodedEmbedding.from_float(table, GroupCodec(bits=4, group_size=4))
        >>> bool((coded(rows) - table(rows)).abs().max() < 0.4)
        True
    """

    @classmethod
    def like(cls, table: nn.Embedding, codec: WeightCodec) -> Self:
        """A table of the same shape, to load weights into.

        Args:
            table: the shape.
            codec: format of the weights.

        Returns:
            The table, all zeros.
        """
        return cls(table.num_embeddings, table.embedding_dim, codec)

    @classmethod
    def from_float(cls, table: nn.Embedding, codec: WeightCodec) -> Self:
        """Quantize a table.

        Args:
            table: table with finite weights.
            codec: format of the weights.

        Returns:
            The coded table on the same device.
        """
        made = cls.like(table, codec).to(table.weight.device)
        made._encode(table.weight)
        return made

    def forward(self, rows: Tensor) -> Tensor:
        """Look rows up by integer indices (...); returns fp32 (..., width)."""
        return self.codec.decode(_taken(self.weight, rows), self.weight_scale[rows], self.columns)


def _taken(codes: Tensor, rows: Tensor) -> Tensor:
    """Rows of a matrix; 8-bit floats, which torch cannot index on every device, are taken as bytes."""
    return codes.view(torch.uint8)[rows].view(codes.dtype)


def _forget_plain(layer: nn.Module, _report: Any) -> None:
    """New weights were loaded: the decoded ones are stale."""
    layer._plain = None  # type: ignore[assignment]
