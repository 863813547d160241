"""Checkpoints: ordinary folders of config, safetensors weights and tokenizer, that `from_pretrained` loads."""

import copy
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)
from transformers.utils import logging as transformers_logging

from compression.architecture import registration  # noqa: F401  # the encoder of any shape
from compression.architecture.labels import label_fields
from compression.errors import CheckpointError
from compression.problems import Problem

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

_WEIGHTS, _SHARD_INDEX = "model.safetensors", "model.safetensors.index.json"
_TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model")
_SPAN_ARCHITECTURE = "ForQuestionAnswering"
_LAYER_KEY = re.compile(r"(^|\.)(layer|attention|feed_forward)\.\d+\.")
# Written by transformers about where a tokenizer was read from; not a property of the tokenizer.
_PROVENANCE = ("is_local", "local_files_only", "name_or_path")


def load_encoder_config(folder: Path) -> "PretrainedConfig":
    """Read the architecture of a model folder.

    Args:
        folder: model folder.

    Returns:
        The transformers configuration.

    Raises:
        CheckpointError: the folder or its `config.json` is missing, damaged or of an unknown architecture.
    """
    if not folder.is_dir():
        raise CheckpointError(f"model folder {folder} does not exist")
    path = folder / "config.json"
    try:
        declared = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} is not a model folder: it has no config.json") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    if not isinstance(declared, dict) or "model_type" not in declared:
        raise CheckpointError(f"{path} names no `model_type`: not a transformers model")
    if "quantization_config" in declared:
        raise CheckpointError(f"{folder} is a quantized model: it can be evaluated, but not trained or copied from")
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises whatever its config classes raise
        raise CheckpointError(f"{path} cannot be read as a {declared['model_type']!r} model: {error}") from error


def load_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    """Load the tokenizer of a model folder.

    Args:
        folder: model folder.

    Returns:
        The tokenizer.

    Raises:
        CheckpointError: there is none, or it cannot be read, or it cannot pad.
    """
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise CheckpointError(f"{folder} has no tokenizer: none of {', '.join(_TOKENIZER_FILES)}")
    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the Rust tokenizers raise bare Exception
        raise CheckpointError(f"the tokenizer in {folder} cannot be read: {error}") from error
    if tokenizer.pad_token_id is None:
        raise CheckpointError(f"the tokenizer in {folder} has no padding token")
    return tokenizer


def load_classifier(
    folder: Path, *, labels: tuple[str, ...] | None = None, problem: Problem = "classification", seed: int = 0
) -> "PreTrainedModel":
    """Load a sequence classifier in fp32, giving an encoder a fresh head when it has none of the right size.

    Args:
        folder: model folder with safetensors weights.
        labels: label names in order of class index, empty for regression; None takes the folder's own head as it is.
        problem: what the head predicts; used with `labels`.
        seed: seed of a fresh head.

    Returns:
        The model in evaluation mode. Only a head (and the pooler of an encoder that was saved without one) is ever
        initialised: encoder weights come from the folder or not at all.

    Raises:
        CheckpointError: the folder is missing, truncated, foreign, pickle-only, or lacks encoder weights.
    """
    fields = None if labels is None else label_fields(labels, problem)
    return _load(AutoModelForSequenceClassification, "sequence classifier", folder, fields, seed)


def load_question_answering(folder: Path, *, fresh_head: bool = False, seed: int = 0) -> "PreTrainedModel":
    """Load a model that scores starts and ends of spans in fp32, giving an encoder a fresh head when it has none.

    Args:
        folder: model folder with safetensors weights.
        fresh_head: whether a folder without such a head may be given one.
        seed: seed of a fresh head.

    Returns:
        The model in evaluation mode; encoder weights come from the folder or not at all.

    Raises:
        CheckpointError: the folder is missing, truncated, foreign, pickle-only, or lacks weights.
    """
    fields = label_fields((), "span") if fresh_head else None
    return _load(AutoModelForQuestionAnswering, "question-answering model", folder, fields, seed)


def load_task_model(
    folder: Path, *, labels: tuple[str, ...] | None = None, problem: Problem | None = None, seed: int = 0
) -> "PreTrainedModel":
    """Load a model with a head for a task: a classifier, a regressor or a span model.

    Args:
        folder: model folder with safetensors weights.
        labels: see `load_classifier`; used with `problem`.
        problem: what the head predicts; an encoder without such a head is given a fresh one. None takes the folder's
            own head as it is.
        seed: seed of a fresh head.

    Returns:
        The model in evaluation mode.

    Raises:
        CheckpointError: as `load_classifier`.
    """
    if problem is None:
        own = task_auto_class(getattr(load_encoder_config(folder), "architectures", None))
        return load_question_answering(folder) if own is AutoModelForQuestionAnswering else load_classifier(folder)
    if problem == "span":
        return load_question_answering(folder, fresh_head=True, seed=seed)
    return load_classifier(folder, labels=labels or (), problem=problem, seed=seed)


def task_auto_class(architectures: Sequence[str] | None) -> Any:
    """The Auto class of transformers that loads a model with its head for a task.

    Args:
        architectures: what the model's `config.json` names.

    Returns:
        `AutoModelForQuestionAnswering` for a span model, else `AutoModelForSequenceClassification`.

    Example:
        >>> task_auto_class(["BertForQuestionAnswering"]).__name__
        'AutoModelForQuestionAnswering'
    """
    spans = any(name.endswith(_SPAN_ARCHITECTURE) for name in architectures or ())
    return AutoModelForQuestionAnswering if spans else AutoModelForSequenceClassification


