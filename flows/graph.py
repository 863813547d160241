"""The stage graph of a study: chains of all variants, tasks and seeds, merged where their prefixes are equal.

A node is identified by its derivation: its stage, configuration and, recursively, its inputs, plus the task and the
seed when it, or anything before it, uses them. General distillation, which uses no task, is one node for all tasks.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from compression.data.config import TaskConfig
from compression.errors import UserError
from flows.derivation import ResolvedStage, ResolvedVariant
from flows.spec import Study
from tasks import keys
from tasks.stages.base import External, Stage

# Stands for the study's pretrained model among the inputs of a node.
SOURCE = "source"


@dataclass(frozen=True)
class Node:
    """One stage to compute once.

    Attributes:
        id: digest of the derivation; equal nodes have equal ids.
        kind: kind of stage.
        config: its resolved configuration.
        inputs: role -> id of the node that gives it, or `SOURCE`.
        external: role -> model or file from outside the study.
        task: the task, when the stage reads its rows.
        seed: the seed, when the stage makes random choices.
        label: name for people; a node of several variants carries the first one's.
        variant: first variant that uses it.
    """

    id: str
    kind: str
    config: Any
    inputs: Mapping[str, str]
    task: TaskConfig | None
    seed: int | None
    label: str
    variant: str
    external: Mapping[str, External] = field(default_factory=dict)


@dataclass(frozen=True)
class GraphCell:
    """One measured value of the table: the nodes of its chain, in order; the last one evaluates."""

    variant: str
    task: str
    seed: int | None
    chain: tuple[str, ...]


@dataclass
class Graph:
    """Nodes in an order in which every input comes first, and the cells that they end in."""

    nodes: dict[str, Node] = field(default_factory=dict)
    cells: list[GraphCell] = field(default_factory=list)


def build_graph(
    study: Study, variants: Sequence[ResolvedVariant], teacher: ResolvedStage | None, stages: Mapping[str, Stage]
) -> Graph:
    """Merge the chains of a study into one graph.

    Args:
        study: tasks, seeds and teacher.
        variants: the resolved chains.
        teacher: the stage that fine-tunes the teacher; None when the model already is fine-tuned.
        stages: kind -> implementation.

    Returns:
        The graph; cells come variant by variant, then task by task, then seed by seed.
    """
    builder = _Builder(study, teacher, stages)
    for variant in variants:
        for task in study.tasks:
            for seed in study.seeds:
                builder.add_cell(variant, task, seed)
    return builder.graph


@dataclass(frozen=True)
class _Before:
    """What a stage finds in its chain: the last model, and the last rows in place of the task's own."""

    model: str | None = None
    rows: str | None = None


class _Builder:
    def __init__(self, study: Study, teacher: ResolvedStage | None, stages: Mapping[str, Stage]) -> None:
        self.study, self.teacher, self.stages = study, teacher, stages
        self.graph = Graph()
        # What a node and everything before it depend on: "task", "seed".
        self._depends: dict[str, frozenset[str]] = {SOURCE: frozenset()}
        self._configs: dict[tuple[int, str], tuple[Any, str]] = {}
        self._cells: set[tuple[str, ...]] = set()
        self._labels: Counter[str] = Counter()

    def add_cell(self, variant: ResolvedVariant, task: TaskConfig, seed: int) -> None:
        chain: list[str] = []
        before = _Before()
        for stage in variant.stages:
            chain.append(self._add(stage, before, task, seed, variant.name))
            gives_rows = self.stages[stage.kind].produces == "data"
            before = replace(before, rows=chain[-1]) if gives_rows else replace(before, model=chain[-1])
        by_seed = "seed" in self._depends[chain[-1]]
        cell = GraphCell(variant.name, task.name, seed if by_seed else None, tuple(chain))
        # Without a random choice in it, the chain gives one value, not one a seed.
        if (identity := (variant.name, task.name, str(cell.seed))) not in self._cells:
            self._cells.add(identity)
            self.graph.cells.append(cell)

    def _add(
        self,
        resolved: ResolvedStage,
        before: _Before,
        task: TaskConfig,
        seed: int,
        variant: str,
        teacher_seed: int | None = None,
    ) -> str:
        stage = self.stages[resolved.kind]
        is_teacher = before == _Before() and resolved == self.teacher
        fixed = self.study.teacher.seed if is_teacher else None
        # A teacher that is asked for by its seed may be some cell's own teacher, which differs from seed to seed.
        own_seed = teacher_seed if teacher_seed is not None else seed if fixed is None else fixed
        inputs = self._inputs(stage, resolved.config, before, task, seed)
        depends = frozenset().union(*(self._depends[given] for given in inputs.values()))
        reads, random = stage.reads(resolved.config), stage.is_random(resolved.config)
        depends |= {*(["task"] if reads else []), *(["seed"] if random and fixed is None else [])}
        node_seed = own_seed if random else None
        task_read = task if reads else None
        task_name = task.name if reads else None
        config, config_digest = self._config(stage, resolved, task_read)
        identity = keys.digest([resolved.kind, config_digest, inputs, task_name, node_seed])[:16]
        if identity not in self.graph.nodes:
            where = [task.name] if "task" in depends else []
            where += [f"seed {own_seed}"] if "seed" in depends or fixed is not None else []
            label = self._unique(" · ".join([f"{resolved.kind} {'teacher' if is_teacher else variant}", *where]))
            external = stage.external(config)
            node = Node(identity, resolved.kind, config, inputs, task_read, node_seed, label, variant, external)
            self.graph.nodes[identity] = node
            self._depends[identity] = depends
        return identity

    def _inputs(self, stage: Stage, config: Any, before: _Before, task: TaskConfig, seed: int) -> dict[str, str]:
        roles = stage.roles(config)
        inputs: dict[str, str] = {}
        if "model" in roles or (stage.produces != "data" and (before.model or "encoder" not in roles)):
            inputs["model"] = before.model or SOURCE
        if "encoder" in roles:
            inputs["encoder"] = SOURCE
        for role in roles:
            if role.startswith("teacher"):
                inputs[role] = self._teacher(task, seed, role)
        if stage.takes_rows and before.rows is not None:
            inputs["data"] = before.rows
        return inputs

    def _teacher(self, task: TaskConfig, seed: int, role: str) -> str:
        """The node that gives a teacher: that of the study, or the one of a certain seed (`teacher@3`)."""
        _, _, wanted = role.partition("@")
        if self.teacher is not None:
            return self._add(self.teacher, _Before(), task, seed, "teacher", int(wanted) if wanted else None)
        if wanted:
            raise UserError("`teacher_seeds` fine-tunes several teachers, but `teacher.finetuned` says there is one")
        return SOURCE

    def _unique(self, label: str) -> str:
        """Labels tell nodes apart: run records and `explain` go by them. A chain may have a kind twice."""
        self._labels[label] += 1
        return label if self._labels[label] == 1 else f"{label} ({self._labels[label]})"

    def _config(self, stage: Stage, resolved: ResolvedStage, task: TaskConfig | None) -> tuple[Any, str]:
        """The configuration for a task, or for none, and its digest."""
        # Configurations are shared by all tasks and seeds of a variant: digest each object once a task.
        memo = (id(resolved), "" if task is None else task.name)
        if memo not in self._configs:
            config = resolved.config if task is None else stage.for_task(resolved.config, task)
            self._configs[memo] = (config, keys.digest(config))
        return self._configs[memo]
