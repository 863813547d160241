"""Outputs of a model over many rows, without gradients."""

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from compression.control import Control
from compression.data.config import TaskConfig, problem_of
from compression.data.encoding import Encoded, collate, encode
from compression.data.span_encoding import SpanFeatures, encode_spans
from compression.errors import CheckpointError
from compression.training.span_logits import SpanLogits

if TYPE_CHECKING:
    import pandas
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# A stop request is answered between batches: on a CPU one of a large model should stay near a second.
TOKENS_A_BATCH = {"cpu": 2048, "cuda": 16384, "mps": 8192}


def encode_for(
    model: "PreTrainedModel",
    frame: "pandas.DataFrame",
    tokenizer: "PreTrainedTokenizerBase",
    task: TaskConfig,
    control: Control,
) -> Encoded:
    """Tokenise a task's rows as the task says, and check that a model can take them.

    Args:
        model: model that will see the rows.
        frame: rows of the task.
        tokenizer: the model's tokenizer.
        task: what is predicted, and how inputs that are too long are cut.
        control: whether to stop.

    Returns:
        The encoded rows; of spans the encoded windows, of which a row may have several.

    Raises:
        CheckpointError: rows are longer than the model has positions, or word pieces lie outside its vocabulary.
    """
    if problem_of(task) == "span":
        return encode_spans_for(model, frame, tokenizer, task, control).encoded
    encoded = encode(frame, tokenizer, task.max_length, truncation=task.truncation, control=control)
    check_fits(model, encoded, task.max_length)
    return encoded


def encode_spans_for(
    model: "PreTrainedModel",
    frame: "pandas.DataFrame",
    tokenizer: "PreTrainedTokenizerBase",
    task: TaskConfig,
    control: Control,
) -> SpanFeatures:
    """Tokenise questions and contexts, and check that a model can take the windows.

    Args:
        model: model that will see them.
        frame: rows of the task.
        tokenizer: the model's tokenizer.
        task: a task that predicts spans.
        control: whether to stop.

    Returns:
        The windows.

    Raises:
        CheckpointError: as `encode_for`.
        UserError: the tokenizer cannot tell where word pieces stand in a text.
    """
    features = encode_spans(frame, tokenizer, task.max_length, task.span, control=control)
    check_fits(model, features.encoded, task.max_length)
    return features


def check_fits(model: "PreTrainedModel", encoded: Encoded, max_length: int) -> None:
    """Refuse rows that a model cannot take, before an hour of training meets the first of them.

    Args:
        model: the model.
        encoded: the rows.
        max_length: the task's longest input, named in the message.

    Raises:
        CheckpointError: rows are longer than the model has positions, or word pieces lie outside its vocabulary.
    """
    longest = max(encoded.lengths, default=0)
    positions = longest_input(model.config)
    if longest > positions:
        raise CheckpointError(
            f"a row has {longest} word pieces, but the model has only {positions} positions: "
            f"set the task's max_length (now {max_length}) to at most {positions}"
        )
    highest = max((int(ids.max()) for ids in encoded.input_ids), default=0)
    if highest >= model.config.vocab_size:
        raise CheckpointError(
            f"the tokenizer does not belong to the model: it gives word piece {highest}, "
            f"but the model's vocabulary has {model.config.vocab_size}"
        )


def longest_input(config: Any) -> float:
    """Word pieces that a model has positions for.

    Args:
        config: the model's configuration.

    Returns:
        Their number, infinite for relative positions; RoBERTa and its kin count from the one after the padding token's.
    """
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None or positions <= 0:
        return float("inf")
    offset = config.pad_token_id + 1 if "roberta" in config.model_type or config.model_type == "camembert" else 0
    return int(positions) - offset