def _load(auto_class: Any, kind: str, folder: Path, fields: dict[str, Any] | None, seed: int) -> "PreTrainedModel":
    """Load a model with a head; `fields` of the configuration describe a head that may be fresh."""
    config = load_encoder_config(folder)
    check_weights(folder)
    for name, value in (fields or {}).items():
        setattr(config, name, value)
    try:
        with quiet_transformers(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model, report = auto_class.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # judged below, name by name
                output_loading_info=True,
            )
    except Exception as error:
        raise CheckpointError(f"{folder} cannot be loaded as a {kind}: {error}") from error
    check_report(folder, model, report, fresh_head_allowed=fields is not None)
    return model.eval()


def save_checkpoint(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", folder: Path) -> None:
    """Write a folder that `from_pretrained` loads; the same weights give the same bytes.

    Args:
        model: model to save; shared weights are stored once.
        tokenizer: its tokenizer.
        folder: folder to write into, created when absent.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with quiet_transformers():
        model.save_pretrained(folder)
    save_tokenizer(tokenizer, folder)


def save_tokenizer(tokenizer: "PreTrainedTokenizerBase", folder: Path) -> None:
    """Write a tokenizer's files, without the padding and truncation that its last call left switched on.

    Args:
        tokenizer: the tokenizer.
        folder: folder to write into.
    """
    clean = copy.deepcopy(tokenizer)
    backend = getattr(clean, "backend_tokenizer", None)
    if backend is not None:
        backend.no_padding()
        backend.no_truncation()
    for name in _PROVENANCE:
        clean.init_kwargs.pop(name, None)
    clean.save_pretrained(folder)


def count_parameters(model: nn.Module) -> int:
    """Number of parameters, shared tensors counted once.

    Args:
        model: any module.

    Returns:
        Number of scalar parameters, trainable or not.

    Example:
        >>> linear = nn.Linear(3, 2)
        >>> count_parameters(nn.ModuleList([linear, linear]))
        8
    """
    elements = sum(parameter.numel() for parameter in model.parameters())
    # Some formats store weights in buffers, perhaps several in one element.
    return elements + sum(getattr(module, "uncounted_parameters", 0) for module in model.modules())


def check_weights(folder: Path) -> None:
    """Check that every weight file is there and whole, without reading the weights.

    Args:
        folder: model folder.

    Raises:
        CheckpointError: a file is missing, truncated, or only there as a pickle.
    """
    index = folder / _SHARD_INDEX
    if index.is_file():
        try:
            files = sorted(
                {folder / name for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}
            )
        except (UnicodeDecodeError, json.JSONDecodeError, KeyError, AttributeError, TypeError) as error:
            raise CheckpointError(f"{index} is damaged: {error}") from error
    else:
        files = [folder / _WEIGHTS]
    for file in files:
        if not file.is_file():
            pickles = sorted(path.name for path in folder.glob("pytorch_model*.bin"))
            reason = (
                f"only {', '.join(pickles)}, a pickle, which can run code when loaded and is never loaded here; "
                "convert it to safetensors on a machine you can spare"
                if pickles
                else "no such file"
            )
            raise CheckpointError(f"{folder} lacks {file.name}: {reason}")
        try:
            with safe_open(file, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{file} is truncated or damaged: {error}") from error


def check_report(folder: Path, model: "PreTrainedModel", report: dict[str, Any], *, fresh_head_allowed: bool) -> None:
    """Judge what transformers reports of loading a model.

    Args:
        folder: where it was loaded from.
        model: the model.
        report: the loading information.
        fresh_head_allowed: whether a head may have been initialised.

    Raises:
        CheckpointError: more than a head was initialised, or layers of the file were ignored.
    """
    encoder_prefix = f"{model.base_model_prefix}."
    pooler_prefix = f"{encoder_prefix}pooler."
    missing = set(report["missing_keys"])
    mismatched = {entry[0]: entry[1:] for entry in report["mismatched_keys"]}
    head = {name for name in missing | set(mismatched) if not name.startswith(encoder_prefix)}
    if head and not fresh_head_allowed:
        raise CheckpointError(f"{folder} has no head that fits its config.json: {_some(head)}")
    wrong = {name for name in mismatched if name.startswith(encoder_prefix)}
    if wrong:
        name = min(wrong)
        stored, expected = (tuple(shape) for shape in mismatched[name])
        raise CheckpointError(
            f"{folder}: {name} has shape {stored}, but config.json asks for {expected} ({len(wrong)} such weights)"
        )
    lost = missing - head
    if head:  # an encoder saved without its pooler, as masked language models are
        lost = {name for name in lost if not name.startswith(pooler_prefix)}
    if lost:
        raise CheckpointError(f"{folder} lacks encoder weights: {_some(lost)}")
    ignored = {name for name in report["unexpected_keys"] if _LAYER_KEY.search(name)}
    if ignored:
        raise CheckpointError(f"{folder} holds layers that its config.json does not declare: {_some(ignored)}")


def _some(names: set[str]) -> str:
    first = sorted(names)[:3]
    return ", ".join(first) + (f" and {len(names) - len(first)} more" if len(names) > len(first) else "")


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep progress bars and load reports off the terminal; who loads judges the report."""
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
