"""Running a study from file to table: server, stores, flow, records, report."""

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from flows.embedded_server import EmbeddedServer
from flows.graph import GraphCell, Node
from flows.prefect_setup import (
    close_dead_flow_runs,
    configure_prefect,
    flow_run_settings,
    import_prefect,
    wait_until_recorded,
)
from flows.project import Project
from flows.reporting import flow_artifact, mlflow_note, table_of, write_report
from flows.run_record import NodeRecord, RunRecord, RunRecorder, cell_name
from flows.start_up import collector_paused
from tasks import mlflow_store
from tasks.artifact_store import ArtifactReference
from tasks.execution import Execution
from tasks.locks import RUN_SLOTS, RUNS, machine_slot
from tasks.settings import use_settings
from tasks.stopping import stop_signals
from tasks.tracking import CellStage, DatasetUse, Tracker, close_dead_runs

if TYPE_CHECKING:
    from compression.analysis.results import AblationTable
    from flows.study_flow import StudyRun

Ending = Literal["finished", "failed", "killed"]


@dataclass(frozen=True)
class Outcome:
    """What a run gave.

    Attributes:
        record: the run's record.
        table: the ablation table of all cells that are there.
        report: the report's files.
        failures: one line a failed stage.
    """

    record: RunRecord
    table: "AblationTable"
    report: Sequence[Path]
    failures: Sequence[str]


def run_project(project: Project) -> Outcome:
    """Run a study: what is cached is reused, the rest is computed, everything is recorded.

    Args:
        project: the study.

    Returns:
        Record, table and failures.

    Raises:
        UserError: something the user can mend that concerns the study as a whole.
        KeyboardInterrupt: a stop was asked for; MLflow and Prefect say so, and the next run resumes.
    """
    settings = project.settings
    use_settings(settings)
    server = configure_prefect(settings)
    # The embedded server takes seconds to start: meanwhile this process imports MLflow.
    embedded = None if server else EmbeddedServer.start()
    with stop_signals(), machine_slot(settings.lock_folder, RUNS, RUN_SLOTS, exclusive=False):
        with collector_paused():
            mlflow_store.prepare(settings.tracking_uri, settings.lock_folder)
            close_dead_runs(settings.tracking_uri)
            if embedded:
                os.environ["PREFECT_API_URL"] = embedded.address
            import_prefect()
        if embedded:
            embedded.wait()
        close_dead_flow_runs()
        return _StudyExecution(project, server).run()


