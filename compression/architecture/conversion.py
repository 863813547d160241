"""Conversion between transformers' BERT, DistilBERT and ALBERT and the encoder of any shape, weight by weight."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
import transformers
from torch import Tensor

from compression.architecture import registration  # noqa: F401  # tells transformers of our classes
from compression.architecture.encoder.configuration_bertpress import MODEL_TYPE, BertpressConfig
from compression.architecture.encoder.modeling_bertpress import (
    BertpressForMaskedLM,
    BertpressForQuestionAnswering,
    BertpressForSequenceClassification,
    BertpressModel,
    BertpressPreTrainedModel,
)
from compression.architecture.families import FAMILIES, OWN_PREFIX, Family
from compression.architecture.shape import EncoderShape, shape_of
from compression.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_FAMILY_NAMES = {"bert": "Bert", "distilbert": "DistilBert", "albert": "Albert"}
_TASKS: dict[str, type[BertpressPreTrainedModel]] = {
    "Model": BertpressModel,
    "ForPreTraining": BertpressForMaskedLM,
    "ForMaskedLM": BertpressForMaskedLM,
    "ForSequenceClassification": BertpressForSequenceClassification,
    "ForQuestionAnswering": BertpressForQuestionAnswering,
}
# What a configuration says of labels, whatever the architecture.
_LABELS = ("id2label", "label2id", "problem_type")


def shape_of_model(model: "PreTrainedModel") -> EncoderShape:
    """Shape of a model in memory.

    Args:
        model: a BERT, DistilBERT, ALBERT or bertpress model.

    Returns:
        The shape.

    Raises:
        UserError: another architecture.
    """
    return shape_of(model.config.to_dict())


def config_of(shape: EncoderShape, like: Any = None, **fields: Any) -> BertpressConfig:
    """Configuration of a shape.

    Args:
        shape: the shape.
        like: bertpress configuration to take everything else from; None for defaults.
        fields: further fields, over both.

    Returns:
        The configuration.

    Example:
        >>> shape = EncoderShape.regular(layers=2, hidden_size=8, heads=2, intermediate_size=16)
        >>> config_of(shape, hidden_act="relu").num_hidden_layers
        2
    """
    base = {} if like is None else {name: value for name, value in like.to_dict().items() if name not in _GENERATED}
    return BertpressConfig(**{**base, **shape.model_dump(mode="json"), **fields})


_GENERATED = ("model_type", "num_hidden_layers", "transformers_version", "architectures", "auto_map")


def to_bertpress(model: "PreTrainedModel") -> BertpressPreTrainedModel:
    """Turn a model of transformers into the encoder of any shape; its outputs stay the same.

    Args:
        model: BERT, DistilBERT or ALBERT: bare, for masked LM, pre-training, classification or question answering; a
            model that is ours already is returned as it is. Left as it is; the new one has copies of its weights.

    Returns:
        The model in evaluation mode.

    Raises:
        UserError: another architecture or task.

    Example:
        >>> from transformers import BertConfig, BertModel
        >>> plain = BertModel(BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=9))
        >>> pieces = torch.tensor([[1, 2]])
        >>> ours = to_bertpress(plain.eval())
        >>> torch.allclose(ours(pieces).last_hidden_state, plain(pieces).last_hidden_state, atol=1e-5)
        True
    """
    if isinstance(model, BertpressPreTrainedModel):
        return model
    family, task = _family_and_task(model)
    shape = shape_of_model(model)
    _refuse_what_is_unlike(model, task)
    weights = _renamed(model.state_dict(), _to_ours(FAMILIES[family], shape, model.state_dict()))
    sentence = any(name.startswith("sentence_classifier.") for name in weights)
    config = config_of(shape, **_settings(model.config, family, task), sentence_head=sentence)
    made = _TASKS[task]
    options = {}
    if made is BertpressModel:
        options["add_pooling_layer"] = any(name.startswith("pooler.") for name in weights)
    elif made is BertpressForQuestionAnswering or (made is BertpressForMaskedLM and not sentence):
        weights = {name: tensor for name, tensor in weights.items() if not name.startswith(f"{OWN_PREFIX}.pooler.")}
    return _filled(made, config, weights, **options)


def to_plain(model: BertpressPreTrainedModel) -> "PreTrainedModel":
    """Turn an encoder back into transformers' own BERT, DistilBERT or ALBERT, if one of them has its shape.

    Args:
        model: model of ours; left as it is.

    Returns:
        The model in evaluation mode, with copies of the weights.

    Raises:
        UserError: no plain architecture has this shape; says why.
    """
    shape = shape_of_model(model)
    family = plain_family(shape, pooler_activation=model.config.pooler_activation)
    task = next(name for name, made in _TASKS.items() if type(model) is made and name != "ForPreTraining")
    if getattr(model.config, "sentence_head", False) and task == "ForMaskedLM":
        task = "ForPreTraining"
    config_class = getattr(transformers, f"{_FAMILY_NAMES[family]}Config")
    model_class = getattr(transformers, f"{_FAMILY_NAMES[family]}{task}", None)
    if model_class is None:
        raise UserError(f"transformers has no {_FAMILY_NAMES[family]}{task}")
    config = config_class(**_plain_fields(shape, model.config, family))
    options = {}
    if task == "Model" and family != "distilbert":
        options["add_pooling_layer"] = model.pooler is not None
    with torch.random.fork_rng(devices=[]):
        made = model_class(config, **options)
    weights = _renamed(model.state_dict(), _to_theirs(FAMILIES[family], shape, model.state_dict()))
    bias = FAMILIES[family].bias
    if bias is not None and bias in made.state_dict():
        weights[bias] = weights[f"{FAMILIES[family].heads['head.decoder']}.bias"]
    lost = sorted(weights.keys() - made.state_dict().keys())
    if lost:
        raise UserError(f"transformers' {model_class.__name__} has no place for {lost[0]}")
    made.load_state_dict(weights)
    made.tie_weights()
    return made.eval()


def plain_where_possible(model: "PreTrainedModel") -> "PreTrainedModel":
    """An encoder in transformers' own architecture where one has its shape, and as it is otherwise.

    Args:
        model: model of ours, or of transformers; left as it is.

    Returns:
        The plain model, or the given one.

    Example:
        >>> from compression.architecture.encoder.configuration_bertpress import BertpressConfig
        >>> small = BertpressConfig.regular(layers=1, hidden_size=8, heads=2, intermediate_size=4, vocab_size=9)
        >>> type(plain_where_possible(BertpressModel(small))).__name__
        'BertModel'
    """
    if not isinstance(model, BertpressPreTrainedModel):
        return model
    try:
        return to_plain(model)
    except UserError:
        return model


def plain_family(shape: EncoderShape, *, pooler_activation: str = "tanh") -> str:
    """Which plain architecture has a shape.

    Args:
        shape: the shape.
        pooler_activation: `tanh` of BERT and ALBERT, `relu` of DistilBERT's classification head.

    Returns:
        `bert`, `distilbert` or `albert`.

    Raises:
        UserError: none has; says why.

    Example:
        >>> plain_family(EncoderShape.regular(layers=4, hidden_size=8, heads=2, intermediate_size=16))
        'bert'
    """
    reason = _irregularity(shape)
    shared = len(shape.attention_heads) < shape.layers
    if reason is None and (shared or shape.embedding_projection == "all"):
        if shape.embedding_projection != "all":
            reason = "layers share weights, as ALBERT's do, but ALBERT projects its embeddings"
        elif shape.type_vocab_size == 0 or pooler_activation != "tanh":
            reason = "ALBERT has token types and a tanh pooler"
        else:
            return "albert"
    if reason is not None:
        raise UserError(f"no plain BERT, DistilBERT or ALBERT has this shape: {reason}")
    return "bert" if shape.type_vocab_size and pooler_activation == "tanh" else "distilbert"


def _irregularity(shape: EncoderShape) -> str | None:
    """Why no plain architecture has the shape, if none has."""
    heads, widths = set(shape.attention_heads), set(shape.intermediate_sizes)
    count = len(shape.attention_heads)
    even = tuple(layer * count // shape.layers for layer in range(shape.layers))
    reasons = {
        f"its layers have different numbers of heads ({', '.join(map(str, shape.attention_heads))})": len(heads) > 1
        or 0 in heads,
        f"its layers have different feed-forward widths ({', '.join(map(str, shape.intermediate_sizes))})": len(widths)
        > 1
        or 0 in widths,
        f"{max(heads)} heads of {shape.head_size} do not make up {shape.hidden_size}": max(heads) * shape.head_size
        != shape.hidden_size,
        "it has factorised linear maps": bool(shape.ranks),
        "its word embedding is factorised before positions are added": shape.embedding_projection == "word",
        "attention and feed-forward weights are shared differently": shape.attention_blocks
        != shape.feed_forward_blocks,
        f"its layers are not shared in groups of equal size ({list(shape.attention_blocks)})": shape.layers % count > 0
        or shape.attention_blocks != even,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _family_and_task(model: "PreTrainedModel") -> tuple[str, str]:
    name, family = type(model).__name__, str(model.config.model_type)
    task = name.removeprefix(_FAMILY_NAMES.get(family, " "))
    if family not in FAMILIES or task not in _TASKS:
        raise UserError(
            f"a {name} cannot become an encoder of any shape; allowed: {', '.join(_FAMILY_NAMES.values())}, each with "
            f"{', '.join(_TASKS)}"
        )
    return family, task


def _refuse_what_is_unlike(model: "PreTrainedModel", task: str) -> None:
    inner = getattr(model.config, "inner_group_num", 1)
    if inner != 1:
        raise UserError(f"ALBERT with inner_group_num {inner} is not supported; allowed: 1")
    two = {"ForQuestionAnswering": "a question-answering model", "ForPreTraining": "a sentence-pair head"}
    if task in two and model.config.num_labels != 2:
        raise UserError(f"{two[task]} has 2 outputs, not {model.config.num_labels}")


def _to_ours(family: Family, shape: EncoderShape, weights: Mapping[str, Tensor]) -> dict[str, str]:
    """Their names -> ours."""
    bare = not any(name.startswith(f"{family.prefix}.") for name in weights)
    names = {theirs: ours for ours, theirs in family.modules(shape).items()}
    if bare:
        names = {
            theirs.removeprefix(f"{family.prefix}."): ours.removeprefix(f"{OWN_PREFIX}.")
            for theirs, ours in names.items()
        }
    return names


def _to_theirs(family: Family, shape: EncoderShape, weights: Mapping[str, Tensor]) -> dict[str, str]:
    """Our names -> theirs."""
    names = family.modules(shape)
    if any(name.startswith(f"{OWN_PREFIX}.") for name in weights):
        return names
    return {
        ours.removeprefix(f"{OWN_PREFIX}."): theirs.removeprefix(f"{family.prefix}.") for ours, theirs in names.items()
    }


def _renamed(weights: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """Weights under new names; what has none (a bias that a decoder repeats) is left out."""
    found: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        module, _, leaf = name.rpartition(".")
        if module in names:
            found[f"{names[module]}.{leaf}"] = tensor.detach().clone()
    return found


def _settings(config: Any, family: str, task: str) -> dict[str, Any]:
    """Our configuration's fields besides the shape, from theirs."""
    fields = {ours: getattr(config, theirs) for ours, theirs in FAMILIES[family].settings.items()}
    if family == "distilbert":
        fields["pooler_activation"] = "relu"
        if task == "ForQuestionAnswering":
            fields["classifier_dropout"] = config.qa_dropout
    return fields | {name: getattr(config, name) for name in _LABELS}


