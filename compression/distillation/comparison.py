"""What a distillation compares, layer by layer, decided before anything is computed. Free of torch: `plan` shows it."""

from dataclasses import dataclass

from compression.architecture.shape import EncoderShape
from compression.distillation.config import ObjectivesConfig
from compression.distillation.layer_mapping import (
    HeadRule,
    LayerMapping,
    LayerMappingError,
    LayerPair,
    head_groups,
    map_layers,
)

_OF_STATES = frozenset({"hidden", "cosine"})
_OF_FIRST_STATES = frozenset({"cls", "relation_distance", "relation_angle"})
_OF_SCORES = frozenset({"attention", "attention_distribution"})
_OF_EQUAL_WIDTHS = frozenset({"cosine", "cls"})


@dataclass(frozen=True)
class Wanted:
    """What to capture of one model.

    Attributes:
        hidden_states: numbers of hidden states, 0 being the embeddings and i the output of the i-th layer.
        first_states: likewise, where the state of the first word piece, [CLS], is enough.
        scores: layers, counted from 0, whose attention scores are wanted.
        values: layers whose value vectors are wanted.
    """

    hidden_states: tuple[int, ...] = ()
    first_states: tuple[int, ...] = ()
    scores: tuple[int, ...] = ()
    values: tuple[int, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """The layers that are compared, and what is captured of each side for it.

    Attributes:
        objectives: names of the objectives.
        pairs: student layers and the teacher layers that they learn from.
        groups: for each pair how many heads of student and teacher are averaged; (1, 1) where no heads are compared.
        student: what to capture of the student.
        teacher: what to capture of the teacher, in the same order.
    """

    objectives: tuple[str, ...]
    pairs: tuple[LayerPair, ...]
    groups: tuple[tuple[int, int], ...]
    student: Wanted
    teacher: Wanted


@dataclass(frozen=True)
class ComparisonRow:
    """A line of the table that shows a comparison.

    Attributes:
        student: what learns, such as `layer 3`.
        teacher: what it learns from.
        bridge: how differences of shape are bridged; empty where there are none.
    """

    student: str
    teacher: str
    bridge: str


def compare(
    objectives: ObjectivesConfig,
    mapping: LayerMapping,
    heads: HeadRule,
    student: EncoderShape,
    teacher: EncoderShape,
) -> Comparison:
    """Decide what is compared with what.

    Args:
        objectives: what has a weight.
        mapping: teacher layer of each student layer.
        heads: rule for unequal numbers of heads.
        student: the student's shape.
        teacher: the teacher's.

    Returns:
        The comparison; nothing is compared without objectives, whatever the mapping.

    Raises:
        LayerMappingError: the mapping does not fit the depths, heads cannot be paired, or an objective needs equal
            widths.

    Example:
        >>> small = EncoderShape.regular(layers=4, hidden_size=312, heads=12, intermediate_size=1200)
        >>> large = EncoderShape.regular(layers=12, hidden_size=768, heads=12, intermediate_size=3072)
        >>> compare(ObjectivesConfig(embedding=1, hidden=1), "uniform", "same", small, large).teacher.hidden_states
        (0, 3, 6, 9, 12)
    """
    chosen = objectives.chosen()
    if not chosen:
        return Comparison((), (), (), Wanted(), Wanted())
    pairs = map_layers(mapping, student.layers, teacher.layers)
    unequal = [name for name in chosen if name in _OF_EQUAL_WIDTHS]
    if unequal and student.hidden_size != teacher.hidden_size:
        raise LayerMappingError(
            f"objective `{unequal[0]}` needs equal widths; the student has {student.hidden_size}, the teacher "
            f"{teacher.hidden_size}: use `hidden`, which learns a projection"
        )
    of_heads = _OF_SCORES.intersection(chosen) or "value_relation" in chosen
    groups = tuple(
        head_groups(_heads(student, pair.student), _heads(teacher, pair.teacher), heads) if of_heads else (1, 1)
        for pair in pairs
    )
    return Comparison(
        objectives=chosen,
        pairs=pairs,
        groups=groups,
        student=_wanted(chosen, tuple(pair.student for pair in pairs)),
        teacher=_wanted(chosen, tuple(pair.teacher for pair in pairs)),
    )


def comparison_rows(comparison: Comparison, student: EncoderShape, teacher: EncoderShape) -> list[ComparisonRow]:
    """A comparison as a table.

    Args:
        comparison: what is compared.
        student: the student's shape.
        teacher: the teacher's.

    Returns:
        The embeddings' row, when they are compared, and one row a pair of layers.

    Example:
        >>> small = EncoderShape.regular(layers=4, hidden_size=312, heads=12, intermediate_size=1200)
        >>> large = EncoderShape.regular(layers=12, hidden_size=768, heads=12, intermediate_size=3072)
        >>> made = compare(ObjectivesConfig(embedding=1, attention=1), "uniform", "same", small, large)
        >>> for row in comparison_rows(made, small, large)[:2]:
        ...     print(row)
        ComparisonRow(student='embeddings', teacher='embeddings', bridge='projection 312 → 768')
        ComparisonRow(student='layer 0', teacher='layer 2', bridge='')
    """
    widths = (student.hidden_size, teacher.hidden_size)
    projection = f"projection {widths[0]} → {widths[1]}" if widths[0] != widths[1] else ""
    rows = [ComparisonRow("embeddings", "embeddings", projection)] if "embedding" in comparison.objectives else []
    for pair, (own, given) in zip(comparison.pairs, comparison.groups, strict=True):
        bridges = [projection] if projection and "hidden" in comparison.objectives else []
        if own != given:
            side, size = ("teacher's", given) if given > own else ("student's", own)
            bridges.append(f"mean of {size} of the {side} heads")
        rows.append(ComparisonRow(f"layer {pair.student}", f"layer {pair.teacher}", ", ".join(bridges)))
    return rows


def _heads(shape: EncoderShape, layer: int) -> int:
    return shape.attention_heads[shape.attention_blocks[layer]]


def _wanted(chosen: tuple[str, ...], layers: tuple[int, ...]) -> Wanted:
    after = tuple(layer + 1 for layer in layers)
    embeddings = (0,) if "embedding" in chosen else ()
    # Relations are those of the last pair alone; patient distillation compares [CLS] after every layer.
    first = after if "cls" in chosen else after[-1:]
    return Wanted(
        hidden_states=embeddings + (after if _OF_STATES.intersection(chosen) else ()),
        first_states=first if _OF_FIRST_STATES.intersection(chosen) else (),
        scores=layers if _OF_SCORES.intersection(chosen) else (),
        values=layers if "value_relation" in chosen else (),
    )
