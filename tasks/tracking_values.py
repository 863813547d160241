"""What MLflow can hold: names, lengths, finite numbers; and the one function that writes them."""

import hashlib
import json
import math
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice, zip_longest
from numbers import Real
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

NOTE_TAG = "mlflow.note.content"

# MLflow refuses longer names and cuts longer values.
_NAME_LENGTH = 250
_PARAMETER_LENGTH = 6000
_TAG_LENGTH = 8000
# A request holds at most 1,000 entities, of which 100 parameters and 100 tags.
_METRICS, _PARAMETERS, _TAGS = 800, 100, 100

_NOT_IN_NAMES = re.compile(r"[^\w\-. :/]", re.ASCII)


def flatten(nested: Mapping[str, Any], separator: str = ".") -> dict[str, Any]:
    """Mapping of mappings to one level. Lists stay values.

    Args:
        nested: JSON values.
        separator: put between the names of the levels.

    Returns:
        Joined name -> value; an empty mapping stays as a value.

    Example:
        >>> flatten({"finetune": {"epochs": 3, "optimizer": {"betas": [0.9, 0.999]}}})
        {'finetune.epochs': 3, 'finetune.optimizer.betas': [0.9, 0.999]}
    """
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        if isinstance(value, Mapping) and value:
            flat |= {f"{name}{separator}{inner}": leaf for inner, leaf in flatten(value, separator).items()}
        else:
            flat[str(name)] = value
    return flat


def parameters(nested: Mapping[str, Any]) -> dict[str, str]:
    """Configuration as MLflow parameters: flat, in text, within MLflow's lengths.

    A value too long for MLflow, which would cut it without a word, ends in the hash of the whole.

    Args:
        nested: JSON values.

    Returns:
        Name -> text, written as YAML and JSON write it.

    Example:
        >>> parameters({"student": None, "bucketing": True, "layers": [0, 2], "learning rate*": 3e-5})
        {'student': 'null', 'bucketing': 'true', 'layers': '[0, 2]', 'learning rate_': '3e-05'}
    """
    return {valid_name(name): shorten(text(value), _PARAMETER_LENGTH) for name, value in flatten(nested).items()}


def text(value: Any) -> str:
    """A value as a person writes it in YAML.

    Args:
        value: JSON value, or anything with a text.

    Returns:
        Strings as they are, everything else as JSON.

    Example:
        >>> text("uniform"), text(None), text([1, 2])
        ('uniform', 'null', '[1, 2]')
    """
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def shorten(long: str, limit: int) -> str:
    """Cut a text that is too long; the end names the hash of the whole, so that two of them still compare.

    Args:
        long: text.
        limit: characters allowed.

    Returns:
        The text, or its beginning.

    Example:
        >>> shorten("abc", 10)
        'abc'
        >>> len(shorten("x" * 5000, 100))
        100
    """
    if len(long) <= limit:
        return long
    end = f"… ({len(long)} characters, sha256 {hashlib.sha256(long.encode()).hexdigest()[:16]})"
    return long[: limit - len(end)] + end


def tag_texts(given: Mapping[str, Any]) -> dict[str, str]:
    """Tags within MLflow's lengths.

    Args:
        given: tag -> JSON value.

    Returns:
        Tag -> text.

    Example:
        >>> tag_texts({"variant": "int8", "seed": 0})
        {'variant': 'int8', 'seed': '0'}
    """
    return {valid_name(tag): shorten(text(value), _TAG_LENGTH) for tag, value in given.items()}


def note(markdown: str, rest: str = "the whole of it is among the artifacts") -> str:
    """Markdown that fits a run's description, cut between two lines.

    Args:
        markdown: the description.
        rest: where to find what was cut.

    Returns:
        At most as many characters as MLflow keeps.

    Example:
        >>> note("| a | b |")
        '| a | b |'
    """
    if len(markdown) <= _TAG_LENGTH:
        return markdown
    end = f"\n\n*Cut here: {rest}.*"
    kept = markdown[: _TAG_LENGTH - len(end)]
    return kept[: kept.rindex("\n")] + end if "\n" in kept else kept + end