def _plain_fields(shape: EncoderShape, config: BertpressConfig, family: str) -> dict[str, Any]:
    """Their configuration's fields, from ours."""
    dropout = config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout
    fields = {theirs: getattr(config, ours) for ours, theirs in FAMILIES[family].settings.items()}
    sizes = {"vocab_size": shape.vocab_size, "max_position_embeddings": shape.max_position_embeddings}
    heads, width = shape.attention_heads[0], shape.intermediate_sizes[0]
    if family == "distilbert":
        sizes |= {"n_layers": shape.layers, "dim": shape.hidden_size, "n_heads": heads, "hidden_dim": width}
        fields |= {"seq_classif_dropout": dropout, "qa_dropout": dropout}
    else:
        sizes |= {
            "type_vocab_size": shape.type_vocab_size,
            "num_hidden_layers": shape.layers,
            "hidden_size": shape.hidden_size,
            "num_attention_heads": heads,
            "intermediate_size": width,
        }
    if family == "albert":
        sizes |= {"embedding_size": shape.embedding_size, "num_hidden_groups": len(shape.attention_heads)}
        fields["classifier_dropout_prob"] = dropout
    return sizes | fields | {name: getattr(config, name) for name in _LABELS}


def _filled(
    made: type[BertpressPreTrainedModel], config: BertpressConfig, weights: dict[str, Tensor], **options: Any
) -> BertpressPreTrainedModel:
    """A model of ours with given weights, all of which it must have and no others."""
    with torch.random.fork_rng(devices=[]):
        model = made(config, **options)
    model.load_state_dict(weights)
    model.tie_weights()
    model.eval()
    return model


__all__ = [
    "MODEL_TYPE",
    "config_of",
    "plain_family",
    "plain_where_possible",
    "shape_of_model",
    "to_bertpress",
    "to_plain",
]
