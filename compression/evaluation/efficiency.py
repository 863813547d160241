"""What a checkpoint costs: bytes on disk, and latency at batch 1."""

import gc
import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from compression.control import Control
from compression.training.precision import torch_threads

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MODEL_FILES = ("config.json", "*.safetensors", "*.safetensors.index.json", "*.onnx")
_INPUT_SEED = 0


def bytes_on_disk(folder: Path) -> int:
    """Size of a checkpoint: configuration and weights, as stored.

    The tokenizer is left out: it is the same for every model of a study, and would hide how much a small one shrank.

    Args:
        folder: model folder.

    Returns:
        Bytes of `config.json` and the safetensors files, or the graph of another runtime.
    """
    return sum(path.stat().st_size for pattern in _MODEL_FILES for path in folder.glob(pattern))


def latency_inputs(tokenizer: "PreTrainedTokenizerBase", length: int) -> dict[str, Tensor]:
    """A fixed sequence to time a model on: ordinary word pieces between the special tokens, always the same ones.

    Args:
        tokenizer: the model's tokenizer.
        length: word pieces, special tokens included.

    Returns:
        `input_ids` and `attention_mask`, both (1, length) int64, no padding.
    """
    special = set(tokenizer.all_special_ids)
    vocabulary = sorted((index, token) for token, index in tokenizer.get_vocab().items() if index not in special)
    # Markers of a word's start or continuation aside, a piece of letters is one that text really produces.
    pieces = [index for index, token in vocabulary if token.lstrip("#▁Ġ").isalpha()] or [
        index for index, _ in vocabulary
    ]
    first = tokenizer.cls_token_id if tokenizer.cls_token_id is not None else tokenizer.bos_token_id
    last = tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id
    draws = np.random.PCG64(_INPUT_SEED).random_raw(length)
    ids = [pieces[int(draw % len(pieces))] for draw in draws]
    ids[0] = ids[0] if first is None else first
    ids[-1] = ids[-1] if last is None else last
    input_ids = torch.tensor([ids])
    return {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)}


def latency(
    model: nn.Module,
    inputs: Mapping[str, Tensor],
    *,
    warmup: int,
    repeats: int,
    threads: int,
    control: Control | None = None,
) -> dict[str, Any]:
    """Time single forward passes.

    The thread count is fixed while timing, the garbage collector is off, and passes before the first timed one let
    kernels be compiled and caches fill. On a GPU a pass ends when its result is there.

    Args:
        model: model in evaluation mode, on the device to be timed.
        inputs: its inputs, (1, length) each, on any device.
        warmup: passes before timing.
        repeats: timed passes.
        threads: torch threads while timing; restored afterwards.
        control: whether to stop.

    Returns:
        Wall time in milliseconds: `median`, `q1`, `q3`, `p95` and `samples`, the single passes in their order; further
        `cpu_median`, the processor time of a pass, which a busy machine stretches less (far below the median, it says
        that the machine was busy); `repeats`, `threads` and `length`.

    Raises:
        Interrupted: a stop was asked for.

    Example:
        >>> timing = latency(nn.Identity(), {"input": torch.zeros(1, 8)}, warmup=1, repeats=5, threads=1)
        >>> timing["q1"] <= timing["median"] <= timing["q3"], timing["length"]
        (True, 8)
    """
    control = control or Control()
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    placed = {name: tensor.to(device) for name, tensor in inputs.items()}
    with torch_threads(threads), torch.inference_mode(), _garbage_kept():
        for _ in range(warmup):
            control.check()
            model(**placed)
        passes = []
        for _ in range(repeats):
            control.check()
            passes.append(_timed_pass(model, placed, device))
    wall, processor = np.array(passes).T / 1e6
    quartile1, median, quartile3, percentile95 = np.quantile(wall, [0.25, 0.5, 0.75, 0.95])
    return {
        "median": float(median),
        "q1": float(quartile1),
        "q3": float(quartile3),
        "p95": float(percentile95),
        "cpu_median": float(np.median(processor)),
        "repeats": repeats,
        "threads": threads,
        "length": next(iter(placed.values())).shape[1],
        "samples": [round(value, 4) for value in wall.tolist()],
    }


def environment(device: str) -> dict[str, Any]:
    """The machine at this moment, for a reader who wants to know what a latency is worth.

    Args:
        device: torch device type that is measured on.

    Returns:
        `cpu` and `accelerator` names (the latter None on the CPU), `cores`, `torch` version and `load_average` over the
        last minute (None where the system has none).

    Example:
        >>> environment("cpu")["torch"] == torch.__version__
        True
    """
    return {
        "cpu": _cpu_name(),
        "accelerator": torch.cuda.get_device_name() if device == "cuda" else None if device == "cpu" else device,
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


@contextmanager
def _garbage_kept() -> Iterator[None]:
    """Collect garbage now, and not again until the end."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _timed_pass(model: nn.Module, inputs: Mapping[str, Tensor], device: torch.device) -> tuple[int, int]:
    """Wall time and processor time of one pass, in nanoseconds."""
    _synchronize(device)
    processor, wall = time.process_time_ns(), time.perf_counter_ns()
    model(**inputs)
    _synchronize(device)
    return time.perf_counter_ns() - wall, time.process_time_ns() - processor


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
