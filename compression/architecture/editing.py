"""What every method that edits a shape does: load any encoder as one of ours, and build it anew in another shape."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
import transformers
from torch import Tensor

from compression.architecture.checkpoint import check_report, check_weights, load_encoder_config, quiet_transformers
from compression.architecture.conversion import config_of, to_bertpress
from compression.architecture.encoder.modeling_bertpress import BertpressModel, BertpressPreTrainedModel
from compression.architecture.registration import AUTO_CLASSES
from compression.architecture.shape import EncoderShape, shape_of
from compression.errors import CheckpointError, UserError

Model = TypeVar("Model", bound=BertpressPreTrainedModel)


def load_editable(folder: Path) -> BertpressPreTrainedModel:
    """Load a model with the head that it was saved with, as an encoder of any shape, in fp32.

    Args:
        folder: folder of a BERT, DistilBERT, ALBERT or bertpress model.

    Returns:
        The model in evaluation mode; nothing in it is initialised afresh.

    Raises:
        CheckpointError: the folder is missing, damaged or incomplete.
        UserError: its architecture is none of these.
    """
    config = load_encoder_config(folder)
    shape_of(config.to_dict())  # refuses other architectures before anything is read
    check_weights(folder)
    named = (getattr(config, "architectures", None) or ["Model"])[0]
    ours = {model.__name__: model for _, model in AUTO_CLASSES.values()}
    made = ours.get(named) or getattr(transformers, named, None) or transformers.AutoModel
    try:
        with quiet_transformers():
            model, report = made.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # judged below, name by name
            )
    except Exception as error:
        raise CheckpointError(f"{folder} cannot be loaded as a {named}: {error}") from error
    if _only_the_pooler(report["missing_keys"]):
        model.base_model.pooler = None
        report["missing_keys"] = set()
    check_report(folder, model, report, fresh_head_allowed=False)
    return to_bertpress(model)


def _only_the_pooler(missing: set[str]) -> bool:
    """Bare encoders are often saved without their pooler, which has no place in masked-language modelling."""
    return bool(missing) and all(name.startswith("pooler.") for name in missing)


def rebuilt(model: Model, shape: EncoderShape, weights: Mapping[str, Tensor], **settings: Any) -> Model:
    """The same kind of model in another shape.

    Args:
        model: model whose class, settings and head are kept.
        shape: the new shape.
        weights: its weights by name, all of them; tied ones may be left out. Copied.
        settings: fields of the configuration that change besides the shape.

    Returns:
        The model in the given one's training or evaluation mode.

    Raises:
        UserError: the weights are not those of the shape; names the first that is wrong.

    Example:
        >>> from compression.architecture.encoder.configuration_bertpress import BertpressConfig
        >>> from compression.architecture.conversion import shape_of_model
        >>> small = BertpressModel(BertpressConfig.regular(layers=1, hidden_size=8, heads=2, intermediate_size=4))
        >>> rebuilt(small, shape_of_model(small), small.state_dict()) is small
        False
    """
    config = config_of(shape, model.config, **settings)
    options = {"add_pooling_layer": model.pooler is not None} if isinstance(model, BertpressModel) else {}
    # Initialising would draw random numbers and take long: every weight is given.
    with torch.device("meta"):
        made = type(model)(config, **options)
    given = {name: tensor.detach().clone() for name, tensor in weights.items()}
    made.load_state_dict(given, strict=False, assign=True)
    made.tie_weights()
    empty = sorted(name for name, tensor in made.state_dict().items() if tensor.is_meta)
    foreign = sorted(given.keys() - made.state_dict().keys())
    if empty or foreign:
        raise UserError(f"the weights do not fit the new shape: {(empty or foreign)[0]}")
    made.config._attn_implementation_internal = model.config._attn_implementation
    made.train(model.training)
    return made


def base_of(model: BertpressPreTrainedModel) -> BertpressModel:
    """The encoder of a model with or without a head.

    Args:
        model: a model of ours.

    Returns:
        The encoder itself.
    """
    return model if isinstance(model, BertpressModel) else model.encoder


def prefix_of(model: BertpressPreTrainedModel) -> str:
    """What the names of the encoder's weights start with in a model's state.

    Args:
        model: a model of ours.

    Returns:
        `encoder.`, or nothing for the bare encoder.
    """
    return "" if isinstance(model, BertpressModel) else "encoder."
