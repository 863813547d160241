"""Masked language models: encoders with a head that scores the vocabulary, kept or made anew."""

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import MODEL_FOR_MASKED_LM_MAPPING, AutoModel, AutoModelForMaskedLM, AutoModelForPreTraining

from compression.architecture.checkpoint import check_report, check_weights, load_encoder_config, quiet_transformers
from compression.architecture.encoder.configuration_bertpress import MODEL_TYPE
from compression.errors import CheckpointError, UserError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

# Architectures whose pre-training class has a classifier of sentence pairs beside the masked-LM head.
_WITH_SENTENCE_HEAD = ("albert", "bert", MODEL_TYPE)
_SENTENCE_HEADS = ("cls.seq_relationship.", "sop_classifier.", "sentence_classifier.")


def load_masked_lm(
    folder: Path, *, sentence_head: bool = False, fresh_head: bool = True, seed: int = 0
) -> "PreTrainedModel":
    """Load an encoder with a masked-LM head in fp32; one without is given a fresh head, tied to its word embeddings.

    The encoder's pooler is kept, although the masked-LM head has no use for it.

    Args:
        folder: model folder with safetensors weights.
        sentence_head: whether the model also classifies sentence pairs; the folder's own classifier is kept, else a
            fresh one is made. False leaves one that is there out.
        fresh_head: whether an encoder without a masked-LM head is given a fresh one, to be trained.
        seed: seed of fresh heads.

    Returns:
        The model in evaluation mode. Only heads (and the pooler that a sentence head needs) are ever initialised.

    Raises:
        CheckpointError: the folder is missing, truncated, foreign, pickle-only, lacks encoder weights, or has a
            masked-LM head in parts or of another vocabulary; or has none, and a fresh one is not wanted.
        UserError: the architecture has no masked language model, or none with a sentence head.
    """
    config = load_encoder_config(folder)
    check_weights(folder)
    made = _model_class(config, sentence_head=sentence_head)
    try:
        with quiet_transformers(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model, report = made.from_pretrained(folder, config=config, output_loading_info=True, **_SAFELY)
    except Exception as error:
        raise CheckpointError(f"{folder} cannot be loaded as a masked language model: {error}") from error
    check_report(folder, model, report, fresh_head_allowed=True)
    is_fresh = _head_is_fresh(folder, model, report)
    if is_fresh and not fresh_head:
        raise CheckpointError(f"{folder} holds no masked-LM head: it is no model that was trained to fill masks")
    if is_fresh and not config.tie_word_embeddings:
        model.config.tie_word_embeddings = True
        model.tie_weights()
    if any(".pooler." in f".{name}" for name in report["unexpected_keys"]):
        with quiet_transformers():
            model.base_model.pooler = AutoModel.from_pretrained(folder, **_SAFELY).pooler
    return model.eval()


_SAFELY: dict[str, Any] = {
    "dtype": torch.float32,
    "use_safetensors": True,
    "local_files_only": True,
    "trust_remote_code": False,
    "ignore_mismatched_sizes": True,  # judged afterwards, name by name
}


def new_masked_lm(config: "PretrainedConfig", *, sentence_head: bool = False, seed: int = 0) -> "PreTrainedModel":
    """Make a masked language model with random weights.

    Args:
        config: its configuration.
        sentence_head: whether it also classifies sentence pairs.
        seed: seed of the weights.

    Returns:
        The model in evaluation mode.

    Raises:
        UserError: the architecture has no masked language model, or none with a sentence head.

    Example:
        >>> from transformers import BertConfig
        >>> sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
        >>> type(new_masked_lm(BertConfig(vocab_size=20, **sizes))).__name__
        'BertForMaskedLM'
    """
    made = _model_class(config, sentence_head=sentence_head)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return made.from_config(config).eval()


def _model_class(config: "PretrainedConfig", *, sentence_head: bool) -> Any:
    if type(config) not in MODEL_FOR_MASKED_LM_MAPPING:
        raise UserError(f"a {config.model_type!r} model has no masked-LM head")
    if sentence_head and config.model_type not in _WITH_SENTENCE_HEAD:
        raise UserError(
            f"a {config.model_type!r} model has no sentence head; allowed: {', '.join(_WITH_SENTENCE_HEAD)}"
        )
    if config.model_type == MODEL_TYPE:
        config.sentence_head = sentence_head
        return AutoModelForMaskedLM
    return AutoModelForPreTraining if sentence_head else AutoModelForMaskedLM


def _head_is_fresh(folder: Path, model: "PreTrainedModel", report: dict[str, Any]) -> bool:
    """Whether the masked-LM head was initialised as a whole; one that is there in parts is damaged."""
    encoder = {tensor.data_ptr() for tensor in model.base_model.state_dict().values()}
    own = {
        name
        for name, tensor in model.state_dict().items()
        if tensor.data_ptr() not in encoder and not name.startswith(_SENTENCE_HEADS)
    }
    misshapen = own & {entry[0] for entry in report["mismatched_keys"]}
    missing = own & set(report["missing_keys"])
    if misshapen or (missing and missing != own):
        state, name = ("another shape", min(misshapen)) if misshapen else ("no", min(missing))
        raise CheckpointError(f"{folder}: the masked-LM head is incomplete or foreign: {state} {name}")
    return bool(missing)


class MaskedLanguageModel(nn.Module):
    """A masked language model whose head is computed at chosen positions alone.

    With a vocabulary of 30,000 the head costs more than a small encoder, and only masked positions, some 15 %, have a
    loss.

    Args:
        model: any masked language model of transformers.

    Example:
        >>> from transformers import BertConfig
        >>> sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
        >>> model = MaskedLanguageModel(new_masked_lm(BertConfig(vocab_size=20, **sizes)))
        >>> logits, sentence_logits = model(torch.tensor([1, 2]), input_ids=torch.tensor([[2, 5, 6, 3]]))
        >>> logits.shape, sentence_logits is None
        (torch.Size([2, 20]), True)
    """

    def __init__(self, model: "PreTrainedModel") -> None:
        super().__init__()
        self.model = model
        self.train(model.training)  # a new module would say of itself that it is training

    def forward(self, positions: Tensor, **inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Score the vocabulary at some positions.

        Args:
            positions: (n,) indices into the batch × length positions.
            inputs: the model's inputs.

        Returns:
            (n, vocabulary) logits, and (batch, 2) logits of the sentence head, if there is one.
        """
        if "predict_positions" in inspect.signature(type(self.model).forward).parameters:
            output = self.model(**inputs, predict_positions=positions)
            return output.logits, output.sentence_logits

        def gather(module: nn.Module, arguments: Any, encoded: Any) -> Any:
            del module, arguments
            encoded["last_hidden_state"] = encoded["last_hidden_state"].flatten(0, 1)[positions].unsqueeze(0)
            return encoded

        # Every head of transformers reads the encoder's output and nothing else, whatever the head is called.
        handle = self.model.base_model.register_forward_hook(gather)
        try:
            output = self.model(**inputs, return_dict=True)
        finally:
            handle.remove()
        logits = output["logits"] if "logits" in output else output["prediction_logits"]
        return logits.squeeze(0), _first(output, "seq_relationship_logits", "sop_logits")


def _first(output: Any, *names: str) -> Tensor | None:
    return next((output[name] for name in names if name in output), None)
