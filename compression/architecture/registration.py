"""Tells transformers' Auto classes of the encoder of any shape; importing this module is enough."""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
)

from compression.architecture.encoder.configuration_bertpress import MODEL_TYPE, BertpressConfig
from compression.architecture.encoder.modeling_bertpress import (
    BertpressForMaskedLM,
    BertpressForQuestionAnswering,
    BertpressForSequenceClassification,
    BertpressModel,
)

AUTO_CLASSES = {
    "AutoModel": (AutoModel, BertpressModel),
    "AutoModelForMaskedLM": (AutoModelForMaskedLM, BertpressForMaskedLM),
    "AutoModelForSequenceClassification": (AutoModelForSequenceClassification, BertpressForSequenceClassification),
    "AutoModelForQuestionAnswering": (AutoModelForQuestionAnswering, BertpressForQuestionAnswering),
}
"""Name of each Auto class -> the class itself, and the model that it gives."""

# A module that is reloaded, as in a notebook, would otherwise register twice, which transformers refuses.
AutoConfig.register(MODEL_TYPE, BertpressConfig, exist_ok=True)
for _auto, _model in AUTO_CLASSES.values():
    _auto.register(BertpressConfig, _model, exist_ok=True)
