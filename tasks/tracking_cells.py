"""What is said of one cell: variant × task × seed, with the chain of stages it came from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks import tracking_links
from tasks.tracking_stage_run import KIND_TAG, DatasetUse

Cell = tuple[str, str, int | None]


@dataclass(frozen=True)
class CellStage:
    """One stage of a cell's chain.

    Attributes:
        kind: stage kind.
        key: cache key.
        digest: digest of its artifact.
        cached: whether the artifact was there before.
    """

    kind: str
    key: str
    digest: str
    cached: bool
    run_id: str | None = None


@dataclass(frozen=True)
class StageRecord:
    """Where MLflow has a stage that ran.

    Attributes:
        run_id: its run.
        experiment_id: the experiment of that run, which may be another study's.
        model_id: its checkpoint under Models, when it made one.
    """

    run_id: str
    experiment_id: str
    model_id: str | None


def tags(cell: Cell, stages: Sequence[CellStage]) -> dict[str, str]:
    """Tags by which cells are found and told apart.

    Args:
        cell: variant, task, seed.
        stages: the chain.

    Returns:
        Tag -> text.

    Example:
        >>> reused = CellStage("finetune", "finetune-1", "ab", cached=True)
        >>> ran = CellStage("evaluate", "evaluate-2", "cd", cached=False)
        >>> found = tags(("int8", "sst2", 0), [reused, ran])
        >>> found["cached"], found["stage.1.finetune"], found["artifact.2.evaluate"]
        ('1 of 2', 'finetune-1', 'cd')
    """
    variant, task, seed = cell
    found = {KIND_TAG: "cell", "variant": variant, "task": task, "seed": _seed_text(seed)}
    for number, stage in enumerate(stages, 1):
        found[f"stage.{number}.{stage.kind}"] = stage.key
        found[f"artifact.{number}.{stage.kind}"] = stage.digest
    if stages:
        reused = sum(stage.cached for stage in stages)
        found["cached"] = {0: "no", len(stages): "yes"}.get(reused, f"{reused} of {len(stages)}")
    return found


def search(cell: Cell) -> str:
    """Filter that finds a cell among the children of a parent run.

    Args:
        cell: variant, task, seed.

    Returns:
        A filter in MLflow's language.

    Example:
        >>> search(("int8", "sst2", 0))
        "tags.`bertpress.kind` = 'cell' and tags.variant = 'int8' and tags.task = 'sst2' and tags.seed = '0'"
    """
    variant, task, seed = cell[0], cell[1], _seed_text(cell[2])
    return (
        f"tags.`{KIND_TAG}` = 'cell' and tags.variant = '{variant}' and tags.task = '{task}' and tags.seed = '{seed}'"
    )


def name(cell: Cell) -> str:
    """Name of a cell's run, for people.

    Args:
        cell: variant, task, seed.

    Returns:
        The parts that the cell has.

    Example:
        >>> name(("int8", "sst2", 0)), name(("pruned", "sst2", None))
        ('int8 · sst2 · seed 0', 'pruned · sst2')
    """
    variant, task, seed = cell
    return " · ".join([variant, task, *([] if seed is None else [f"seed {seed}"])])


def _seed_text(seed: int | None) -> str:
    return "-" if seed is None else str(seed)


def description(stages: Sequence[CellStage], records: Mapping[str, StageRecord | None]) -> str:
    """The chain as Markdown, each stage linked to the run that made it.

    Args:
        stages: the chain.
        records: cache key -> where MLflow has the stage.

    Returns:
        A table.
    """
    lines = ["| stage | this time | artifact |", "|---|---|---|"]
    for stage in stages:
        record = records.get(stage.key)
        address = tracking_links.run_link(record.experiment_id, record.run_id)[1:] if record else ""
        name = f"[{stage.kind}]({address})" if address else stage.kind
        lines.append(f"| {name} | {'reused' if stage.cached else 'ran'} | `{stage.digest[:12]}` |")
    return "\n".join(lines)


def inputs(
    dataset: DatasetUse | None, stages: Sequence[CellStage], records: Mapping[str, StageRecord | None]
) -> tuple[list[Any], list[Any]]:
    """What a cell was measured on.

    Args:
        dataset: data set of the metrics.
        stages: the chain.
        records: cache key -> where MLflow has the stage.

    Returns:
        MLflow's data set inputs, and the chain's last checkpoint as its model input.
    """
    from mlflow.entities import LoggedModelInput

    model = _last_model(stages, records)
    return dataset.as_inputs() if dataset else [], [LoggedModelInput(model)] if model else []


def measured_model(stages: Sequence[CellStage], records: Mapping[str, StageRecord | None]) -> str | None:
    """Checkpoint that the cell's metrics are to be shown with under Models.

    Args:
        stages: the chain.
        records: cache key -> where MLflow has the stage.

    Returns:
        Model id; None when the measurement was reused: the model shows it already.
    """
    return None if not stages or stages[-1].cached else _last_model(stages, records)


def _last_model(stages: Sequence[CellStage], records: Mapping[str, StageRecord | None]) -> str | None:
    found = [records.get(stage.key) for stage in reversed(stages)]
    return next((record.model_id for record in found if record and record.model_id), None)


def _quoted(value: str) -> str:
    return f'"{value}"' if "'" in value else f"'{value}'"
