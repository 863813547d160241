"""What decides which parts of a matrix must be approximated well: how often and how strongly its inputs occur."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from compression.architecture.editing import base_of
from compression.architecture.encoder.modeling_bertpress import BertpressPreTrainedModel
from compression.control import Control
from compression.data.encoding import Encoded
from compression.data.sample import evenly_spaced
from compression.training.predict import batches_for

# Share of the mean second moment that every direction is given besides its own: a sample does not span them all.
_RIDGE = 1e-3


def frequency_weights(rows: Encoded, vocabulary: int) -> Tensor:
    """Diagonal weights of word pieces: the root of how often each occurs, so that an error counts at each occurrence.

    Args:
        rows: encoded rows.
        vocabulary: rows of the word embedding.

    Returns:
        (vocabulary,) √(occurrences + 1), in double precision; the one keeps word pieces that the rows lack from being
        given up.

    Example:
        >>> two = [np.array([2, 1, 1], np.int32), np.array([1], np.int32)]
        >>> frequency_weights(Encoded(two, None, None, np.array([3, 1])), 4).tolist()
        [1.0, 2.0, 1.4142135623730951, 1.0]
    """
    counts = np.bincount(np.concatenate(rows.input_ids), minlength=vocabulary)
    return torch.from_numpy(np.sqrt(counts + 1.0))


def activation_weights(
    model: BertpressPreTrainedModel, names: Sequence[str], rows: Encoded, sample: int, control: Control
) -> dict[str, Tensor]:
    """Weights under which the error of a linear map's matrix is that of its outputs (Chen et al. 2021, DRONE).

    For inputs X (word pieces × inputs), ‖(W − Ŵ)·Xᵀ‖² = ‖(W − Ŵ)·L‖² with L·Lᵀ = XᵀX.

    Args:
        model: the model, on the device to compute on.
        names: linear maps, as a shape names them.
        rows: encoded rows.
        sample: rows to take, evenly spaced.
        control: where to report progress, and whether to stop.

    Returns:
        Map -> (inputs, inputs) lower triangular L, in double precision on the CPU, of the mean XᵀX over real word
        pieces plus a small multiple of the identity.

    Raises:
        Interrupted: a stop was asked for.
    """
    moments = _second_moments(model, sorted({_reader(name) for name in names}), rows, sample, control)
    roots: dict[str, Tensor] = {}
    for reader, moment in moments.items():
        ridge = _RIDGE * moment.diagonal().mean().item() or 1.0  # inputs that are always 0 weigh all alike
        roots[reader] = torch.linalg.cholesky(moment + ridge * torch.eye(len(moment), dtype=moment.dtype))
    return {name: roots[_reader(name)] for name in names}


def _reader(name: str) -> str:
    """The map whose input is looked at: query, key and value have the same."""
    block, _, module = name.rpartition(".")
    return f"{block}.query" if module in ("key", "value") else name


def _second_moments(
    model: BertpressPreTrainedModel, names: Sequence[str], rows: Encoded, sample: int, control: Control
) -> dict[str, Tensor]:
    """Mean of x·xᵀ over the real word pieces that reach each map; a shared block's over all its uses."""
    sums: dict[str, Tensor] = {}
    seen: dict[str, int] = dict.fromkeys(names, 0)
    real = torch.empty(0)

    def adding(name: str) -> Callable[[nn.Module, tuple[Tensor]], None]:
        def add(module: nn.Module, given: tuple[Tensor]) -> None:
            del module
            inputs = given[0][real].float()
            product = (inputs.T @ inputs).to("cpu", torch.float64)
            sums[name] = sums[name] + product if name in sums else product
            seen[name] += len(inputs)

        return add

    encoder = base_of(model)
    hooks = [encoder.get_submodule(name).register_forward_pre_hook(adding(name)) for name in names]
    chosen = evenly_spaced(len(rows), sample)
    control.progress.start("activations", len(chosen), unit="row")
    try:
        with torch.inference_mode():
            for part, batch in batches_for(encoder, rows, pad_token_id=0, control=control, chosen=chosen):
                real = batch["attention_mask"].bool()
                encoder(**batch)
                control.progress.advance(len(part), tokens=int(real.sum()))
    finally:
        for hook in hooks:
            hook.remove()
    control.progress.finish()
    return {name: total / seen[name] for name, total in sums.items()}