def model_inputs(model: Any, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a batch that a model's forward pass takes.

    Decided by the model that is about to be called, never by another: a student that knows no `token_type_ids` must
    not keep them from its teacher.

    Args:
        model: the model, also when wrapped for training.
        batch: tensors by name; labels and extra tensors are left out.

    Returns:
        `input_ids`, `attention_mask` and, where the model knows them, `token_type_ids`.
    """
    accepted = inspect.signature(type(getattr(model, "module", model)).forward).parameters
    return {
        name: batch[name]
        for name in ("input_ids", "attention_mask", "token_type_ids")
        if name in batch and name in accepted
    }


def task_logits(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Outputs of a model with a head for a task.

    Args:
        model: classifier, regressor or span model, also when wrapped for training.
        batch: tensors by name; what the model does not take is left out.

    Returns:
        [b, k]; of a span model [b, l, 2], start and end logits.
    """
    output = model(**model_inputs(model, batch))
    if "start_logits" in output:  # transformers' own question-answering models keep the two apart
        return torch.stack([output["start_logits"], output["end_logits"]], dim=-1)
    logits: torch.Tensor = output["logits"]
    return logits


def predict(
    model: "PreTrainedModel",
    encoded: Encoded,
    *,
    pad_token_id: int,
    control: Control,
    description: str | None = None,
) -> NDArray[np.float32]:
    """Logits of every row, computed in evaluation mode in batches of similar length.

    Args:
        model: classifier; left in evaluation mode, on the device where it is.
        encoded: rows.
        pad_token_id: token that fills short sequences.
        control: where to report progress, and whether to stop.
        description: name of the phase in progress displays; None reports nothing.

    Returns:
        (rows, outputs) logits in the order of the rows.

    Raises:
        Interrupted: a stop was asked for.
    """
    logits: NDArray[np.float32] | None = None
    for rows, part in _outputs(model, encoded, pad_token_id, control, description):
        if logits is None:
            logits = np.empty((len(encoded.lengths), part.shape[1]), np.float32)
        logits[rows] = part
    return logits if logits is not None else np.empty((0, model.config.num_labels), np.float32)


def predict_spans(
    model: "PreTrainedModel",
    encoded: Encoded,
    *,
    pad_token_id: int,
    control: Control,
    description: str | None = None,
) -> SpanLogits:
    """Start and end logits of every word piece of every window, computed as `predict` does.

    Args:
        model: span model; left in evaluation mode, on the device where it is.
        encoded: windows.
        pad_token_id: token that fills short windows.
        control: where to report progress, and whether to stop.
        description: name of the phase in progress displays; None reports nothing.

    Returns:
        The logits of real word pieces.

    Raises:
        Interrupted: a stop was asked for.
    """
    logits = SpanLogits.empty(encoded.lengths)
    for rows, part in _outputs(model, encoded, pad_token_id, control, description):
        for window, own in zip(rows.tolist(), part, strict=True):
            logits.window(window)[:] = own[: encoded.lengths[window]]
    return logits


def _outputs(
    model: "PreTrainedModel", encoded: Encoded, pad_token_id: int, control: Control, description: str | None
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Positions of a batch's rows and the model's outputs for them, batch by batch."""
    progress = control.progress if description else Control().progress
    progress.start(description or "", len(encoded.lengths), unit="row")
    for rows, batch in batches_for(model, encoded, pad_token_id=pad_token_id, control=control):
        with torch.inference_mode():
            part = task_logits(model, batch).float().cpu().numpy()
        yield rows, part
        progress.advance(len(rows), tokens=int(encoded.lengths[rows].sum()))
    progress.finish()


def batches_for(
    model: "PreTrainedModel",
    encoded: Encoded,
    *,
    pad_token_id: int,
    control: Control,
    chosen: NDArray[np.int64] | None = None,
) -> Iterator[tuple[NDArray[np.int64], dict[str, torch.Tensor]]]:
    """Rows as a model's inputs, in batches of similar length; the model is put into evaluation mode.

    Args:
        model: the model.
        encoded: rows.
        pad_token_id: token that fills short sequences.
        control: whether to stop.
        chosen: positions of the rows to take; None takes all.

    Yields:
        Positions of a batch's rows, and its tensors on the model's device.

    Raises:
        Interrupted: a stop was asked for.
    """
    model.eval()
    device = next(model.parameters()).device
    positions = np.arange(len(encoded.lengths)) if chosen is None else chosen
    for part in _batches(encoded.lengths[positions], TOKENS_A_BATCH[device.type]):
        control.check()
        rows = positions[part]
        batch = collate(encoded, rows, pad_token_id)
        yield rows, {name: tensor.to(device) for name, tensor in model_inputs(model, batch).items()}


def _batches(lengths: NDArray[np.int64], tokens: int) -> list[NDArray[np.int64]]:
    """Rows from long to short, cut into batches of at most so many padded tokens (or one row)."""
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        size = max(1, tokens // int(lengths[order[start]]))
        batches.append(order[start : start + size])
        start += size
    return batches
