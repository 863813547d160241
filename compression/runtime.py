"""The machine a stage runs on: device, precision, threads. Found without importing torch, so that `plan` is quick."""

import ctypes
import importlib.metadata
import os
import platform
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

Device = Literal["cpu", "cuda", "mps"]
Precision = Literal["fp32", "bf16", "fp16"]

_CUDA_COMPUTE_CAPABILITY_MAJOR = 75  # CUdevice_attribute of the CUDA driver API
_AMPERE = 8  # first compute capability with bf16 arithmetic


@dataclass(frozen=True)
class Runtime:
    """Where and in what precision tensors live.

    Attributes:
        device: torch device type.
        precision: arithmetic of autocast regions; parameters and optimiser state stay fp32.
        threads: torch intra-operation threads.
        dataloader_workers: processes that prepare batches; 0 prepares them in the training process.
    """

    device: Device = "cpu"
    precision: Precision = "fp32"
    threads: int = 1
    dataloader_workers: int = 0

    @classmethod
    def detect(
        cls,
        device: Device | Literal["auto"] = "auto",
        precision: Precision | Literal["auto"] = "auto",
        threads: int | None = None,
        dataloader_workers: int = 0,
    ) -> "Runtime":
        """Fill in whatever is left to the machine.

        Args:
            device: torch device type, or the best one present.
            precision: fp32, bf16, fp16, or the fastest that is safe on the device.
            threads: torch threads; all usable cores by default.
            dataloader_workers: processes that prepare batches.

        Returns:
            The runtime with nothing left to choose.

        Example:
            >>> Runtime.detect(device="cpu", precision="fp32", threads=2)
            Runtime(device='cpu', precision='fp32', threads=2, dataloader_workers=0)
        """
        chosen = _best_device() if device == "auto" else device
        return cls(
            device=chosen,
            precision=_best_precision(chosen) if precision == "auto" else precision,
            threads=threads or usable_cores(),
            dataloader_workers=dataloader_workers,
        )


def usable_cores() -> int:
    """Cores that this process may run on.

    Example:
        >>> usable_cores() >= 1
        True
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def cpu_instructions() -> frozenset[str]:
    """Instruction sets of the processor, by the names that Linux gives them; empty on other systems.

    Example:
        >>> "avx512" in cpu_instructions()  # it is several sets: avx512f, avx512_vnni, ...
        False
    """
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    # x86 names the line `flags`, ARM `Features`.
    return frozenset(next((line for line in lines if line.startswith(("flags", "Features"))), "").split()[2:])


@cache
def _cuda_capability() -> int:
    """Major compute capability of the first CUDA device, 0 without one. Asks the driver: torch is not imported."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        count, major = ctypes.c_int(0), ctypes.c_int(0)
        if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value == 0:
            return 0
        driver.cuDeviceGetAttribute(ctypes.byref(major), _CUDA_COMPUTE_CAPABILITY_MAJOR, 0)
    except (OSError, AttributeError):
        return 0
    return major.value


@cache
def _best_device() -> Device:
    if "+cpu" not in importlib.metadata.version("torch") and _cuda_capability() > 0:
        return "cuda"
    if sys.platform == "darwin" and platform.machine() == "arm64":
        return "mps"
    return "cpu"


@cache
def _best_precision(device: Device) -> Precision:
    if device == "cuda":
        return "bf16" if _cuda_capability() >= _AMPERE else "fp16"
    if device == "cpu":
        # avx512_bf16 alone lacks the tile units that make bf16 matrices faster than fp32 ones.
        return "bf16" if "amx_bf16" in cpu_instructions() else "fp32"
    return "fp32"
