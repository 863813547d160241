"""Validation of what a document says against a model, with problems in plain words and in their place."""

from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from flows.model_fields import known_fields, truth_values_for_numbers
from flows.study_errors import DocumentPath, Mark, Problem, describe, plain_message

Model = TypeVar("Model", bound=BaseModel)

_NO_CHOICE = "not a known choice"


def check(
    model: type[Model], given: Any, mark: Callable[[DocumentPath], Mark]
) -> tuple[Model | None, dict[DocumentPath, Problem]]:
    """Validate, and say what is wrong.

    Args:
        model: what the value should be.
        given: mappings, lists and scalars.
        mark: place below the value -> place in the file.

    Returns:
        The model, None when anything is wrong; and the problems, by place below the value.

    Example:
        >>> from compression.quantization.config import QuantizeConfig
        >>> _, problems = check(QuantizeConfig, {"embeddings": 7}, Mark)
        >>> problems[("embeddings",)].text
        'must be true or false; given 7'
    """
    texts = {place: describe("must be a number", True) for place in truth_values_for_numbers(model, given)}
    valid = None
    try:
        valid = model.model_validate(given)
    except ValidationError as error:
        texts |= _texts(error, model, given)
    problems = {place: Problem(mark(place), text) for place, text in texts.items()}
    return (None if problems else valid), problems


def spelled_out(given: Any, place: DocumentPath) -> DocumentPath:
    """Turn the place of a value in a model into its place in what was given.

    What is given may be terser than the model: a bare string stands for a mapping, a list for a mapping with one field.
    Parts of the place that are not spelled out are left out.

    Args:
        given: mappings, lists and scalars.
        place: place in the model.

    Returns:
        The place.

    Example:
        >>> spelled_out({"small": ["finetune"]}, ("small", "stages", 0, "finetune"))
        ('small', 0)
    """
    path: list[str | int] = []
    for part in place:
        in_list = isinstance(given, list) and isinstance(part, int) and part < len(given)
        if in_list or (isinstance(given, dict) and part in given):
            given = given[part]
            path.append(part)
    return tuple(path)


def _texts(error: ValidationError, model: type[BaseModel], given: Any) -> dict[DocumentPath, str]:
    texts: dict[DocumentPath, str] = {}
    missing: list[DocumentPath] = []
    for detail in error.errors(include_url=False):
        place = spelled_out(given, detail["loc"])
        if detail["type"] == "missing":
            place = (*place, detail["loc"][-1])
            missing.append(place)
        text = plain_message(detail, known_fields(model, detail["loc"][:-1]))
        texts[place] = _either(texts[place], text) if place in texts else text
    for place in missing:  # a misspelt name is not also missing
        if any(text.endswith(f"did you mean {place[-1]!r}?") for text in texts.values()):
            del texts[place]
    return {place: text for place, text in texts.items() if not _follows_from_inside(place, text, texts)}


def _either(first: str, second: str) -> str:
    """One message for a value that fits no member of a union."""
    start, _, given = first.partition(";")
    other, _, given_other = second.partition(";")
    if start == _NO_CHOICE:  # a name, or a list: what is said of the list counts where one was given
        return f"{_NO_CHOICE} and no list;{given}" if other == "must be a list" else second
    if other == _NO_CHOICE:
        return f"{_NO_CHOICE} and no list;{given_other}" if start == "must be a list" else first
    if start.startswith("must be ") and other.startswith("must be "):
        return f"{start} or {other.removeprefix('must be ')};{given}"
    return first


def _follows_from_inside(place: DocumentPath, text: str, texts: dict[DocumentPath, str]) -> bool:
    """Whether a problem of a whole is but that of something inside it.

    A list lacks the items that are wrong; of a union's members, one came closer and found something wrong inside.
    """
    inside = (other for other in texts if len(other) > len(place) and other[: len(place)] == place)
    starts = ("must be ", "must not be empty", "needs at least ", _NO_CHOICE)
    return text.startswith(starts) and any(inside)
