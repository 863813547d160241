"""Quantized model folders: the same files as any other, with smaller number formats in them."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from torch import nn

from compression.architecture.checkpoint import check_weights, quiet_transformers, task_auto_class
from compression.errors import CheckpointError
from compression.quantization.format import CODED_LAYERS, METHOD, METHODS
from compression.quantization.int8_arithmetic import kernel_name
from compression.quantization.int8_modules import Int8Linear

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from compression.quantization.onnxruntime_backend import OnnxClassifier

# What safetensors calls the number formats that layers hold.
_STORED = {
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.int32: "I32",
}


def is_quantized(folder: Path) -> bool:
    """Tell a quantized model folder from a plain one.

    Args:
        folder: model folder.

    Returns:
        Whether its `config.json` declares a quantization; False where there is none to read.
    """
    try:
        declared = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(declared, dict) and "quantization_config" in declared


def load_quantized(folder: Path) -> "PreTrainedModel | OnnxClassifier":
    """Load a model that a `quantize` stage saved; its outputs are bit for bit those it had when it was saved.

    Args:
        folder: model folder.

    Returns:
        The model in evaluation mode; of another backend what calls it and is called like a model.

    Raises:
        CheckpointError: the folder is missing, damaged, not quantized, or quantized by something else.
        UserError: packages of the backend are missing.
    """
    declared = _checked_declaration(folder)
    quantization = declared["quantization_config"]
    if (backend := quantization.get("backend", "torch")) != "torch":
        return _of_backend(folder, backend, quantization)
    check_weights(folder)
    try:
        with quiet_transformers():
            model, report = task_auto_class(declared.get("architectures")).from_pretrained(
                folder,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # judged below
                output_loading_info=True,
            )
    except Exception as error:  # transformers raises whatever its model classes raise
        raise CheckpointError(f"{folder} cannot be loaded as a quantized model: {error}") from error
    _check_loaded(folder, model, report)
    return model.eval()


def multiplier(model: nn.Module, device: str) -> str:
    """What multiplies in a quantized model, for the record of a measurement.

    Args:
        model: model of `load_quantized`.
        device: torch device type.

    Returns:
        The backend and its version; the integer kernel (see `kernel_name`); or torch and its arithmetic.
    """
    kernel = getattr(model, "kernel", None)
    if kernel is not None:
        return str(kernel)
    if any(isinstance(module, Int8Linear) for module in model.modules()):
        return kernel_name(device)
    dtype = next(parameter.dtype for parameter in model.parameters() if parameter.is_floating_point())
    return {torch.bfloat16: "torch-bf16", torch.float16: "torch-fp16"}.get(dtype, "torch-fp32")


def _of_backend(folder: Path, backend: str, quantization: dict[str, Any]) -> "OnnxClassifier":
    from compression.quantization.onnxruntime_backend import BACKEND, load_onnxruntime

    if backend != BACKEND:
        raise CheckpointError(f"{folder} is for the backend {backend!r}; allowed: torch, {BACKEND}")
    return load_onnxruntime(folder, quantization)


def _checked_declaration(folder: Path) -> dict[str, Any]:
    """The folder's `config.json`, which says that the model is quantized by us."""
    path = folder / "config.json"
    try:
        declared = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{folder} is not a model folder: it has no config.json") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    declared = declared if isinstance(declared, dict) else {}
    quantization = declared.get("quantization_config")
    method = quantization.get("quant_method") if isinstance(quantization, dict) else None
    if method not in METHODS:
        given = "is not quantized" if method is None else f"is quantized by {method!r}"
        raise CheckpointError(f"{folder} {given}; allowed: {METHOD!r}, as the quantize stage writes it")
    return declared


def _check_loaded(folder: Path, model: "PreTrainedModel", report: dict[str, Any]) -> None:
    """Refuse weights that are absent, unknown, of the wrong shape or of the wrong number format."""
    for kind, said in (
        ("missing_keys", "lacks"),
        ("unexpected_keys", "has unknown"),
        ("mismatched_keys", "has misshapen"),
    ):
        # A mismatch comes with its two shapes.
        names = sorted(entry if isinstance(entry, str) else str(entry[0]) for entry in report[kind])
        if names:
            raise CheckpointError(f"{folder} {said} weights: {', '.join(names[:3])} ({len(names)} in all)")
    _check_number_formats(folder, model)
    for name, module in model.named_modules():
        fault = module.fault() if isinstance(module, CODED_LAYERS) else None
        if fault is not None:
            raise CheckpointError(f"{folder}: {name} {fault}")


def _check_number_formats(folder: Path, model: "PreTrainedModel") -> None:
    """Loading would cast silently what is stored in another number format than the layer's."""
    expected = {name: tensor.dtype for name, tensor in model.state_dict().items()}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as stored:
            for name in stored.keys():  # noqa: SIM118 (not a mapping)
                dtype = stored.get_slice(name).get_dtype()
                if name in expected and dtype != _STORED[expected[name]]:
                    raise CheckpointError(f"{folder}: {name} is stored as {dtype}, not as {_STORED[expected[name]]}")
