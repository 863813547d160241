"""Which layer of a teacher teaches which layer of a student, and which heads. Free of torch: `plan` shows it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from compression.errors import UserError, did_you_mean

HeadRule = Literal["same", "group-mean"]
MappingStrategy = Literal["uniform", "top", "bottom", "first-last", "distilbert", "last", "pkd-skip", "pkd-last"]
LayerMapping = MappingStrategy | Sequence[int | None]

_DISTILBERT = (0, 2, 4, 7, 9, 11)
_DISTILBERT_DEPTH = 12


@dataclass(frozen=True)
class LayerPair:
    """A student layer and the teacher layer that it learns from, both counted from 0."""

    student: int
    teacher: int


class LayerMappingError(UserError):
    """A mapping that these two encoders cannot have; says why and what could be done."""


def map_layers(mapping: LayerMapping, student_layers: int, teacher_layers: int) -> tuple[LayerPair, ...]:
    """Pair layers of a student with layers of its teacher.

    With N teacher layers and M student layers, m counting student layers from 1 and g(m) teacher layers from 1:

    | strategy | g(m) | |
    |---|---|---|
    | `uniform` | m N / M, rounded up where M does not divide N | TinyBERT, arXiv:1909.10351, section 3.1 |
    | `top` | m + N - M | TinyBERT, appendix |
    | `bottom` | m | TinyBERT, appendix |
    | `first-last` | 1 + (m - 1)(N - 1) / (M - 1), rounded half up; N for M = 1 | first and last layers paired |
    | `distilbert` | 1, 3, 5, 8, 10, 12; only for 12 and 6 layers | released code of arXiv:1910.01108 |
    | `last` | N, for m = M alone | MiniLM, arXiv:2002.10957 |
    | `pkd-skip` | as `uniform`, without m = M | PKD, arXiv:1908.09355 |
    | `pkd-last` | as `top`, counted from N - 1 and without m = M | PKD |

    A list gives for each student layer its teacher layer, counted from 0, or None for a layer that learns from none.

    Args:
        mapping: strategy or list.
        student_layers: M.
        teacher_layers: N.

    Returns:
        Pairs in the order of the student's layers; every strategy gives ascending teacher layers.

    Raises:
        LayerMappingError: the strategy is unknown or has no answer for these depths, or the list does not fit them.

    Example:
        >>> [pair.teacher for pair in map_layers("uniform", 4, 12)]
        [2, 5, 8, 11]
        >>> map_layers([None, 5], 2, 6)
        (LayerPair(student=1, teacher=5),)
    """
    if not isinstance(mapping, str):
        return _explicit(mapping, student_layers, teacher_layers)
    chosen = choose_layers(mapping, student_layers, teacher_layers)
    start = student_layers - len(chosen) if mapping == "last" else 0
    return tuple(LayerPair(start + place, teacher) for place, teacher in enumerate(chosen))


def choose_layers(strategy: MappingStrategy, count: int, teacher_layers: int) -> tuple[int, ...]:
    """Teacher layers of a strategy, in ascending order: those that a student of `count` layers learns from.

    Args:
        strategy: see `map_layers`.
        count: number of student layers.
        teacher_layers: number of teacher layers.

    Returns:
        Layers counted from 0: `count` of them, but one for `last` and one less for the strategies of PKD.

    Raises:
        LayerMappingError: the strategy is unknown or has no answer for these depths.

    Example:
        >>> choose_layers("distilbert", 6, 12)
        (0, 2, 4, 7, 9, 11)
    """
    if strategy not in _STRATEGIES:
        near = did_you_mean(strategy, _STRATEGIES)
        raise LayerMappingError(f"unknown layer mapping {strategy!r}; allowed: {', '.join(_STRATEGIES)}, a list{near}")
    if count < 1:
        raise LayerMappingError(f"layer mapping {strategy!r}: the student has no layers")
    if strategy == "distilbert" and (count, teacher_layers) != (len(_DISTILBERT), _DISTILBERT_DEPTH):
        raise LayerMappingError(
            f"layer mapping 'distilbert' takes 6 of 12 layers; here they are {count} of {teacher_layers}: "
            "use 'uniform', 'first-last' or a list"
        )
    if strategy != "last" and count > teacher_layers:
        raise LayerMappingError(
            f"layer mapping {strategy!r}: the student has {count} layers, more than the teacher's {teacher_layers}; "
            "use 'last' or a list"
        )
    chosen = _STRATEGIES[strategy](count, teacher_layers)
    if not chosen:
        raise LayerMappingError(f"layer mapping {strategy!r} leaves the last layer out, and the student has no other")
    return chosen


def head_groups(student_heads: int, teacher_heads: int, rule: HeadRule) -> tuple[int, int]:
    """How many heads of each side are averaged before they are compared.

    Args:
        student_heads: heads of the student's layer.
        teacher_heads: heads of the teacher's layer.
        rule: `same` refuses unequal numbers; `group-mean` takes the mean of groups of neighbouring heads of the side
            that has more of them.

    Returns:
        Heads a group of the student and of the teacher; at least one of the two is 1.

    Raises:
        LayerMappingError: the numbers differ under `same`, one does not divide the other, or a side has no heads.

    Example:
        >>> head_groups(4, 12, "group-mean")
        (1, 3)
    """
    if student_heads == teacher_heads and student_heads > 0:
        return 1, 1
    sides = f"{student_heads} heads in the student's layer, {teacher_heads} in the teacher's"
    fewer, more = sorted((student_heads, teacher_heads))
    if fewer == 0:
        raise LayerMappingError(f"{sides}: there is no attention to compare; leave the layer out of the mapping")
    if rule == "same":
        raise LayerMappingError(f"{sides}: set `heads: group-mean`, or leave the objectives on attention out")
    if more % fewer:
        raise LayerMappingError(f"{sides}: {fewer} does not divide {more}, so `heads: group-mean` cannot pair them")
    return student_heads // fewer, teacher_heads // fewer


def _explicit(mapping: Sequence[int | None], student_layers: int, teacher_layers: int) -> tuple[LayerPair, ...]:
    if len(mapping) != student_layers:
        raise LayerMappingError(
            f"layer mapping {_shown(mapping)} names {len(mapping)} teacher layers, but the student has "
            f"{student_layers} layers; give one for each, null for a layer that learns from none"
        )
    absent = [layer for layer in mapping if layer is not None and not 0 <= layer < teacher_layers]
    if absent:
        raise LayerMappingError(
            f"layer mapping {_shown(mapping)} names layer {absent[0]}, but the teacher has {teacher_layers} layers, "
            f"0 to {teacher_layers - 1}"
        )
    pairs = tuple(LayerPair(place, layer) for place, layer in enumerate(mapping) if layer is not None)
    if not pairs:
        raise LayerMappingError(f"layer mapping {_shown(mapping)} pairs no layers")
    return pairs


def _shown(mapping: Sequence[int | None]) -> str:
    return f"[{', '.join('null' if layer is None else str(layer) for layer in mapping)}]"


def _uniform(count: int, depth: int) -> tuple[int, ...]:
    return tuple(-(-place * depth // count) - 1 for place in range(1, count + 1))


def _top(count: int, depth: int) -> tuple[int, ...]:
    return tuple(range(depth - count, depth))


def _first_last(count: int, depth: int) -> tuple[int, ...]:
    if count == 1:
        return (depth - 1,)
    steps = count - 1
    return tuple((2 * place * (depth - 1) + steps) // (2 * steps) for place in range(count))


def _pkd_last(count: int, depth: int) -> tuple[int, ...]:
    return tuple(range(depth - count, depth - 1))


_STRATEGIES: dict[str, Callable[[int, int], tuple[int, ...]]] = {
    "uniform": _uniform,
    "top": _top,
    "bottom": lambda count, depth: tuple(range(count)),
    "first-last": _first_last,
    "distilbert": lambda count, depth: _DISTILBERT,
    "last": lambda count, depth: (depth - 1,),
    "pkd-skip": lambda count, depth: _uniform(count, depth)[:-1],
    "pkd-last": _pkd_last,
}
