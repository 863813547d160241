"""Names of the same weights in BERT, DistilBERT, ALBERT and the encoder of any shape."""

from collections.abc import Mapping
from dataclasses import dataclass

from compression.architecture.shape import EncoderShape

OWN_PREFIX = "encoder"


@dataclass(frozen=True)
class Family:
    """An architecture of transformers that the encoder of any shape can express.

    Attributes:
        prefix: what the names of an encoder's weights start with in a model that has a head.
        layer: module of one layer, by our name without kind and block -> theirs; `{n}` is the layer's place.
        outside: modules outside the layers, ours -> theirs.
        heads: modules of heads, ours -> theirs.
        bias: name of the masked-LM head's output bias, where it is a weight of its own.
        settings: our configuration field -> theirs, for what is no shape.
    """

    prefix: str
    layer: Mapping[str, str]
    outside: Mapping[str, str]
    heads: Mapping[str, str]
    bias: str | None
    settings: Mapping[str, str]

    def modules(self, shape: EncoderShape) -> dict[str, str]:
        """Modules of the encoder and its heads.

        Args:
            shape: the encoder's shape; its blocks are numbered as the family numbers its layers.

        Returns:
            Our name -> theirs, with the prefix of a model that has a head.
        """
        names = {f"{OWN_PREFIX}.{ours}": f"{self.prefix}.{theirs}" for ours, theirs in self.outside.items()}
        for kind, count in (("attention", len(shape.attention_heads)), ("feed_forward", len(shape.intermediate_sizes))):
            for block in range(count):
                for ours, theirs in self.layer.items():
                    part, _, module = ours.partition(".")
                    if part == kind:
                        names[f"{OWN_PREFIX}.{kind}.{block}.{module}"] = f"{self.prefix}.{theirs.format(n=block)}"
        return names | dict(self.heads)


_EMBEDDINGS = {
    f"embeddings.{name}": f"embeddings.{name}"
    for name in ("word_embeddings", "position_embeddings", "token_type_embeddings", "LayerNorm")
}
_BERT_SETTINGS = {
    name: name
    for name in (
        "hidden_act",
        "hidden_dropout_prob",
        "attention_probs_dropout_prob",
        "classifier_dropout",
        "initializer_range",
        "layer_norm_eps",
        "pad_token_id",
        "tie_word_embeddings",
    )
}

FAMILIES: dict[str, Family] = {
    "bert": Family(
        prefix="bert",
        layer={
            "attention.query": "encoder.layer.{n}.attention.self.query",
            "attention.key": "encoder.layer.{n}.attention.self.key",
            "attention.value": "encoder.layer.{n}.attention.self.value",
            "attention.output": "encoder.layer.{n}.attention.output.dense",
            "attention.LayerNorm": "encoder.layer.{n}.attention.output.LayerNorm",
            "feed_forward.intermediate": "encoder.layer.{n}.intermediate.dense",
            "feed_forward.output": "encoder.layer.{n}.output.dense",
            "feed_forward.LayerNorm": "encoder.layer.{n}.output.LayerNorm",
        },
        outside=_EMBEDDINGS | {"pooler.dense": "pooler.dense"},
        heads={
            "head.dense": "cls.predictions.transform.dense",
            "head.LayerNorm": "cls.predictions.transform.LayerNorm",
            "head.decoder": "cls.predictions.decoder",
            "sentence_classifier": "cls.seq_relationship",
            "classifier": "classifier",
            "qa_outputs": "qa_outputs",
        },
        bias="cls.predictions.bias",
        settings=_BERT_SETTINGS,
    ),
    "distilbert": Family(
        prefix="distilbert",
        layer={
            "attention.query": "transformer.layer.{n}.attention.q_lin",
            "attention.key": "transformer.layer.{n}.attention.k_lin",
            "attention.value": "transformer.layer.{n}.attention.v_lin",
            "attention.output": "transformer.layer.{n}.attention.out_lin",
            "attention.LayerNorm": "transformer.layer.{n}.sa_layer_norm",
            "feed_forward.intermediate": "transformer.layer.{n}.ffn.lin1",
            "feed_forward.output": "transformer.layer.{n}.ffn.lin2",
            "feed_forward.LayerNorm": "transformer.layer.{n}.output_layer_norm",
        },
        outside=_EMBEDDINGS,
        heads={
            f"{OWN_PREFIX}.pooler.dense": "pre_classifier",
            "head.dense": "vocab_transform",
            "head.LayerNorm": "vocab_layer_norm",
            "head.decoder": "vocab_projector",
            "classifier": "classifier",
            "qa_outputs": "qa_outputs",
        },
        bias=None,
        settings={
            "hidden_act": "activation",
            "hidden_dropout_prob": "dropout",
            "attention_probs_dropout_prob": "attention_dropout",
            "classifier_dropout": "seq_classif_dropout",
            "initializer_range": "initializer_range",
            "pad_token_id": "pad_token_id",
            "tie_word_embeddings": "tie_word_embeddings",
        },
    ),
    "albert": Family(
        prefix="albert",
        layer={
            "attention.query": "encoder.albert_layer_groups.{n}.albert_layers.0.attention.query",
            "attention.key": "encoder.albert_layer_groups.{n}.albert_layers.0.attention.key",
            "attention.value": "encoder.albert_layer_groups.{n}.albert_layers.0.attention.value",
            "attention.output": "encoder.albert_layer_groups.{n}.albert_layers.0.attention.dense",
            "attention.LayerNorm": "encoder.albert_layer_groups.{n}.albert_layers.0.attention.LayerNorm",
            "feed_forward.intermediate": "encoder.albert_layer_groups.{n}.albert_layers.0.ffn",
            "feed_forward.output": "encoder.albert_layer_groups.{n}.albert_layers.0.ffn_output",
            "feed_forward.LayerNorm": "encoder.albert_layer_groups.{n}.albert_layers.0.full_layer_layer_norm",
        },
        outside=_EMBEDDINGS
        | {"embeddings.projection": "encoder.embedding_hidden_mapping_in", "pooler.dense": "pooler"},
        heads={
            "head.dense": "predictions.dense",
            "head.LayerNorm": "predictions.LayerNorm",
            "head.decoder": "predictions.decoder",
            "sentence_classifier": "sop_classifier.classifier",
            "classifier": "classifier",
            "qa_outputs": "qa_outputs",
        },
        bias="predictions.bias",
        settings={
            **{ours: theirs for ours, theirs in _BERT_SETTINGS.items() if ours != "classifier_dropout"},
            "classifier_dropout": "classifier_dropout_prob",
        },
    ),
}