def valid_name(name: str) -> str:
    """A name that MLflow takes for a metric, parameter or tag.

    Args:
        name: any text.

    Returns:
        The name with what MLflow refuses replaced by `_`.

    Example:
        >>> valid_name("f1 (macro)"), valid_name("../loss"), valid_name("a//b")
        ('f1 _macro_', 'loss', 'a/b')
    """
    parts = [part for part in _NOT_IN_NAMES.sub("_", name).split("/") if part not in {"", ".", ".."}]
    valid = "/".join(parts) or "_"
    if valid.startswith(".."):
        valid = "_" + valid.lstrip(".")
    if len(valid) <= _NAME_LENGTH:
        return valid
    # The hash keeps names apart that differ only behind the cut.
    return f"{valid[: _NAME_LENGTH - 17]}_{hashlib.sha256(valid.encode()).hexdigest()[:16]}"


def numbers(nested: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a summary, as metrics; groups are joined by `/`, by which MLflow groups its plots.

    Args:
        nested: JSON values.

    Returns:
        Name -> number.

    Example:
        >>> numbers({"parameters": 11, "training": {"steps": 3, "resumed": False}, "device": "cpu"})
        {'parameters': 11.0, 'training/steps': 3.0}
    """
    return {
        valid_name(name): float(value)
        for name, value in flatten(nested, "/").items()
        if not isinstance(value, bool) and isinstance(value, Real)
    }


def finite(metrics: Mapping[str, float]) -> tuple[dict[str, float], list[str]]:
    """Take out what MLflow would store as 1.8e308 (infinity) or as nothing (NaN).

    Args:
        metrics: name -> number.

    Returns:
        The finite ones, and the names of the others.

    Example:
        >>> finite({"loss": 0.5, "perplexity": float("inf")})
        ({'loss': 0.5}, ['perplexity'])
    """
    kept = {valid_name(name): float(value) for name, value in metrics.items() if math.isfinite(value)}
    return kept, [name for name, value in metrics.items() if not math.isfinite(value)]


def points(metrics: Mapping[str, float], moment: int, model_id: str | None = None) -> list["Metric"]:
    """Values measured once.

    Args:
        metrics: name -> finite value.
        moment: milliseconds since 1970.
        model_id: checkpoint that they describe, to be shown with it as well.

    Returns:
        MLflow's points.
    """
    from mlflow.entities import Metric

    return [Metric(name, value, moment, 0, model_id=model_id) for name, value in metrics.items()]


def now() -> int:
    """Milliseconds since 1970, MLflow's unit of time.

    Returns:
        The time.
    """
    return time.time_ns() // 1_000_000


def write(
    client: "MlflowClient",
    run_id: str,
    *,
    metrics: Iterable["Metric"] = (),
    params: Mapping[str, str] | None = None,
    tags: Mapping[str, Any] | None = None,
) -> None:
    """Write to a run in as few requests as MLflow's limits allow.

    Args:
        client: the store.
        run_id: the run.
        metrics: points.
        params: name -> text.
        tags: tag -> JSON value.
    """
    from mlflow.entities import Param, RunTag

    parameter_items = (Param(name, value) for name, value in (params or {}).items())
    tag_items = (RunTag(name, value) for name, value in tag_texts(tags or {}).items())
    requests: Iterator[tuple[Any, Any, Any]] = zip_longest(
        _batches(metrics, _METRICS), _batches(parameter_items, _PARAMETERS), _batches(tag_items, _TAGS), fillvalue=()
    )
    for some_metrics, some_parameters, some_tags in requests:
        client.log_batch(run_id, metrics=some_metrics, params=some_parameters, tags=some_tags)


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch
