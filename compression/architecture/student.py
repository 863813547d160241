"""Students: a published shape with random weights, or chosen layers of the pretrained encoder."""

import copy
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModelForQuestionAnswering, AutoModelForSequenceClassification, BertConfig

from compression.architecture.checkpoint import load_encoder_config, load_task_model
from compression.architecture.config import StudentConfig
from compression.architecture.conversion import config_of, shape_of_model, to_bertpress
from compression.architecture.editing import base_of, rebuilt
from compression.architecture.encoder.modeling_bertpress import (
    BertpressForMaskedLM,
    BertpressModel,
    BertpressPreTrainedModel,
)
from compression.architecture.labels import label_fields
from compression.architecture.masked_lm import load_masked_lm, new_masked_lm
from compression.architecture.presets import PRESETS
from compression.architecture.shape import EncoderShape, renumbered
from compression.architecture.student_shape import with_layers
from compression.errors import UserError
from compression.problems import Problem

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

_LAYER_NAME = re.compile(r"^(?P<before>.*\.layer\.)(?P<index>\d+)(?P<after>\..*)$")
_BLOCK_NAME = re.compile(r"^(?P<before>(.*\.)?)(?P<kind>attention|feed_forward)\.(?P<index>\d+)(?P<after>\..*)$")


def build_student(
    config: StudentConfig, encoder_folder: Path, *, labels: tuple[str, ...], problem: Problem, seed: int
) -> "PreTrainedModel":
    """Make a student with a fresh head for a task.

    A preset has random weights (Devlin et al. 2018, normal with standard deviation 0.02) over the pretrained encoder's
    vocabulary and positions; it is a plain BERT where a BERT can have its shape.

    Chosen layers are copied, with the embeddings and the pooler unless the configuration leaves them out. DistilBERT
    (arXiv:1910.01108, section 3) keeps the word and position embeddings and drops token types and pooler: `layers:
    distilbert, token_types: false, pooler: false`.

    Args:
        config: preset or layers.
        encoder_folder: pretrained encoder.
        labels: label names in order of class index; empty for regression and spans.
        problem: what the head predicts.
        seed: seed of whatever is initialised at random.

    Returns:
        The student in evaluation mode.

    Raises:
        UserError: layers that the encoder does not have.
        CheckpointError: the encoder's folder cannot be used.
    """
    if config.preset is not None:
        made = preset_config(config.preset, encoder_folder, **label_fields(labels, problem))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            auto = AutoModelForQuestionAnswering if problem == "span" else AutoModelForSequenceClassification
            return auto.from_config(made).eval()
    source = load_task_model(encoder_folder, labels=labels, problem=problem, seed=seed)
    return take_layers(source, config, seed=seed)


def build_encoder(config: StudentConfig, encoder_folder: Path, *, seed: int) -> BertpressModel:
    """Make a student without a head, as an encoder of any shape.

    Args:
        config: preset or layers.
        encoder_folder: pretrained encoder.
        seed: seed of whatever is initialised at random.

    Returns:
        The encoder in evaluation mode, with the weights that `build_student` gives it at the same seed.

    Raises:
        UserError: a layer that the encoder does not have.
        CheckpointError: the encoder's folder cannot be used.
    """
    classifier = build_student(config, encoder_folder, labels=("0", "1"), problem="classification", seed=seed)
    return base_of(to_bertpress(classifier))


def build_masked_lm_student(
    config: StudentConfig, encoder_folder: Path, *, sentence_head: bool = False, seed: int
) -> "PreTrainedModel":
    """Make a student with a masked-LM head.

    Args:
        config: preset or layers; see `build_student`. Chosen layers come with the encoder's own masked-LM head, if any.
        encoder_folder: pretrained encoder.
        sentence_head: whether the student also classifies sentence pairs.
        seed: seed of whatever is initialised at random.

    Returns:
        The student in evaluation mode.

    Raises:
        UserError: layers that the encoder does not have, or an architecture without such heads.
        CheckpointError: the encoder's folder cannot be used.
    """
    if config.preset is not None:
        made = preset_config(config.preset, encoder_folder)
        return new_masked_lm(made, sentence_head=sentence_head, seed=seed)
    source = load_masked_lm(encoder_folder, sentence_head=sentence_head, seed=seed)
    return take_layers(source, config, seed=seed)


def preset_config(name: str, encoder_folder: Path, **fields: Any) -> "PretrainedConfig":
    """Configuration of a preset over the pretrained encoder's vocabulary and positions.

    Args:
        name: the preset.
        encoder_folder: pretrained encoder.
        fields: further fields.

    Returns:
        A plain BERT's where a BERT can have the shape, else one of the encoder of any shape.

    Raises:
        CheckpointError: the encoder's folder cannot be used.
    """
    encoder = load_encoder_config(encoder_folder)
    preset = PRESETS[name]
    kept = {
        "vocab_size": encoder.vocab_size,
        "max_position_embeddings": encoder.max_position_embeddings,
        "type_vocab_size": getattr(encoder, "type_vocab_size", 2) if preset.type_vocab_size else 0,
    }
    settings = {"pad_token_id": encoder.pad_token_id, "hidden_act": preset.hidden_act, **fields}
    if not preset.is_bert:
        return config_of(preset.shape(**kept), **settings)
    return BertConfig(
        num_hidden_layers=preset.layers,
        hidden_size=preset.hidden_size,
        num_attention_heads=preset.heads,
        intermediate_size=preset.intermediate_size,
        **kept,
        **settings,
    )


