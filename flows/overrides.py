"""What the command line changes in a study: `--set`, `--only`, `--tasks`, `--seeds`."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flows.model_fields import fields_of
from flows.spec import VariantConfig, declared_name
from flows.study_errors import Mark, Problem, StudyFileError, UnplacedError, describe
from flows.yaml_document import Document, read_value

if TYPE_CHECKING:
    from flows.study_file import LoadedStudy


def apply_overrides(document: Document, overrides: Iterable[str]) -> list[Problem]:
    """Change a document as `--set PATH=VALUE` says, one after another.

    Args:
        document: the study file; changed in place.
        overrides: `PATH=VALUE`, the value written as YAML. A path goes by keys joined with dots: `seeds`,
            `defaults.finetune.epochs`, `tasks.sst2.limit_train` or `tasks[0].limit_train`; `variants.NAME.` may be
            followed by a path as `set` takes it: `variants.small.finetune.epochs`.

    Returns:
        What is wrong with the overrides themselves.
    """
    problems = []
    for override in overrides:
        path, equals, text = override.partition("=")
        try:
            if not equals or not path.strip():
                raise UnplacedError(describe("not an override", override, ["PATH=VALUE"]))
            _apply(document, path.strip(), read_value(text), override)
        except UnplacedError as error:
            problems.append(Problem(Mark((), override=override), str(error)))
    return problems


def _apply(document: Document, path: str, value: object, override: str) -> None:
    steps: list[str | int] = []
    node, rest = document.data, path
    while rest:
        step, rest = _next_step(node, rest, steps)
        steps.append(step)
        node = _child(node, step)
        if rest and len(steps) == 2:
            node = _opened(document, steps, node, rest)
            if steps[0] == "variants" and isinstance(node, dict) and _first_word(rest) not in fields_of(VariantConfig):
                steps += ["set", rest]
                break
    document.assign(tuple(steps), value, override)


def _child(node: object, step: str | int) -> Any:
    if isinstance(node, dict):
        return node.get(step)
    return node[step] if isinstance(node, list) and isinstance(step, int) else None


def _opened(document: Document, steps: Sequence[str | int], node: object, rest: str) -> Any:
    """A task or variant in its long form, so that a field can join it; refuses a variant that is not there."""
    if steps[0] == "variants" and node is None:
        raise UnplacedError(describe("no such variant", steps[1], document.data.get("variants") or ()))
    if rest.startswith("["):
        return node
    if steps[0] == "tasks" and isinstance(node, str):
        key = "name"
    elif steps[0] == "variants" and isinstance(node, list):
        key = "stages"
    else:
        return node
    document.nest(tuple(steps), key)
    return {key: node}


def _first_word(rest: str) -> str:
    return re.split(r"[.\[]", rest, maxsplit=1)[0]


def _next_step(node: object, rest: str, steps: Sequence[str | int]) -> tuple[str | int, str]:
    """The key or position that a path goes to next, and what is left of the path."""
    if isinstance(node, list):
        return _position(node, rest, steps)
    keys = node if isinstance(node, dict) else ()
    # Names may hold dots themselves, so the longest key that fits wins.
    fitting = [key for key in keys if re.match(rf"{re.escape(key)}(?=[.\[]|$)", rest)]
    key = max(fitting, key=len, default=_first_word(rest))
    if not key:
        raise UnplacedError(describe("the path has an empty part", rest))
    return key, rest[len(key) :].removeprefix(".")


def _position(items: list[Any], rest: str, steps: Sequence[str | int]) -> tuple[int, str]:
    match = re.match(r"(?:\[([0-9]{1,9})\]|([0-9]{1,9})(?=\.|$))\.?", rest)
    if match is not None:
        position = int(match[1] or match[2])
        if position < len(items):
            return position, rest[match.end() :]
        raise UnplacedError(describe("no such position", position, [f"0 to {len(items) - 1}"]))
    if list(steps) != ["tasks"]:
        raise UnplacedError(describe("a list takes a position in brackets", rest, ["[0]"]))
    names = [item.get("name") if isinstance(item, dict) else item for item in items]
    fitting = [name for name in names if isinstance(name, str) and re.match(rf"{re.escape(name)}(?=\.|$)", rest)]
    if not fitting:
        raise UnplacedError(describe("no such task", _first_word(rest), map(str, names)))
    name = max(fitting, key=len)
    return names.index(name), rest[len(name) :].removeprefix(".")


def select(
    loaded: "LoadedStudy",
    only: Sequence[str] = (),
    tasks: Sequence[str] = (),
    seeds: Sequence[int] = (),
) -> "LoadedStudy":
    """Narrow a study to some of its variants, tasks and seeds.

    Args:
        loaded: the study.
        only: names of variants, in which `*` and `?` stand for any characters; the name of a matrix means all of its
            combinations. All variants when empty.
        tasks: names of tasks; all when empty.
        seeds: seeds; all when empty.

    Returns:
        The narrowed study; what is kept stays in the order of the file.

    Raises:
        StudyFileError: a name or seed that the study does not have.
    """
    problems: list[Problem] = []
    names = [variant.name for variant in loaded.variants]
    chosen = _chosen("--only", "variant", only, names, problems)
    study = loaded.study
    task_names = _chosen("--tasks", "task", tasks, [task.name for task in study.tasks], problems)
    seed_names = _chosen(
        "--seeds", "seed", [str(seed) for seed in seeds], [str(seed) for seed in study.seeds], problems
    )
    if problems:
        raise StudyFileError(loaded.path, problems)
    metrics = study.table.metrics
    if metrics is not None:
        metrics = {task: shown for task, shown in metrics.items() if task in task_names}
    narrowed = study.model_copy(
        update={
            "tasks": tuple(task for task in study.tasks if task.name in task_names),
            "seeds": tuple(seed for seed in study.seeds if str(seed) in seed_names),
            "table": study.table.model_copy(update={"metrics": metrics}),
        }
    )
    return replace(loaded, study=narrowed, variants=tuple(v for v in loaded.variants if v.name in chosen))


def _chosen(option: str, noun: str, patterns: Sequence[str], names: Sequence[str], problems: list[Problem]) -> set[str]:
    chosen: set[str] = set()
    for pattern in patterns:
        # Brackets belong to the names of a matrix's variants: they are no wildcard.
        wild = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
        found = {name for name in names if re.fullmatch(wild, name) or re.fullmatch(wild, declared_name(name))}
        if not found:
            problems.append(Problem(Mark((option,)), describe(f"no such {noun}", pattern, names)))
        chosen |= found
    return chosen if patterns else set(names)
