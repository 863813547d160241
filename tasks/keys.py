"""Cache keys: a canonical form of whatever a stage depends on, and its digest.

What has no stable meaning between processes raises; a key is never a guess.
"""

import hashlib
import importlib.metadata
import json
import math
import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import PurePath
from typing import Any

from pydantic import BaseModel


def canonical(value: Any) -> Any:
    """Reduce a value to JSON in which equal meanings are equal.

    Mappings lose their order, sequences their type, paths their detours; a float that is a whole number equals the
    integer, and negative zero equals zero.

    Args:
        value: configuration models, mappings, sequences, sets, paths, numbers, strings, None.

    Returns:
        dict, list, str, int, float, bool or None.

    Raises:
        TypeError: a value without a stable meaning: a tensor, a function, an object.
        ValueError: a float that is not finite.

    Example:
        >>> canonical({"b": (1.0, -0.0), "a": 1e-4})
        {'a': 0.0001, 'b': [1, 0]}
    """
    result: Any
    if value is None or isinstance(value, bool | str):
        result = value
    elif isinstance(value, int):
        result = int(value)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} cannot be part of a cache key")
        result = int(value) if value.is_integer() else value
    elif isinstance(value, PurePath):
        result = PurePath(os.path.normpath(value)).as_posix()
    elif isinstance(value, BaseModel):
        result = canonical(value.model_dump(mode="python"))
    elif isinstance(value, Mapping):
        result = _canonical_mapping(value)
    elif isinstance(value, set | frozenset):
        result = sorted((canonical(item) for item in value), key=lambda item: json.dumps(item, sort_keys=True))
    elif isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        result = [canonical(item) for item in value]
    else:
        raise TypeError(f"{type(value).__module__}.{type(value).__qualname__} has no stable meaning in a cache key")
    return result


def _canonical_mapping(value: Mapping[Any, Any]) -> dict[str, Any]:
    wrong = [name for name in value if not isinstance(name, str)]
    if wrong:
        raise TypeError(f"mapping key {wrong[0]!r} in a cache key is not a string")
    return {name: canonical(value[name]) for name in sorted(value)}


def digest(value: Any) -> str:
    """SHA-256 of the canonical form.

    Args:
        value: see `canonical`.

    Returns:
        64 hexadecimal digits.

    Example:
        >>> digest({"a": 1, "b": 2}) == digest({"b": 2.0, "a": 1})
        True
    """
    text = json.dumps(canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def library_version(name: str) -> str:
    """Major and minor version of an installed library, read without importing it.

    Args:
        name: distribution name.

    Returns:
        `MAJOR.MINOR`.

    Example:
        >>> library_version("torch").count(".")
        1
    """
    return ".".join(importlib.metadata.version(name).split("+")[0].split(".")[:2])


def optional_version(name: str) -> str:
    """As `library_version`, of a library that an extra brings.

    Args:
        name: distribution name.

    Returns:
        `MAJOR.MINOR`, or `absent`.

    Example:
        >>> optional_version("no-such-library")
        'absent'
    """
    try:
        return library_version(name)
    except importlib.metadata.PackageNotFoundError:
        return "absent"
