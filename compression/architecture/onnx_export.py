"""Export of an encoder, with or without a head, to ONNX."""

import importlib.util
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from compression.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_NEEDED = ("onnx", "onnxscript")
_EXAMPLE = (2, 5)  # rows and length of the input that is traced; both stay free in the graph


class _Traced(nn.Module):
    """A model as the graph has it: three integer inputs, one output."""

    def __init__(self, model: "PreTrainedModel", *, token_types: bool) -> None:
        super().__init__()
        self.model, self.token_types = model, token_types

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        inputs: dict[str, Tensor | None] = {"input_ids": input_ids, "attention_mask": attention_mask}
        if self.token_types:
            inputs["token_type_ids"] = token_type_ids
        output = self.model(**inputs)
        return output["logits"] if "logits" in output else output["last_hidden_state"]  # type: ignore[no-any-return]


def export_onnx(model: "PreTrainedModel", path: Path) -> Path:
    """Write a model as one ONNX file with free batch size and length.

    Args:
        model: an encoder, or an encoder with one of our heads; a BERT, DistilBERT or ALBERT likewise.
        path: the file to write.

    Returns:
        The file. Inputs: `input_ids`, `attention_mask` and, where the model has token types, `token_type_ids`, each
        (batch, length) int64. Output: `logits`, or `last_hidden_state` of a model without a head.

    Raises:
        UserError: the packages that exporting needs are not installed.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"exporting to ONNX needs {', '.join(missing)}: pip install 'bertpress[onnx]'")
    token_types = getattr(model.config, "type_vocab_size", 0) > 0
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if token_types else [])]
    example = tuple(
        torch.ones(_EXAMPLE, dtype=torch.long) if name == "attention_mask" else torch.zeros(_EXAMPLE, dtype=torch.long)
        for name in names
    )
    free = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", max=model.config.max_position_embeddings)}
    headed = hasattr(model, model.base_model_prefix)
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            _Traced(model, token_types=token_types).eval(),
            example,
            dynamo=True,
            input_names=names,
            output_names=["logits" if headed else "last_hidden_state"],
            dynamic_shapes=dict.fromkeys(names, free),
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch gave no ONNX program")
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.new")
    program.save(aside)
    return aside.replace(path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's warnings about other packages off the terminal."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
