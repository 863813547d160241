"""Label names in a model's configuration, and the order of its outputs."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from compression.errors import CheckpointError
from compression.problems import Problem

_OWN_NAMES: dict[Problem, tuple[str, ...]] = {"regression": ("score",), "span": ("start", "end")}
# As transformers spells them; its span models have none.
_PROBLEM_TYPES: dict[Problem, str | None] = {
    "classification": "single_label_classification",
    "regression": "regression",
    "multi_label": "multi_label_classification",
    "span": None,
}
_NAMELESS = re.compile(r"(LABEL_)?\d+", re.IGNORECASE)


def label_fields(labels: Sequence[str], problem: Problem) -> dict[str, Any]:
    """Fields of a transformers configuration that describe a head.

    Args:
        labels: label names in order of class index; ignored for regression and spans.
        problem: what the head predicts.

    Returns:
        Values of `id2label`, `label2id` and `problem_type`.

    Example:
        >>> label_fields(("no", "yes"), "classification")["id2label"]
        {0: 'no', 1: 'yes'}
        >>> label_fields((), "regression")["problem_type"]
        'regression'
    """
    names = _OWN_NAMES.get(problem, tuple(labels))
    return {
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
        "problem_type": _PROBLEM_TYPES[problem],
    }


def output_order(id2label: Mapping[int, str], labels: Sequence[str]) -> list[int]:
    """Which output of a model belongs to each label of a task.

    A model trained elsewhere may number the same classes differently; its outputs then mean something else than the
    task's class indices do.

    Args:
        id2label: the model's own label names.
        labels: the task's label names in order of class index; empty for regression.

    Returns:
        For each label the index of the model's output. By name, ignoring case; by position when either side has mere
        numbers for names.

    Raises:
        CheckpointError: the numbers of labels differ, or the names do.

    Example:
        >>> output_order({0: "POSITIVE", 1: "NEGATIVE"}, ("negative", "positive"))
        [1, 0]
        >>> output_order({0: "LABEL_0", 1: "LABEL_1"}, ("negative", "positive"))
        [0, 1]
    """
    own = [id2label[index].casefold() for index in range(len(id2label))]
    wanted = [label.casefold() for label in labels]
    if len(own) != max(1, len(wanted)):
        raise CheckpointError(f"the model has {len(own)} outputs ({', '.join(own)}), the task {max(1, len(wanted))}")
    if not wanted:
        return [0]
    if sorted(own) == sorted(wanted) and len(set(own)) == len(own):
        return [own.index(label) for label in wanted]
    if all(map(_NAMELESS.fullmatch, own)) or all(map(_NAMELESS.fullmatch, wanted)):
        return list(range(len(wanted)))
    raise CheckpointError(
        f"the model's labels ({', '.join(own)}) are not the task's ({', '.join(wanted)}): "
        "give both the same names, in the task's `labels` or the model's id2label"
    )
