"""Students: a published shape with random weights, or chosen layers of the pretrained encoder."""

import copy
import re
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import BertConfig, BertForSequenceClassification

from compression.architecture.checkpoint import Problem, load_classifier, load_encoder_config
from compression.architecture.config import StudentConfig
from compression.architecture.conversion import config_of
from compression.architecture.encoder.modeling_bertpress import BertpressForSequenceClassification
from compression.architecture.labels import label_fields
from compression.architecture.presets import PRESETS
from compression.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LAYER_NAME = re.compile(r"^(?P<before>.*\.layer\.)(?P<index>\d+)(?P<after>\..*)$")


def build_student(
    config: StudentConfig, encoder_folder: Path, *, labels: tuple[str, ...], problem: Problem, seed: int
) -> "PreTrainedModel":
    """Make a student with a fresh head for a task.

    A preset has random weights (Devlin et al. 2018, normal with standard deviation 0.02) over the pretrained encoder's
    vocabulary and positions; it is a plain BERT where a BERT can have its shape. Chosen layers are copied together with
    the embeddings and the pooler (the released DistilBERT script, arXiv:1910.01108, leaves the pooler out).

    Args:
        config: preset or layers.
        encoder_folder: pretrained encoder.
        labels: label names in order of class index; empty for regression.
        problem: what the head predicts.
        seed: seed of whatever is initialised at random.

    Returns:
        The student in evaluation mode.

    Raises:
        UserError: a layer that the encoder does not have.
        CheckpointError: the encoder's folder cannot be used.
    """
    if config.preset is not None:
        return _from_preset(config.preset, encoder_folder, labels=labels, problem=problem, seed=seed)
    return _from_layers(config.layers or (), encoder_folder, labels=labels, problem=problem, seed=seed)


def _from_preset(
    name: str, encoder_folder: Path, *, labels: tuple[str, ...], problem: Problem, seed: int
) -> "PreTrainedModel":
    encoder = load_encoder_config(encoder_folder)
    preset = PRESETS[name]
    kept = {
        "vocab_size": encoder.vocab_size,
        "max_position_embeddings": encoder.max_position_embeddings,
        "type_vocab_size": getattr(encoder, "type_vocab_size", 2) if preset.type_vocab_size else 0,
    }
    settings = {"pad_token_id": encoder.pad_token_id, "hidden_act": preset.hidden_act, **label_fields(labels, problem)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if not preset.is_bert:
            return BertpressForSequenceClassification(config_of(preset.shape(**kept), **settings)).eval()
        config = BertConfig(
            num_hidden_layers=preset.layers,
            hidden_size=preset.hidden_size,
            num_attention_heads=preset.heads,
            intermediate_size=preset.intermediate_size,
            **kept,
            **settings,
        )
        return BertForSequenceClassification(config).eval()


def _from_layers(
    layers: tuple[int, ...], encoder_folder: Path, *, labels: tuple[str, ...], problem: Problem, seed: int
) -> "PreTrainedModel":
    source = load_classifier(encoder_folder, labels=labels, problem=problem, seed=seed)
    weights = source.state_dict()
    depth = source.config.num_hidden_layers
    present = {int(match["index"]) for match in map(_LAYER_NAME.match, weights) if match}
    if present != set(range(depth)):
        raise UserError(
            f"students from layers need an encoder that keeps its layers apart; "
            f"{encoder_folder} is a {source.config.model_type!r} model, which does not"
        )
    absent = [index for index in layers if index >= depth]
    if absent:
        raise UserError(
            f"student layer {absent[0]} does not exist: {encoder_folder} has {depth} layers, 0 to {depth - 1}"
        )
    config = copy.deepcopy(source.config)
    config.num_hidden_layers = len(layers)
    with torch.random.fork_rng(devices=[]):
        student = type(source)(config)
    student.load_state_dict(_chosen_layers(weights, layers))
    return student.eval()


def _chosen_layers(weights: dict[str, torch.Tensor], layers: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """Weights of the chosen layers, renumbered from 0, and all weights outside the layers."""
    position = {index: new for new, index in enumerate(layers)}
    chosen = {}
    for name, tensor in weights.items():
        match = _LAYER_NAME.match(name)
        if match is None:
            chosen[name] = tensor
        elif int(match["index"]) in position:
            chosen[f"{match['before']}{position[int(match['index'])]}{match['after']}"] = tensor
    return chosen
