"""A weight matrix seen through a mask, while it is trained."""

from typing import Any

import torch
from torch import Tensor, nn


class MaskedWeight(nn.Module):
    """Parametrisation of a weight: what the model computes with is weight · mask.

    Args:
        weight: the weight.
        moves: learn scores from the movement of all weights, removed ones included.

    Attributes:
        mask: True where a weight is kept; a buffer, so that checkpoints have it.
        scores: sum of the weights' movements away from 0; None unless `moves`.

    Example:
        >>> masked = MaskedWeight(torch.ones(1, 2), moves=False)
        >>> masked.mask[0, 0] = False
        >>> masked(torch.tensor([[3.0, 4.0]]))
        tensor([[0., 4.]])
    """

    mask: Tensor
    scores: Tensor | None

    def __init__(self, weight: Tensor, *, moves: bool) -> None:
        super().__init__()
        self.register_buffer("mask", torch.ones_like(weight, dtype=torch.bool))
        self.register_buffer("scores", torch.zeros_like(weight).requires_grad_() if moves else None)

    def forward(self, weight: Tensor) -> Tensor:
        """The masked weight."""
        if self.scores is None:
            return weight * self.mask
        return _Moving.apply(weight, self.scores, self.mask)  # type: ignore[no-untyped-call, no-any-return]

    @torch.no_grad()
    def learn(self) -> None:
        """Add the movement of the last step to the scores: S ← S - ∂L/∂W' · W (Sanh et al. 2020, equation 3)."""
        if self.scores is not None and self.scores.grad is not None:
            self.scores.sub_(self.scores.grad)

    def forget(self) -> None:
        """Start a step without a gradient of the scores."""
        if self.scores is not None:
            self.scores.grad = None


class _Moving(torch.autograd.Function):
    """weight · mask, with a straight-through gradient to the scores: ∂L/∂S = ∂L/∂W' · W, as if the mask were the score.

    Sanh et al. 2020, arXiv:2005.07683, section 4. The weight's own gradient is masked.
    """

    @staticmethod
    def forward(context: Any, weight: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
        del scores
        context.save_for_backward(weight, mask)
        return weight * mask

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        weight, mask = context.saved_tensors
        return gradients[0] * mask, gradients[0] * weight, None
