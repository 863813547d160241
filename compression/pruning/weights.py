"""Single weights set to 0: at once by magnitude, or little by little while the model is trained."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from compression.pruning.config import GradualTraining, WeightPruning
from compression.pruning.masked_weight import MaskedWeight
from compression.pruning.masks import keep_masks, prunable, removed_count
from compression.pruning.schedule import pruning_steps, sparsity_at
from compression.training.hooks import StepHooks

if TYPE_CHECKING:
    from compression.architecture.encoder.modeling_bertpress import BertpressPreTrainedModel


@torch.no_grad()
def prune_by_magnitude(model: "BertpressPreTrainedModel", config: WeightPruning) -> None:
    """Set the smallest weights to 0, in place.

    Args:
        model: encoder with or without a head.
        config: sparsity, pattern, scope and matrices.

    Raises:
        UserError: the pattern does not fit a matrix.
    """
    weights = {name: module.get_parameter("weight") for name, module in prunable(model, config).items()}
    masks = keep_masks({name: weight.abs() for name, weight in weights.items()}, config.sparsity, config)
    for name, weight in weights.items():
        weight.mul_(masks[name])


@contextmanager
def pruned_gradually(
    model: "BertpressPreTrainedModel", config: WeightPruning, training: GradualTraining
) -> Iterator[StepHooks]:
    """Let a training prune a model's weights; afterwards those removed are 0 for good.

    Args:
        model: the model, changed in place.
        config: sparsity, importance, pattern, scope and matrices.
        training: the schedule.

    Yields:
        What the training has to call around its steps.

    Raises:
        UserError: the pattern does not fit a matrix.
    """
    modules = prunable(model, config)
    for module in modules.values():
        masked = MaskedWeight(module.get_parameter("weight"), moves=config.importance == "movement")
        parametrize.register_parametrization(module, "weight", masked)
    try:
        yield _Gradual(modules, config, training)
    finally:
        for module in modules.values():
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)


class _Gradual(StepHooks):
    """Masks that follow a schedule."""

    def __init__(self, modules: dict[str, nn.Module], config: WeightPruning, training: GradualTraining) -> None:
        self._config, self._training = config, training
        self._masked: dict[str, MaskedWeight] = {}
        self._weights: dict[str, Tensor] = {}
        for name, module in modules.items():
            (masked,) = module.get_submodule("parametrizations.weight").children()
            self._masked[name] = masked  # type: ignore[assignment]
            self._weights[name] = module.get_parameter("parametrizations.weight.original")

    def before_step(self, step: int, total_steps: int) -> None:
        """Renew the masks where the schedule says so."""
        for masked in self._masked.values():
            masked.forget()
        begin, end = pruning_steps(total_steps, self._training.dense_share, self._training.final_share)
        since = step - (begin if step < end else end)
        # At the full sparsity magnitudes of what is pruned stand still; movements go on telling what is missed.
        grows = step <= end or self._config.importance == "movement"
        if step >= begin and since % self._training.interval == 0 and grows:
            initial, final = self._training.initial_sparsity, self._config.sparsity
            self._renew(sparsity_at(step, begin, end, initial, final))

    def after_step(self) -> None:
        """Learn from the step's movement."""
        for masked in self._masked.values():
            masked.learn()

    def is_candidate(self) -> bool:
        """Only what is as sparse as was asked for; told from the masks, which a resumed training has as well."""
        removed = sum(masked.mask.numel() - int(masked.mask.sum()) for masked in self._masked.values())
        sizes = [masked.mask.numel() for masked in self._masked.values()]
        return removed == removed_count(sizes, self._config.sparsity, self._config)

    @torch.no_grad()
    def _renew(self, sparsity: float) -> None:
        scores = {
            name: self._weights[name].abs() if masked.scores is None else masked.scores.detach()
            for name, masked in self._masked.items()
        }
        for name, mask in keep_masks(scores, sparsity, self._config).items():
            self._masked[name].mask.copy_(mask)
