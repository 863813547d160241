"""AdamW and its learning rate."""

import math
from typing import Literal

import torch
from torch import nn

from compression.training.config import TrainingConfig


def build_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) in one fused kernel.

    Args:
        model: module whose trainable parameters are optimised.
        config: learning rate, decay and moments.

    Returns:
        The optimiser. Matrices decay; vectors (biases and normalisation weights) do not, as in BERT's own training.

    Example:
        >>> [len(group["params"]) for group in build_optimizer(nn.Linear(3, 2), TrainingConfig()).param_groups]
        [1, 1]
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups,
        lr=config.learning_rate,
        betas=(config.adam_beta1, config.adam_beta2),
        eps=config.adam_epsilon,
        fused=True,
    )


def learning_rate_factor(
    step: int, total_steps: int, warmup_ratio: float, schedule: Literal["linear", "cosine", "constant"]
) -> float:
    """Share of the peak learning rate that an optimiser step uses.

    Warm-up and decay stop short of 0 by one step on either side, so that no step is spent without learning.

    Args:
        step: number of the step, from 0.
        total_steps: number of all steps.
        warmup_ratio: share of the steps over which the rate rises.
        schedule: shape after warm-up.

    Returns:
        Factor in (0, 1].

    Example:
        >>> [round(learning_rate_factor(step, 5, 0.2, "linear"), 2) for step in range(5)]
        [0.5, 1.0, 0.75, 0.5, 0.25]
    """
    warmup_steps = math.ceil(round(warmup_ratio * total_steps, 6))
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / (total_steps - warmup_steps)
    if schedule == "linear":
        return 1.0 - progress
    if schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * progress))
    return 1.0
