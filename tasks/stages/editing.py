"""What the stages that edit shapes have in common: the rows they look at, and the folder they leave."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.stages.base import StageRequest
from tasks.stages.training import load_data

if TYPE_CHECKING:
    from compression.architecture.encoder.modeling_bertpress import BertpressPreTrainedModel
    from compression.data.encoding import Encoded


def train_rows(request: StageRequest, model: "BertpressPreTrainedModel", folder: Path) -> "Encoded":
    """The task's train rows as word pieces.

    Args:
        request: a request with a task.
        model: the model that will see them.
        folder: where its tokenizer is.

    Returns:
        The rows.

    Raises:
        DataError: files are missing or rows are malformed.
        CheckpointError: the model cannot take the rows, or there is no tokenizer.
    """
    from compression.architecture.checkpoint import load_tokenizer
    from compression.training.predict import encode_for

    data = load_data(request)
    return encode_for(model, data.train, load_tokenizer(folder), data.config, request.control)


def save_edited(
    model: "BertpressPreTrainedModel", source: Path, output: Path, *, details: dict[str, Any], name: str
) -> None:
    """Write an edited model with the tokenizer of the one that it was made of, and a report.

    Args:
        model: the edited model.
        source: folder of the original.
        output: folder to write into.
        details: the whole report, JSON values.
        name: the report's file.
    """
    from compression.architecture.checkpoint import load_tokenizer, save_checkpoint

    save_checkpoint(model, load_tokenizer(source), output)
    (output / name).write_text(json.dumps(details, indent=1) + "\n", encoding="utf-8")
