"""Shapes of the models of a study before anything runs: parameter counts for the plan, and what is impossible."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compression.architecture.shape import EncoderShape, shape_of
from compression.errors import UserError
from flows.graph import SOURCE, Graph, Node
from flows.spec import TeacherConfig
from flows.study_errors import Mark, Problem, StudyFileError
from flows.study_file import LoadedStudy
from tasks.model_source import resolve_model
from tasks.stages.base import Stage


@dataclass(frozen=True)
class ShapeProblem:
    """A stage that cannot be applied to the model that comes before it."""

    node: Node
    text: str


def source_shape(teacher: TeacherConfig, roots: Sequence[Path]) -> EncoderShape | None:
    """Shape of a study's pretrained model, read from its `config.json`.

    Args:
        teacher: names the model.
        roots: folders that a relative folder may be in.

    Returns:
        The shape; None when the model has to be downloaded first.

    Raises:
        UserError: the model cannot be found, or is of an architecture whose shape cannot be edited.
    """
    folder = resolve_model(teacher.model, teacher.revision, roots, download=False)
    return None if folder is None else shape_of(declared_config(folder))


def declared_config(folder: Path) -> dict[str, Any]:
    """Content of a model folder's `config.json`.

    Args:
        folder: model folder; its weights are not looked at.

    Returns:
        JSON values.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    path = folder / "config.json"
    try:
        declared = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if not isinstance(declared, dict):
        raise UserError(f"{path} cannot be read: it is no JSON object")
    return declared


def node_shapes(
    graph: Graph, stages: Mapping[str, Stage], source: EncoderShape | None
) -> tuple[dict[str, EncoderShape], dict[str, tuple[str, ...]], list[ShapeProblem]]:
    """Follow the shape of the source through the graph.

    Args:
        graph: the study's graph.
        stages: kind -> implementation.
        source: shape of the pretrained model; None when it is not known.

    Returns:
        Node id -> shape of the model that it leaves behind, as far as known; node id -> what the plan should say of it;
        and the stages that are impossible.
    """
    shapes: dict[str, EncoderShape] = {} if source is None else {SOURCE: source}
    remarks: dict[str, tuple[str, ...]] = {}
    problems: list[ShapeProblem] = []
    for node in graph.nodes.values():
        stage = stages[node.kind]
        before = shapes.get(node.inputs.get("model", node.inputs.get("encoder", "")))
        teacher = node.inputs.get(stage.teacher_role(node.config, tuple(node.inputs)) or "", "")
        try:
            if before is not None and stage.produces != "data":
                shapes[node.id] = stage.reshape(node.config, before)
            if said := stage.remarks(node.config, shapes.get(node.id), shapes.get(teacher)):
                remarks[node.id] = said
        except UserError as error:
            problems.append(ShapeProblem(node, str(error)))
    shapes.pop(SOURCE, None)
    return shapes, remarks, problems


def check_shapes(
    loaded: LoadedStudy, graph: Graph, stages: Mapping[str, Stage], roots: Sequence[Path]
) -> tuple[dict[str, EncoderShape], dict[str, tuple[str, ...]]]:
    """Refuse a study in which a stage cannot be applied to the model before it.

    Args:
        loaded: the study.
        graph: its graph.
        stages: kind -> implementation.
        roots: folders that a relative model folder may be in.

    Returns:
        Node id -> shape of the model that it leaves behind, as far as known; and node id -> what the plan should say.

    Raises:
        StudyFileError: names the variant, its line and the stage.
    """
    shapes: dict[str, EncoderShape] = {}
    remarks: dict[str, tuple[str, ...]] = {}
    try:
        shapes, remarks, problems = node_shapes(graph, stages, source_shape(loaded.study.teacher, roots))
    except UserError as error:
        # Other architectures can be trained and quantized all the same; and a run tells of a model that is not there.
        edits = [node for node in graph.nodes.values() if stages[node.kind].produces == "same"]
        problems = [ShapeProblem(node, str(error)) for node in edits]
    if problems:
        lines = {variant.name: variant.line for variant in loaded.variants}
        marked = [(Mark(("variants", found.node.variant), lines.get(found.node.variant)), found) for found in problems]
        raise StudyFileError(
            loaded.path, [Problem(mark, f"`{found.node.kind}`: {found.text}") for mark, found in marked]
        )
    return shapes, remarks
