"""What a study leaves in MLflow: one experiment a study, one parent run an execution, under it cells and stages.

Only the client with explicit run ids is used: MLflow's active run belongs to a thread and opens stray runs in others.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tasks import mlflow_store, tracking_cells, tracking_links, tracking_origin, tracking_values
from tasks.tracking_cells import CellStage, StageRecord
from tasks.tracking_processes import all_experiments, close_dead_runs, owner_tags, search_runs
from tasks.tracking_stage_run import KIND_TAG, MODEL_TAG, STAGE_KEY_TAG, DatasetUse, StageRun
from tasks.tracking_values import NOTE_TAG, now

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CellStage", "DatasetUse", "StageRun", "Tracker", "close_dead_runs"]

_PARENT_TAG = "mlflow.parentRunId"
Status = Literal["FINISHED", "FAILED", "KILLED"]


@dataclass
class Tracker:
    """Writes one execution of a study. It holds names and ids alone, so it can be sent to another process.

    Attributes:
        tracking_uri: the store, made ready by `mlflow_store.prepare`.
        artifact_location: URI or folder of tables, plots and study files; beside the database by default.
        study: name of the study and of its experiment.
        description: Markdown shown on the experiment's page.
        study_run: parent run; set by `start_study`, or given to go on with one in another process.
    """

    tracking_uri: str
    artifact_location: str | None
    study: str
    description: str = ""
    study_run: str | None = None
    _experiment: str | None = field(default=None, init=False)
    _experiments: list[str] | None = field(default=None, init=False)
    _started_here: bool = field(default=False, init=False)
    _shared_tags: dict[str, str] | None = field(default=None, init=False)
    _shown: list[str] = field(default_factory=list, init=False)
    _cells: dict[tracking_cells.Cell, str] = field(default_factory=dict, init=False)
    _stages: dict[str, StageRecord | None] = field(default_factory=dict, init=False)

    def start_study(
        self,
        run_name: str,
        *,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        study_file: Path | None = None,
        resolved: Mapping[str, Any] | None = None,
    ) -> str:
        """Open the parent run of an execution.

        Args:
            run_name: name for people.
            params: what the study declares, nested.
            tags: tags of this run; those named `prefect.*` are put on its children too.
            study_file: the study file, kept as an artifact.
            resolved: the study with everything derived filled in, kept as an artifact.

        Returns:
            Run id.
        """
        client = self._client
        source = str(study_file) if study_file else self.study
        folder = study_file.parent if study_file else Path.cwd()
        own = tracking_values.tag_texts({KIND_TAG: "study", **tracking_origin.tags(source, folder), **tags})
        run = client.create_run(self.experiment_id, run_name=run_name, tags={**own, **owner_tags()})
        self.study_run, self._started_here = str(run.info.run_id), True
        self._shared_tags = tracking_origin.inherited(own)
        with self._failing(self.study_run):
            tracking_values.write(client, self.study_run, params=tracking_values.parameters(params))
            if study_file and study_file.exists():
                client.log_artifact(self.study_run, str(study_file), "study")
            if resolved is not None:
                client.log_text(self.study_run, json.dumps(resolved, indent=2, default=str), "study/resolved.json")
            self._publish_view()
        return self.study_run

    def stage_run(
        self,
        kind: str,
        key: str,
        *,
        name: str,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        dataset: DatasetUse | None = None,
        checkpoint: bool = False,
        system_metrics: bool = True,
    ) -> StageRun:
        """Open the run of a stage that is about to run. Use it in a `with`, so that no way out leaves it open.

        Args:
            kind: stage kind.
            key: cache key, by which cells of later executions find this run.
            name: name for people.
            params: the stage's resolved configuration.
            tags: for example variant, task and seed.
            dataset: data set that the stage reads.
            checkpoint: whether the product is a model, to be shown under Models.
            system_metrics: whether to record the machine's load; not while latency is measured.

        Returns:
            Handle on the run.
        """
        client = self._client
        own = {KIND_TAG: "stage", "stage": kind, STAGE_KEY_TAG: key}
        run_id = self._create_child(name, {**(tags or {}), **own})
        with self._failing(run_id):
            tracking_values.write(client, run_id, params=tracking_values.parameters(params or {}))
            if dataset:
                client.log_inputs(run_id, dataset.as_inputs())
        return StageRun(
            self.tracking_uri, run_id, checkpoint_name=name if checkpoint else None, system_metrics=system_metrics
        )

    def record_cell(
        self,
        variant: str,
        task: str,
        seed: int | None,
        *,
        params: Mapping[str, Any],
        metrics: Mapping[str, float],
        stages: Sequence[CellStage] = (),
        dataset: DatasetUse | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """Record one cell in one go: create, fill, close. A second call for the same cell changes nothing.

        Args:
            variant: row of the table.
            task: task.
            seed: seed; None when the chain makes no random choice.
            params: the whole resolved chain, nested.
            metrics: all that was measured.
            stages: the chain, with what was reused.
            dataset: data set that the metrics were measured on.
            tags: further tags.

        Returns:
            Run id.
        """
        cell = (variant, task, seed)
        if known := self._recorded(cell):
            return known
        records = {stage.key: self._stage_record(stage) for stage in stages}
        kept, not_finite = tracking_values.finite(metrics)
        own = {
            **(tags or {}),
            **tracking_cells.tags(cell, stages),
            **({"not_finite": ", ".join(not_finite)} if not_finite else {}),
            NOTE_TAG: tracking_values.note(tracking_cells.description(stages, records)),
        }
        run_id = self._create_child(tracking_cells.name(cell), own)
        with self._closing(run_id):
            points = tracking_values.points(kept, now(), tracking_cells.measured_model(stages, records))
            tracking_values.write(self._client, run_id, metrics=points, params=tracking_values.parameters(params))
            self._client.log_inputs(run_id, *tracking_cells.inputs(dataset, stages, records))
        self._cells[cell] = run_id
        self._show(kept)
        return run_id

    def find_stage_run(self, key: str) -> str | None:
        """Run of the stage that made an artifact, in whatever study and execution that was.

        Args:
            key: cache key.

        Returns:
            Run id of the latest that finished, None when there is none in this store.
        """
        record = self._find_stage(key)
        return record.run_id if record else None

    def finish_study(
        self,
        status: Status,
        note: str,
        files: Sequence[Path] = (),
        table: "pd.DataFrame | None" = None,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Close the parent run, and with it whatever this execution left open.

        Args:
            status: how it ended.
            note: Markdown, shown as the run's description.
            files: reports and plots, kept as artifacts.
            table: the ablation table, kept so that MLflow shows it as a table.
            metrics: numbers of the execution, such as stages run and reused.
        """
        client, run_id = self._client, self._parent
        left = f"tags.`{_PARENT_TAG}` = '{run_id}' and attributes.status = 'RUNNING'"
        for child in search_runs(client, left, [self.experiment_id]):
            client.set_terminated(child.info.run_id, "KILLED" if status == "FINISHED" else status)
        with self._closing(run_id, status):
            kept, _ = tracking_values.finite(metrics or {})
            points = tracking_values.points(kept, now())
            tracking_values.write(client, run_id, metrics=points, tags={NOTE_TAG: tracking_values.note(note)})
            for file in files:
                client.log_artifact(run_id, str(file), "report")
            # A second table would be appended to the first.
            if table is not None and all(found.path != "table.json" for found in client.list_artifacts(run_id)):
                client.log_table(run_id, table, "table.json")
        for view in tracking_links.old_views(client.get_experiment(self.experiment_id).tags):
            client.delete_experiment_tag(self.experiment_id, view)

    def link(self, run_id: str | None = None) -> str:
        """Address in MLflow's browser interface.

        Args:
            run_id: a run; without one, the cells of this execution with their metrics.

        Returns:
            URL; for a database, under the address where `bertpress ui` listens.
        """
        address = mlflow_store.ui_address(self.tracking_uri)
        if run_id is not None:
            return address + tracking_links.run_link(self.experiment_id, run_id)
        return address + tracking_links.view_link(self.experiment_id, self._parent)

    @property
    def experiment_id(self) -> str:
        """The study's experiment, made when it is not there."""
        if self._experiment is None:
            self._experiment = tracking_origin.experiment(
                self._client, self.study, self.description, self.artifact_location
            )
        return self._experiment

    @property
    def _client(self) -> Any:
        return mlflow_store.client(self.tracking_uri)

    @property
    def _parent(self) -> str:
        if self.study_run is None:
            raise RuntimeError("start_study comes first")
        return self.study_run

    def _create_child(self, name: str, tags: Mapping[str, str]) -> str:
        """Open a run under the parent, with the tags that it shares with it."""
        if self._shared_tags is None:
            self._shared_tags = tracking_origin.inherited(self._client.get_run(self._parent).data.tags)
        every = {**self._shared_tags, **tracking_values.tag_texts(tags), _PARENT_TAG: self._parent, **owner_tags()}
        return str(self._client.create_run(self.experiment_id, run_name=name, tags=every).info.run_id)

    @contextmanager
    def _failing(self, run_id: str) -> Iterator[None]:
        """Close a run when filling it fails."""
        try:
            yield
        except BaseException as error:
            self._client.set_terminated(run_id, "FAILED" if isinstance(error, Exception) else "KILLED")
            raise

    @contextmanager
    def _closing(self, run_id: str, status: Status = "FINISHED") -> Iterator[None]:
        """Close a run whether or not filling it succeeds."""
        with self._failing(run_id):
            yield
        self._client.set_terminated(run_id, status)

    def _recorded(self, cell: tracking_cells.Cell) -> str | None:
        """Run of a cell that is complete already. A half-written one of a dead process is put away."""
        if cell not in self._cells and not self._started_here:
            matches = f"tags.`{_PARENT_TAG}` = '{self._parent}' and {tracking_cells.search(cell)}"
            for run in search_runs(self._client, matches, [self.experiment_id]):
                if run.info.status == "FINISHED":
                    self._cells[cell] = run.info.run_id
                else:
                    self._client.set_terminated(run.info.run_id, "KILLED")
                    self._client.delete_run(run.info.run_id)
        return self._cells.get(cell)

    def _stage_record(self, stage: CellStage) -> StageRecord | None:
        if stage.key not in self._stages:
            self._stages[stage.key] = self._find_stage(stage.key)
        return self._stages[stage.key]

    def _find_stage(self, key: str) -> StageRecord | None:
        if self._experiments is None:
            self._experiments = all_experiments(self._client)
        matches = f"tags.`{STAGE_KEY_TAG}` = '{key}' and attributes.status = 'FINISHED'"
        latest = ["attributes.start_time DESC"]
        for run in self._client.search_runs(self._experiments, matches, max_results=1, order_by=latest):
            return StageRecord(run.info.run_id, run.info.experiment_id, run.data.tags.get(MODEL_TAG))
        return None

    def _show(self, metrics: Mapping[str, float]) -> None:
        """Give metrics that no cell had before their columns."""
        new = [name for name in metrics if name not in self._shown]
        if new:
            self._shown += new
            self._publish_view()

    def _publish_view(self) -> None:
        """Store what `link` opens."""
        tag, view = tracking_links.view_tag(self._parent, self._shown)
        self._client.set_experiment_tag(self.experiment_id, tag, view)
