"""The Prefect flow of a study: every node a cached task, every cell recorded, one artifact to read."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

from compression.errors import Interrupted, UserError
from flows.graph import SOURCE, Graph, Node
from flows.planning import Preparer
from flows.spec import Study
from tasks.artifact_store import ArtifactReference
from tasks.cached_stage import cached_stage
from tasks.execution import Execution
from tasks.invocation import StageInvocation, key_of
from tasks.records import read_record
from tasks.settings import Settings
from tasks.stopping import stop_requested

_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class _Ready:
    """A node whose inputs are known."""

    node: Node
    invocation: StageInvocation
    parts: dict[str, Any]


@dataclass
class StudyRun:
    """One run of a graph: what is computed, what failed, and whom to tell.

    Attributes:
        graph: the stages.
        preparer: makes their invocations.
        settings: store, records, workers.
        execution: names and run ids that stages log under.
        on_product: called with every node, its key parts, its product and whether it was reused.
        products: node id -> product.
        failures: node id -> why it, or something before it, failed.
    """

    graph: Graph
    preparer: Preparer
    settings: Settings
    execution: Execution
    on_product: Callable[[Node, dict[str, Any], ArtifactReference, bool], None]
    products: dict[str, ArtifactReference] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    _states: dict[str, State[Any]] = field(default_factory=dict)

    def run_one_by_one(self) -> None:
        """Run every node in the main thread, where Ctrl-C reaches it."""
        for node in self.graph.nodes.values():
            self._check_stop()
            if (ready := self._prepare(node)) is not None:
                state = self._task(node)(*self._arguments(ready), return_state=True, wait_for=self._inputs(node))
                self._settle(ready, state)

    def run_side_by_side(self) -> None:
        """Run independent nodes at once; each trains in a process of its own while a thread waits for it."""
        waiting = dict(self.graph.nodes)
        running: dict[PrefectFuture[Any], _Ready] = {}
        while waiting or running:
            for node in [node for node in waiting.values() if self._is_ready(node)]:
                del waiting[node.id]
                if (ready := self._prepare(node)) is not None:
                    future = self._task(node).submit(*self._arguments(ready), wait_for=self._inputs(node))
                    running[future] = ready
            done = [future for future in running if _is_done(future)]
            for future in done:
                self._settle(running.pop(future), future.state)
            if not running:
                self._check_stop()
            elif not done:
                time.sleep(_POLL_SECONDS)

    def _check_stop(self) -> None:
        if stop_requested():
            raise Interrupted("stopped on request")

    def _is_ready(self, node: Node) -> bool:
        known = {SOURCE, *self.products, *self.failures}
        return not stop_requested() and all(given in known for given in node.inputs.values())

    def _prepare(self, node: Node) -> _Ready | None:
        failed = [self.failures[given] for given in node.inputs.values() if given in self.failures]
        if failed:
            self.failures[node.id] = failed[0]
            return None
        invocation = self.preparer.invocation(node, self.products)
        if isinstance(invocation, str):
            raise UserError(f"{node.label}: {invocation}")
        return _Ready(node, invocation, invocation.key_parts(self.preparer.runtime))

    def _task(self, node: Node) -> Any:
        return cached_stage(self.settings, node.kind, node.label)

    def _arguments(self, ready: _Ready) -> tuple[StageInvocation, str, Execution]:
        execution = self.execution.model_copy(update={"variant": ready.node.variant})
        return ready.invocation, key_of(ready.parts), execution

    def _inputs(self, node: Node) -> list[State[Any]]:
        return [self._states[given] for given in node.inputs.values() if given != SOURCE]

    def _settle(self, ready: _Ready, state: State[Any]) -> None:
        node = ready.node
        self._states[node.id] = state
        outcome = state.result(raise_on_failure=False)
        if isinstance(outcome, ArtifactReference):
            if read_record(self.settings, outcome.key) is not None:
                self.products[node.id] = outcome
                self.on_product(node, ready.parts, outcome, state.name == "Cached")
                return
            # Prefect calls a task complete although writing its record failed.
            outcome = UserError(f"its cache record could not be written to {self.settings.record_folder}")
        if isinstance(outcome, KeyboardInterrupt):
            raise outcome
        reason = str(outcome) if isinstance(outcome, UserError) else repr(outcome)
        self.failures[node.id] = f"{node.label}: {reason}"


def _is_done(future: PrefectFuture[Any]) -> bool:
    """Whether a task has ended. Asking for its result also keeps its final state: the server learns of it later."""
    try:
        future.result(timeout=0, raise_on_failure=False)
    except TimeoutError:
        return False
    return True


def run_in_prefect(run: StudyRun, run_name: str, description: str, finish: Callable[[StudyRun], str]) -> None:
    """Run a study's graph as one Prefect flow run.

    Args:
        run: the graph and what it needs.
        run_name: name of the flow run, for people.
        description: shown beside it.
        finish: called inside the flow when all nodes are settled; returns the Markdown of the flow run's artifact.

    Raises:
        Interrupted: a stop was asked for.
        StudyFailedError: a stage failed; the others were run all the same.
    """
    side_by_side = run.settings.workers > 1
    options: dict[str, Any] = (
        {"task_runner": ThreadPoolTaskRunner(max_workers=run.settings.workers)} if side_by_side else {}
    )

    @flow(name="study", flow_run_name=run_name, description=description, **options)
    def study(study: Study) -> None:
        del study  # shown with the flow run; the graph was built from it
        run.execution = run.execution.model_copy(update={"prefect_run": str(flow_run.id)})
        if side_by_side:
            run.run_side_by_side()
        else:
            run.run_one_by_one()
        create_markdown_artifact(
            finish(run), key="ablation-table", description=f"Ablation table of {run.execution.study}"
        )
        if run.failures:
            raise StudyFailedError(run.failures)

    study(run.preparer.study)


class StudyFailedError(UserError):
    """Some stages failed; names each failure once."""

    def __init__(self, failures: Mapping[str, str]) -> None:
        self.failures = sorted(set(failures.values()))
        super().__init__("\n".join(self.failures))