def take_layers(source: "PreTrainedModel", config: StudentConfig, *, seed: int) -> "PreTrainedModel":
    """Make a student of some layers of an encoder, keeping its head.

    Args:
        source: BERT, DistilBERT or bertpress model, with any head or none; left as it is.
        config: which layers, and what else is copied.
        seed: seed of what is not copied.

    Returns:
        The student in evaluation mode: of the source's own class, or of ours where it gives up its token types.

    Raises:
        UserError: layers that the encoder does not have, or an encoder whose layers share their weights.
    """
    if not config.token_types:
        source = _without_token_types(to_bertpress(source))
    layers = config.chosen_layers(source.config.num_hidden_layers)
    if isinstance(source, BertpressPreTrainedModel):
        shape, weights = chosen_blocks(source, layers)
        student_config = config_of(shape, source.config)
    else:
        weights = _chosen_layers(source, layers)
        student_config = copy.deepcopy(source.config)
        student_config.num_hidden_layers = len(layers)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = type(source)(student_config)
    pooler = getattr(source.base_model, "pooler", None)
    if pooler is not None and getattr(student.base_model, "pooler", None) is None:
        # Masked language models are made without a pooler; this source kept its encoder's all the same.
        if config.pooler:
            student.base_model.pooler = copy.deepcopy(pooler)
        else:
            weights = {name: tensor for name, tensor in weights.items() if ".pooler." not in name}
    fresh = _fresh_weights(student, [part for part in ("embeddings", "pooler") if not getattr(config, part)])
    student.load_state_dict(weights | fresh)
    return student.eval()


def _fresh_weights(student: "PreTrainedModel", parts: list[str]) -> dict[str, torch.Tensor]:
    """Weights of parts of the encoder as they are, and whatever is tied to them, such as a masked-LM decoder."""
    prefix = "" if student.base_model is student else f"{student.base_model_prefix}."
    weights = student.state_dict(keep_vars=True)
    own = {id(weights[name]) for name in weights for part in parts if name.startswith(f"{prefix}{part}.")}
    return {name: tensor.detach().clone() for name, tensor in weights.items() if id(tensor) in own}


def _without_token_types(source: BertpressPreTrainedModel) -> BertpressPreTrainedModel:
    shape = shape_of_model(source).edited(type_vocab_size=0)
    left_out = [".token_type_embeddings."]
    if isinstance(source, BertpressForMaskedLM) and not source.config.sentence_head:
        left_out.append(".pooler.")  # it is made without one, and may have kept its encoder's
    weights = {
        name: tensor for name, tensor in source.state_dict().items() if not any(part in name for part in left_out)
    }
    return rebuilt(source, shape, weights)


def _chosen_layers(source: "PreTrainedModel", layers: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """Weights of the chosen layers, renumbered from 0, and all weights outside the layers."""
    weights = source.state_dict()
    present = {int(match["index"]) for match in map(_LAYER_NAME.match, weights) if match}
    if present != set(range(source.config.num_hidden_layers)):
        raise UserError(
            "students from layers need an encoder that keeps its layers apart; "
            f"this one is a {source.config.model_type!r} model, which does not"
        )
    position = {index: new for new, index in enumerate(layers)}
    chosen = {}
    for name, tensor in weights.items():
        match = _LAYER_NAME.match(name)
        if match is None:
            chosen[name] = tensor
        elif int(match["index"]) in position:
            chosen[f"{match['before']}{position[int(match['index'])]}{match['after']}"] = tensor
    return chosen


def chosen_blocks(
    source: BertpressPreTrainedModel, layers: tuple[int, ...]
) -> tuple[EncoderShape, dict[str, torch.Tensor]]:
    """Shape and weights of some layers of one of our encoders, and all weights outside the layers.

    Args:
        source: the encoder, with any head or none.
        layers: the layers, counted from 0, in their new order; those that share a block go on sharing it.

    Returns:
        The shape, and its weights by name; the tensors themselves, not copies.
    """
    shape = shape_of_model(source)
    old = {
        kind: renumbered([getattr(shape, f"{kind}_blocks")[layer] for layer in layers])[1]
        for kind in ("attention", "feed_forward")
    }
    chosen = {}
    for name, tensor in source.state_dict().items():
        match = _BLOCK_NAME.match(name)
        if match is None:
            chosen[name] = tensor
        elif int(match["index"]) in old[match["kind"]]:
            new = old[match["kind"]].index(int(match["index"]))
            chosen[f"{match['before']}{match['kind']}.{new}{match['after']}"] = tensor
    return with_layers(shape, layers), chosen
