"""Fake quantisation: int8 rounding in floating point, which gradients pass straight through.

Symmetric and linear, as in Q8BERT (Zafrir et al. 2019, arXiv:1910.06188): with a threshold T, `s = T / 127` and
`x -> s clamp(round(x / s), -127, 127)`; activations have one code more, -128. The gradient is passed on unchanged, that
of clipped numbers too (Bengio et al. 2013, arXiv:1308.3432).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from compression.quantization.int8_arithmetic import WEIGHT_LIMIT


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(values: Tensor, threshold: Tensor, lowest: int) -> Tensor:
        scale = threshold / WEIGHT_LIMIT
        divisor = scale.clamp_min(torch.finfo(torch.float32).tiny)
        return (values / divisor).round_().clamp_(lowest, WEIGHT_LIMIT).mul_(scale)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing is kept for the backward pass."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient, None, None


def fake_quantize(values: Tensor, threshold: Tensor, lowest: int = -WEIGHT_LIMIT) -> Tensor:
    """Round to int8 and back.

    Args:
        values: numbers of any shape.
        threshold: largest absolute value that is not clipped; a scalar, or one a row as (rows, 1).
        lowest: lowest code.

    Returns:
        fp32 of the same shape. Its gradient with respect to `values` is 1.

    Example:
        >>> values = torch.tensor([0.3, -9.0], requires_grad=True)
        >>> rounded = fake_quantize(values, torch.tensor(127.0))
        >>> rounded.tolist()
        [0.0, -9.0]
        >>> rounded.sum().backward()
        >>> values.grad.tolist()
        [1.0, 1.0]
    """
    return _StraightThrough.apply(values.float(), threshold, lowest)  # type: ignore[no-any-return, no-untyped-call]


class RealPieces:
    """Which word pieces of the present batch are real, for layers that should not look at padding."""

    def __init__(self) -> None:
        self.mask: Tensor | None = None

    def of(self, activation: Tensor) -> Tensor:
        """The rows of (batch, length, features) at real word pieces, or the activation as it is without a mask."""
        if self.mask is None or activation.dim() != self.mask.dim() + 1:
            return activation
        return activation[self.mask]


class FakeInt8Linear(nn.Linear):
    """A linear layer that is trained with its weight and its input rounded to int8.

    The threshold of the input is the moving average of the largest absolute input of each batch, that of the first
    batch to begin with; it stands still in evaluation mode. That of the weight is the largest of the moment.

    Args:
        layer: the layer; its parameters are shared.
        real: which inputs count.
        per_channel: a threshold for each output channel of the weight, or one for all.
        decay: decay of the moving average.
    """

    activation_limit: Tensor

    def __init__(self, layer: nn.Linear, real: RealPieces, *, per_channel: bool, decay: float) -> None:
        super().__init__(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
        self.weight, self.bias = layer.weight, layer.bias
        self.real, self.per_channel, self.decay = real, per_channel, decay
        # 0 says that there was no batch yet.
        self.register_buffer("activation_limit", torch.zeros((), device=layer.weight.device))

    def forward(self, activation: Tensor) -> Tensor:
        """Apply the layer to (..., in); returns (..., out)."""
        if self.training:
            self._follow(activation.detach())
        weight = fake_quantize(self.weight, weight_threshold(self.weight, per_channel=self.per_channel))
        return functional.linear(fake_quantize(activation, self.activation_limit, -128), weight, self.bias)

    def _follow(self, activation: Tensor) -> None:
        largest = self.real.of(activation).abs().amax().float()
        average = self.decay * self.activation_limit + (1 - self.decay) * largest
        self.activation_limit.copy_(torch.where(self.activation_limit > 0, average, largest))


class FakeInt8Embedding(nn.Embedding):
    """An embedding table that is trained with its rows rounded to int8.

    Args:
        table: the table; its parameter is shared.
        per_channel: a threshold for each row, or one for all.
    """

    def __init__(self, table: nn.Embedding, *, per_channel: bool) -> None:
        super().__init__(table.num_embeddings, table.embedding_dim, padding_idx=table.padding_idx, device="meta")
        self.weight, self.per_channel = table.weight, per_channel

    def forward(self, rows: Tensor) -> Tensor:
        """Look rows up by integer indices (...); returns (..., width)."""
        found = super().forward(rows)
        limit = found.detach().abs().amax(-1, keepdim=True) if self.per_channel else self.weight.detach().abs().amax()
        return fake_quantize(found, limit)


def weight_threshold(weight: Tensor, *, per_channel: bool) -> Tensor:
    """Largest absolute weights.

    Args:
        weight: (rows, columns).
        per_channel: one for each row, or one for all.

    Returns:
        (rows, 1), or a scalar, without gradient.
    """
    absolute = weight.detach().abs()
    return absolute.amax(dim=1, keepdim=True) if per_channel else absolute.amax()
