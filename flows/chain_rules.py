"""Which stage may follow which."""

from collections.abc import Mapping, Sequence

from compression.configuration import Config
from flows.study_errors import describe
from tasks.stages.base import Product, Stage

TEACHER_KIND = "finetune"
LAST_KIND = "evaluate"


def broken_rule(
    chain: Sequence[tuple[str, bool]],
    *,
    finetuned: bool,
    registry: Mapping[str, Stage],
    configs: Sequence[Config | None] = (),
) -> tuple[int, str] | None:
    """Find the first stage that stands where it cannot.

    Args:
        chain: kind of each stage, and whether it is given a student of its own; the last is `evaluate`.
        finetuned: whether chains start at a classifier, not at a pretrained encoder.
        registry: stages by kind.
        configs: configuration of each stage, None where it is wrong; without any, only kinds are looked at.

    Returns:
        Position of the stage and what is wrong, or None for a sound chain.

    Example:
        >>> from tasks.stages.registry import stages
        >>> broken_rule([("finetune", False), ("evaluate", False)], finetuned=False, registry=stages())
        >>> wrong = broken_rule([("quantize", False), ("evaluate", False)], finetuned=False, registry=stages())
        >>> wrong[1].partition(";")[0]
        '`quantize` cannot follow the pretrained encoder'
    """
    if len(chain) == 1 and not finetuned:
        return 0, "an empty chain needs `teacher.finetuned: true`: a pretrained encoder cannot be evaluated"
    product: Product = "classifier" if finetuned else "encoder"
    before = "the fine-tuned teacher" if finetuned else "the pretrained encoder"
    first = True
    for position, (kind, has_student) in enumerate(chain):
        stage, last = registry[kind], position == len(chain) - 1
        if kind == LAST_KIND and not last:
            return position, f"`{LAST_KIND}` ends a chain; nothing can follow it"
        if has_student and not first and not stage.student_of_model:
            return position, f"`{kind}` is given a student, which only the first stage of a chain can be"
        if first and not has_student and stage.needs_student:
            return position, f"`{kind}` at the start of a chain needs a `student`"
        start: Product = "encoder" if has_student and first else product
        reason = _refusal(stage, start, before, configs[position] if configs else None, registry)
        if reason is not None:
            return position, reason
        if stage.produces == "data":  # the model before it flows past
            continue
        first = False
        product, before = start if stage.produces == "same" else stage.produces, f"`{kind}`"
    return _rows_without_use([kind for kind, _ in chain], registry)


def _rows_without_use(kinds: Sequence[str], registry: Mapping[str, Stage]) -> tuple[int, str] | None:
    """Find a stage that gives rows which no later stage takes."""
    waiting: int | None = None
    for position, kind in enumerate(kinds):
        stage = registry[kind]
        waiting = None if stage.takes_rows else waiting
        waiting = position if stage.produces == "data" else waiting
    if waiting is None:
        return None
    allowed = [name for name, stage in registry.items() if stage.takes_rows and stage.produces != "data"]
    return waiting, describe(f"no stage after `{kinds[waiting]}` trains on its rows", allowed=allowed)


def _refusal(
    stage: Stage, start: Product, before: str, config: Config | None, registry: Mapping[str, Stage]
) -> str | None:
    """Why a stage cannot take what comes before it, if so."""
    if start not in stage.accepts:
        allowed = [name for name, other in registry.items() if start in other.accepts]
        return describe(f"`{stage.kind}` cannot follow {before}", allowed=allowed)
    reason = None if config is None else stage.refuses(config, start)
    return None if reason is None else f"`{stage.kind}` cannot follow {before}: {reason}"
