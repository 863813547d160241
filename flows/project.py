"""A study ready to plan or run: its file read, its graph built, its models and data looked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from compression.architecture.shape import EncoderShape
from flows.graph import Graph, build_graph
from flows.overrides import select
from flows.planning import NodePlan, Preparer, plan_graph
from flows.run_record import last_parts
from flows.shapes import check_shapes
from flows.study_file import LoadedStudy, load_study
from tasks.settings import Settings
from tasks.stages.base import Stage
from tasks.stages.registry import stages as registered_stages


@dataclass(frozen=True)
class Project:
    """A loaded study with its graph, on one machine.

    Attributes:
        loaded: the study.
        graph: its stages.
        stages: kinds of stage.
        roots: folders that relative files and models may lie in.
        settings: this machine.
        shapes: node id -> shape of the model that the stage leaves behind, as far as it is known before it runs.
        remarks: node id -> what else the plan should say of the stage.
    """

    loaded: LoadedStudy
    graph: Graph
    stages: Mapping[str, Stage]
    roots: tuple[Path, ...]
    settings: Settings
    shapes: Mapping[str, EncoderShape]
    remarks: Mapping[str, tuple[str, ...]]

    @property
    def name(self) -> str:
        """The study's name."""
        return self.loaded.study.name

    def preparer(self, *, download: bool = False) -> Preparer:
        """What turns the graph's nodes into invocations.

        Args:
            download: whether models are fetched from the hub.

        Returns:
            A new preparer.
        """
        return Preparer(self.loaded.study, self.stages, self.roots, self.settings, download)

    def plan(self) -> list[NodePlan]:
        """Look up every node.

        Returns:
            One plan a node.
        """
        return plan_graph(self.graph, self.preparer(), last_parts(self.settings, self.name))

    def teacher_row(self) -> str | None:
        """The variant that retained share and speed-up refer to, when it is among those that were kept."""
        name = self.loaded.teacher_variant
        return name if name in {variant.name for variant in self.loaded.variants} else None


def open_project(
    path: Path,
    settings: Settings,
    *,
    overrides: Sequence[str] = (),
    only: Sequence[str] = (),
    tasks: Sequence[str] = (),
    seeds: Sequence[int] = (),
    stages: Mapping[str, Stage] | None = None,
) -> Project:
    """Read a study and build its graph; whatever can be checked before running is checked.

    Args:
        path: the study file.
        settings: this machine.
        overrides: `path=value` changes of the study.
        only: patterns of variant names to keep.
        tasks: names of tasks to keep.
        seeds: seeds to keep.
        stages: kinds of stage; the registered ones by default.

    Returns:
        The project.

    Raises:
        UserError: the study, its data or its selection is wrong; says where.
    """
    known = stages if stages is not None else registered_stages()
    loaded = select(load_study(path, overrides, known), only, tasks, seeds)
    graph = build_graph(loaded.study, loaded.variants, loaded.teacher, known)
    data = settings.data_folder
    roots = (path.resolve().parent, *([data.expanduser().resolve()] if data else []))
    shapes, remarks = check_shapes(loaded, graph, known, roots)
    return Project(loaded, graph, known, roots, settings, shapes, remarks)
