"""Quantisation: smaller number formats that are stored small and run on integer kernels."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from compression.quantization.onnxruntime_backend import OnnxClassifier


def load_quantized(folder: Path) -> "PreTrainedModel | OnnxClassifier":
    """Load a quantized model folder; see `compression.quantization.checkpoint.load_quantized`.

    Args:
        folder: model folder that a `quantize` stage wrote.

    Returns:
        The model in evaluation mode.

    Raises:
        CheckpointError: the folder is missing, damaged, not quantized, or quantized by something else.
    """
    # Imported late: planning imports this package for its configuration, and must not wait for torch.
    from compression.quantization.checkpoint import load_quantized as load

    return load(folder)
