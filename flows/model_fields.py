"""Questions about the fields of configuration models, asked by path."""

import types
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo


@cache
def fields_of(model: type[BaseModel]) -> Mapping[str, FieldInfo]:
    """Fields of a model by the names that files use.

    Args:
        model: a pydantic model.

    Returns:
        Alias, or name where there is none, to field.
    """
    return {field.alias or name: field for name, field in model.model_fields.items()}


def branches(annotation: Any) -> tuple[Any, ...]:
    """What a value may be: the members of a union, without None.

    Args:
        annotation: a type annotation.

    Returns:
        The members; the annotation alone when it is no union.

    Example:
        >>> branches(int | None), branches(str)
        ((<class 'int'>,), (<class 'str'>,))
    """
    if get_origin(annotation) is Annotated:
        return branches(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(inner for member in get_args(annotation) for inner in branches(member))
    return () if annotation is type(None) else (annotation,)


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


@cache
def _inner(annotation: Any, part: str | int) -> tuple[Any, ...]:
    if annotation is Any:
        return (Any,)
    if _is_model(annotation):
        field = fields_of(annotation).get(str(part))
        return () if field is None else branches(field.annotation)
    arguments = get_args(annotation)
    if get_origin(annotation) is dict:
        return branches(arguments[1])
    if get_origin(annotation) in (tuple, list) and isinstance(part, int):
        return tuple(inner for item in arguments if item is not Ellipsis for inner in branches(item))
    return ()


def possible_types(model: Any, path: Sequence[str | int]) -> tuple[Any, ...]:
    """Types of the value at a path.

    Args:
        model: model or annotation at the top.
        path: field names, mapping keys and list positions.

    Returns:
        The types; none when nothing can stand there.

    Example:
        >>> from compression.training.finetune_config import FinetuneConfig
        >>> possible_types(FinetuneConfig, ("epochs",)), possible_types(FinetuneConfig, ("epoch",))
        ((<class 'float'>,), ())
    """
    found = branches(model)
    for part in path:
        found = tuple(inner for annotation in found for inner in _inner(annotation, part))
    return found


def known_fields(model: Any, path: Sequence[str | int] = ()) -> list[str]:
    """Names of the fields of whatever models may stand at a path, sorted.

    Args:
        model: model or annotation at the top.
        path: field names, mapping keys and list positions.

    Returns:
        The names.

    Example:
        >>> from compression.training.finetune_config import FinetuneConfig
        >>> known_fields(FinetuneConfig, ("student",))
        ['count', 'embeddings', 'layers', 'pooler', 'preset', 'token_types']
    """
    return sorted({name for found in possible_types(model, path) if _is_model(found) for name in fields_of(found)})


@cache
def alternatives(model: Any, path: tuple[str, ...]) -> frozenset[str]:
    """Fields of which only one can be given in the mapping at a path.

    Args:
        model: model at the top.
        path: field names.

    Returns:
        Their names.

    Example:
        >>> from compression.training.finetune_config import FinetuneConfig
        >>> sorted(alternatives(FinetuneConfig, ("student",)))
        ['layers', 'preset']
    """
    models = [found for found in possible_types(model, path) if _is_model(found)]
    return frozenset(name for found in models for name in getattr(found, "alternatives", ()))


def truth_values_for_numbers(
    model: Any, value: object, path: tuple[str | int, ...] = ()
) -> Iterator[tuple[str | int, ...]]:
    """Find truth values where a number is due: pydantic would take `true` for 1.

    Args:
        model: model or annotation at the top.
        value: what is to be validated.
        path: place of the value below the top.

    Yields:
        Place of each.

    Example:
        >>> from compression.training.finetune_config import FinetuneConfig
        >>> list(truth_values_for_numbers(FinetuneConfig, {"epochs": True, "length_bucketing": True}))
        [('epochs',)]
    """
    if isinstance(value, bool):
        expected = possible_types(model, path)
        if bool not in expected and (int in expected or float in expected):
            yield path
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from truth_values_for_numbers(model, inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from truth_values_for_numbers(model, inner, (*path, index))
