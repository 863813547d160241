"""What heads and neurons are kept is scaled so that each block's output stays near the unpruned one's.

Kwon et al. 2022, arXiv:2204.09656, section 4.3: linear least squares, block after block from the first layer up.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers.masking_utils import create_bidirectional_mask

from compression.architecture.conversion import shape_of_model
from compression.architecture.editing import base_of
from compression.architecture.encoder.modeling_bertpress import BertpressForSequenceClassification
from compression.pruning.evidence import Evidence
from compression.pruning.importance import effective_weight
from compression.pruning.units import units_of
from compression.training.predict import batches_for

if TYPE_CHECKING:
    from compression.architecture.encoder.modeling_bertpress import BertpressModel, BertpressPreTrainedModel

LARGEST_FACTOR = 10.0  # as in the paper's code: beyond it the solution is not trusted, and no later block is tuned


@dataclass(frozen=True)
class Tuning:
    """What tuning came to.

    Attributes:
        factors: block -> (units,) factors that its units were scaled by; blocks that were left alone are absent.
        residuals: block -> sum of squared differences to the unpruned output, before and after.
    """

    factors: dict[str, NDArray[np.float64]]
    residuals: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Equations:
    """Normal equations of `|| Σ_i m_i a_i - b ||²`, with a_i the output of unit i and b the target.

    Attributes:
        normal: (units, units) products of units' outputs.
        right: (units,) products with the target.
        target: square of the target.
    """

    normal: NDArray[np.float64]
    right: NDArray[np.float64]
    target: float

    def residual(self, factors: NDArray[np.float64]) -> float:
        """Sum of squared differences at some factors."""
        return float(factors @ self.normal @ factors - 2 * factors @ self.right + self.target)


def least_squares_factors(equations: Equations, damping: float = 1.0) -> NDArray[np.float64]:
    """Factors near 1 that solve normal equations: 1 + argmin_x ||N x - r||² + damping² ||x||², r = Aᵀb - N·1.

    In the eigenvectors of N this is λ r / (λ² + damping²), which never raises the residual of the least squares:
    its change there is -(λ r² / (λ² + damping²)) · (2 - λ² / (λ² + damping²)) ≤ 0.

    Args:
        equations: normal matrix and right-hand side.
        damping: how strongly factors are held at 1 where the equations say little.

    Returns:
        (units,) factors.

    Example:
        >>> least_squares_factors(Equations(np.diag([1e6, 0.0]), np.array([2e6, 0.0]), 4e6)).round(3).tolist()
        [2.0, 1.0]
    """
    values, vectors = np.linalg.eigh(equations.normal)
    values = np.maximum(values, 0.0)  # rounding makes zeros negative
    residual = vectors.T @ (equations.right - equations.normal.sum(axis=1))
    return 1.0 + vectors @ (values / (values**2 + damping**2) * residual)  # type: ignore[no-any-return]


def tune(pruned: "BertpressPreTrainedModel", dense: "BertpressPreTrainedModel", evidence: Evidence) -> Tuning:
    """Scale the kept heads and neurons of a pruned model, in place.

    For each block the least squares compare, over real word pieces, Σ_i m_i · (output of unit i) in the pruned model
    with the unpruned model's sum before LayerNorm, less the block's bias and the pruned model's residual input. The
    last layer's feed-forward block of a classifier is compared at the first word piece alone, which is all it reads;
    attention of the first layer is left as it is. A shared block has one set of factors for all layers that use it.

    Args:
        pruned: the model without the pruned units.
        dense: the model before pruning; left as it is.
        evidence: rows to compare on.

    Returns:
        Factors and residuals.

    Raises:
        Interrupted: a stop was asked for.
    """
    reads_first = isinstance(pruned, BertpressForSequenceClassification)
    streams = _Streams(base_of(pruned), base_of(dense), evidence, reads_first=reads_first)
    sizes = units_of(shape_of_model(pruned), "attention") | units_of(shape_of_model(pruned), "feed_forward")
    tuning, trusted = Tuning({}, {}), True
    for place, (block, _) in enumerate(streams.steps):
        first_use = block not in [earlier for earlier, _ in streams.steps[:place]]
        if trusted and first_use and place > 0 and block in sizes:
            equations = streams.equations(place, sizes[block])
            factors = least_squares_factors(equations)
            trusted = bool(np.abs(factors).max() <= LARGEST_FACTOR)
            if trusted:
                _scale(streams.pruned.get_submodule(f"{block}.output"), factors)
                tuning.factors[block] = factors
                before = equations.residual(np.ones(len(factors)))
                tuning.residuals[block] = (before, equations.residual(factors))
        streams.advance(place)
    return tuning


@torch.no_grad()
def _scale(output: nn.Module, factors: NDArray[np.float64]) -> None:
    """Fold factors of units into the map that takes their outputs in."""
    inner = output if isinstance(output, nn.Linear) else output.get_submodule("down")
    weight = inner.get_parameter("weight")
    by_unit = torch.from_numpy(factors).to(weight)
    weight.mul_(by_unit.repeat_interleave(weight.shape[1] // len(factors)))


class _Streams:
    """Hidden states of all rows in both models, moved through them block by block.

    Attributes:
        steps: (block, layer) in the order of the forward pass.
    """

    def __init__(
        self, pruned: "BertpressModel", dense: "BertpressModel", evidence: Evidence, *, reads_first: bool
    ) -> None:
        self._reads_first = reads_first
        self.pruned, self.dense, self._control = pruned, dense, evidence.control
        shape = shape_of_model(pruned)
        used = zip(shape.attention_blocks, shape.feed_forward_blocks, strict=True)
        self.steps = [
            step
            for layer, (attention, feed_forward) in enumerate(used)
            for step in ((f"attention.{attention}", layer), (f"feed_forward.{feed_forward}", layer))
        ]
        self._hidden: dict[Any, list[Tensor]] = {pruned: [], dense: []}
        self._masks: list[tuple[Tensor, Tensor | None]] = []
        with torch.inference_mode():
            for _, batch in batches_for(
                pruned, evidence.encoded, pad_token_id=evidence.pad_token_id, control=evidence.control
            ):
                for model, states in self._hidden.items():
                    states.append(model.embeddings(batch["input_ids"], batch.get("token_type_ids"), None))
                real = batch["attention_mask"]
                mask = create_bidirectional_mask(
                    config=pruned.config, inputs_embeds=self._hidden[pruned][-1], attention_mask=real
                )
                self._masks.append((real.bool(), mask))

    @torch.inference_mode()
    def advance(self, place: int) -> None:
        """Move all hidden states through one block."""
        for model, states in self._hidden.items():
            for number, hidden in enumerate(states):
                self._control.check()
                states[number] = self._through(model, place, hidden, number)

    def _through(self, model: "BertpressModel", place: int, hidden: Tensor, number: int) -> Tensor:
        block = self.steps[place][0]
        mask = (self._masks[number][1],) if block.startswith("attention") else ()
        return model.get_submodule(block)(hidden, *mask)  # type: ignore[no-any-return]

    @torch.inference_mode()
    def equations(self, place: int, units: int) -> Equations:
        """Normal equations of a block, over all its uses from the present place on."""
        block = self.steps[place][0]
        output = self.pruned.get_submodule(f"{block}.output")
        weight = effective_weight(output)
        bias = output.get_parameter("bias" if isinstance(output, nn.Linear) else "up.bias")
        uses = [later for later in range(place, len(self.steps)) if self.steps[later][0] == block]
        products = torch.zeros(weight.shape[1], weight.shape[1], dtype=torch.float64)
        right = torch.zeros(weight.shape[1], dtype=torch.float64)
        target = 0.0
        for number in range(len(self._masks)):
            self._control.check()
            hidden = {model: states[number] for model, states in self._hidden.items()}
            for step in range(place, uses[-1] + 1):
                with _captured(self.pruned, block) as own, _captured(self.dense, block) as whole:
                    after = {model: self._through(model, step, state, number) for model, state in hidden.items()}
                if step in uses:
                    rows = self._rows(step, number)
                    inner = own["output"][rows]
                    wanted = whole["LayerNorm"][rows] - bias - hidden[self.pruned][rows]
                    products += (inner.T @ inner).double().cpu()
                    right += (inner * (wanted @ weight)).sum(0).double().cpu()
                    target += float(wanted.double().square().sum())
                hidden = after
        normal = products * (weight.T @ weight).double().cpu()
        size = weight.shape[1] // units
        return Equations(
            normal.view(units, size, units, size).sum((1, 3)).numpy(), right.view(units, size).sum(1).numpy(), target
        )

    def _rows(self, step: int, number: int) -> Tensor:
        """(batch, length) word pieces that a use is compared at."""
        real = self._masks[number][0]
        if step < len(self.steps) - 1 or not self._reads_first:
            return real
        first = torch.zeros_like(real)
        first[:, 0] = True
        return first


@contextmanager
def _captured(model: "BertpressModel", block: str) -> Iterator[dict[str, Tensor]]:
    """What enters a block's output map and its LayerNorm."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_: nn.Module, inputs: tuple[Tensor]) -> None:
            found[name] = inputs[0]

        return hook

    handles = [
        model.get_submodule(f"{block}.{name}").register_forward_pre_hook(keep(name)) for name in ("output", "LayerNorm")
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
