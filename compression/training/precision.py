"""Device, arithmetic and threads of a training, from a `Runtime`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from torch import nn

from compression.errors import UserError
from compression.runtime import Runtime

if TYPE_CHECKING:
    from transformers import PreTrainedModel

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def build_accelerator(runtime: Runtime) -> Accelerator:
    """Accelerate's handle for device placement, autocast and gradient synchronisation.

    Args:
        runtime: device and precision.

    Returns:
        A handle whose `prepare` runs a model's forward pass under autocast when the precision is not fp32.

    Raises:
        UserError: fp16 without a GPU.
    """
    if runtime.precision == "fp16" and runtime.device == "cpu":
        raise UserError("precision fp16 needs a GPU: use bf16 or fp32 on a CPU")
    # The state is one a process, and it refuses a second stage that wants another precision than the first one.
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(
        cpu=runtime.device == "cpu",
        mixed_precision="no" if runtime.precision == "fp32" else runtime.precision,
        # Several processes would wait for the gradient of a part that the loss does not use, such as a pooler.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )


@contextmanager
def prepared(accelerator: Accelerator, model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[tuple[Any, Any]]:
    """Let accelerate place and wrap a model and its optimiser, and take every trace of that off the model afterwards.

    Args:
        accelerator: handle of `build_accelerator`.
        model: module to train.
        optimizer: its optimiser.

    Yields:
        What to call instead of the model, and what to step instead of the optimiser.
    """
    try:
        yield accelerator.prepare(model, optimizer)
    finally:
        # Accelerate would otherwise take the model's next training for prepared already, whatever its precision.
        for name in ("forward", "_original_forward", "_is_accelerate_prepared"):
            vars(model).pop(name, None)


@contextmanager
def training_attention(model: "PreTrainedModel", runtime: Runtime) -> Iterator[None]:
    """Attention in plain matrix products while training on a CPU, whose fused attention has a slow backward pass.

    Args:
        model: transformers model with any attention implementation; restored afterwards.
        runtime: only its device counts.
    """
    if runtime.device != "cpu":
        yield
        return
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


@contextmanager
def dropout_probability(model: nn.Module, probability: float | None) -> Iterator[None]:
    """Train with another dropout, and restore the model's own afterwards.

    On a CPU drawing the masks takes up to a quarter of a small model's step.

    Args:
        model: model whose `torch.nn.Dropout` layers, and attention of our encoder, are set.
        probability: share of activations that is dropped; None changes nothing.

    Example:
        >>> layer = nn.Dropout(0.1)
        >>> with dropout_probability(layer, 0.0):
        ...     layer.p
        0.0
        >>> layer.p
        0.1
    """
    # Fused attention drops inside its kernel: our encoder keeps that probability as a number.
    places = [
        (module, name)
        for module in model.modules()
        for name in ("p", "attention_dropout")
        if isinstance(getattr(module, name, None), float) and (name != "p" or isinstance(module, nn.Dropout))
    ]
    before = [getattr(module, name) for module, name in places]
    for (module, name), own in zip(places, before, strict=True):
        setattr(module, name, own if probability is None else probability)
    try:
        yield
    finally:
        for (module, name), own in zip(places, before, strict=True):
            setattr(module, name, own)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Run with this many torch threads, and restore the number afterwards.

    Args:
        count: torch intra-operation threads.

    Example:
        >>> with torch_threads(1):
        ...     torch.get_num_threads()
        1
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def seed_step(*numbers: int) -> None:
    """Seed torch's generators from a few whole numbers, such as (seed, step).

    Randomness that depends on the step alone needs no generator state in checkpoints, and is not shifted by what
    happens between steps, such as a measurement.

    Args:
        numbers: non-negative integers.

    Example:
        >>> seed_step(0, 7)
        >>> first = torch.rand(2)
        >>> seed_step(0, 7)
        >>> bool((first == torch.rand(2)).all())
        True
    """
    torch.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]))