class _StudyExecution:
    """One execution: its MLflow runs, its record on disk, and what is told to whom when a product arrives."""

    def __init__(self, project: Project, server: str) -> None:
        self.project, self.server = project, server
        self.recorder = RunRecorder(project.settings, project.name)
        self.name = f"{project.name} {datetime.now():%Y-%m-%d %H:%M:%S}"
        self.nodes: dict[str, NodeRecord] = {}
        self.data: dict[str, str] = {}
        self.outcome: Outcome | None = None
        self.cells_by_end: dict[str, list[GraphCell]] = defaultdict(list)
        for cell in project.graph.cells:
            self.cells_by_end[cell.chain[-1]].append(cell)
        settings, study = project.settings, project.loaded.study
        artifacts = None if settings.mlflow_tracking_uri else settings.mlflow_artifact_folder.as_uri()
        self.tracker = Tracker(settings.tracking_uri, artifacts, study.name, study.description)

    def run(self) -> Outcome:
        """Run the flow and close every record, whatever happens."""
        from flows.study_flow import StudyFailedError, StudyRun, run_in_prefect

        project, study = self.project, self.project.loaded.study
        preparer = project.preparer(download=True)
        preparer.check_external(project.graph)
        parent = self.tracker.start_study(
            self.name,
            params={"tasks": [task.name for task in study.tasks], "seeds": study.seeds, "teacher": study.teacher.model},
            tags={"bertpress.run": self.recorder.id, "prefect.server": self.server or "embedded"},
            study_file=project.loaded.path,
            resolved={variant.name: _chain(variant.stages) for variant in project.loaded.variants},
        )
        self.recorder.links["MLflow"] = self.tracker.link()
        execution = Execution(study=study.name, study_run=parent)
        run = StudyRun(project.graph, preparer, project.settings, execution, self.on_product)
        ending: Ending = "killed"
        try:
            with flow_run_settings(self.server):
                run_in_prefect(run, self.name, study.description, self.finish)
            ending = "finished"
        except StudyFailedError:
            ending = "failed"
        except Exception:
            ending = "failed"
            raise
        finally:
            self.close(ending)
        wait_until_recorded(run.execution.prefect_run, len(self.nodes))
        if self.outcome is None:
            raise RuntimeError("the flow ended without a report")
        return self.outcome

    def on_product(self, node: Node, parts: dict[str, Any], product: ArtifactReference, cached: bool) -> None:
        """Record a stage's product, and every cell that it completes."""
        self.nodes[node.id] = NodeRecord(
            key=product.key,
            digest=product.digest,
            cached=cached,
            seconds=product.meta.get("seconds", 0.0),
            parts=parts,
        )
        self.data[node.id] = parts["data"] or ""
        self.recorder.add(node.label, self.nodes[node.id])
        for cell in self.cells_by_end[node.id]:
            name = cell_name(cell.variant, cell.task, cell.seed)
            self.recorder.cell_links[name] = self.tracker.link(self._record_cell(cell, product))

    def _record_cell(self, cell: GraphCell, product: ArtifactReference) -> str:
        chain = [self.project.graph.nodes[identity] for identity in cell.chain]
        records = [self.nodes[node.id] for node in chain]
        return self.tracker.record_cell(
            cell.variant,
            cell.task,
            cell.seed,
            params=_chain(chain),
            metrics={**product.meta["metrics"], **_numbers(product.meta.get("efficiency", {}))},
            stages=[
                CellStage(node.kind, record.key, record.digest, record.cached)
                for node, record in zip(chain, records, strict=True)
            ],
            dataset=DatasetUse(cell.task, self.data[chain[-1].id], context="evaluation"),
        )

    def finish(self, run: "StudyRun") -> str:
        """Make the table and the report; returns the Markdown of Prefect's artifact."""
        computed = frozenset(identity for identity, record in self.nodes.items() if not record.cached)
        table = table_of(self.project, run.products, links=self.recorder.cell_links, computed=computed)
        failures = sorted(set(run.failures.values()))
        if self.server:
            page = self.server.removesuffix("/api")
            self.recorder.links["Prefect"] = f"{page}/runs/flow-run/{run.execution.prefect_run}"
        record = self.recorder.write("failed" if failures else "finished")
        files = write_report(self.project, table, record)
        self.outcome = Outcome(record, table, files, failures)
        return flow_artifact(self.project, table, record, failures)

    def close(self, ending: Ending) -> None:
        """Close the MLflow parent run and the record on disk."""
        status: dict[Ending, Literal["FINISHED", "FAILED", "KILLED"]] = {
            "finished": "FINISHED",
            "failed": "FAILED",
            "killed": "KILLED",
        }
        self.recorder.write(ending)
        outcome = self.outcome
        reused = sum(record.cached for record in self.nodes.values())
        self.tracker.finish_study(
            status[ending],
            mlflow_note(self.project, outcome.table, outcome.failures) if outcome else "Stopped before the table.",
            files=outcome.report if outcome else [],
            table=outcome.table.to_frame() if outcome else None,
            metrics={"stages_run": len(self.nodes) - reused, "stages_reused": reused},
        )


def _chain(stages: Sequence[Any]) -> dict[str, Any]:
    """Configurations of a chain by place and kind, as MLflow shows them."""
    return {
        f"{place}.{stage.kind}": stage.config.model_dump(mode="json") for place, stage in enumerate(stages, start=1)
    }


def _numbers(efficiency: Mapping[str, Any]) -> dict[str, float]:
    """Scalars of an efficiency summary under the names that MLflow sorts by: `latency_ms/median`."""
    flat: dict[str, float] = {}
    for name, value in efficiency.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}/{inner}": number for inner, number in _numbers(value).items()}
        elif isinstance(value, int | float) and not isinstance(value, bool):
            flat[name] = value
    return flat
