"""Running one stage for real: machine slot, folders, progress, MLflow run, and the product into the store."""

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from pydantic import Field

from compression.configuration import Config
from compression.control import Control
from compression.errors import Interrupted, UserError
from compression.runtime import Runtime
from tasks import stopping
from tasks.artifact_store import ArtifactReference, ArtifactStore
from tasks.invocation import StageInvocation
from tasks.locks import machine_slot
from tasks.progress import StageProgress
from tasks.settings import Settings
from tasks.stages.base import Stage, StageRequest

if TYPE_CHECKING:
    from tasks.tracking import DatasetUse, StageRun

_STOP_GRACE_SECONDS = 30.0


class Execution(Config):
    """Who runs a stage: names and run ids for the record, none of which the product depends on."""

    study: str = Field(description="Name of the study")
    study_run: str | None = Field(
        None, description="MLflow run of this execution of the study; none is logged when absent"
    )
    variant: str = Field("", description="First variant that uses the stage")
    prefect_run: str = Field("", description="Prefect flow run")


def run_stage(invocation: StageInvocation, execution: Execution, settings: Settings) -> ArtifactReference:
    """Run a stage in this process and store its product.

    Args:
        invocation: the stage and its inputs.
        execution: for which study, and where it is logged.
        settings: store, slots and runtime.

    Returns:
        Reference to the stored product.

    Raises:
        UserError: something the user can mend; the message starts with the stage's label.
        Interrupted: a stop was asked for; what is needed to resume is kept.
    """
    stage, runtime, store = invocation.stage, settings.runtime(), ArtifactStore(settings.store_folder)
    key = invocation.key(runtime)
    with _slot(invocation, settings) as slot, _tracked(invocation, execution, settings, key) as run:
        if slot is not None and runtime.device == "cuda" and settings.workers > 1:
            _see_one_gpu(slot)
        work = settings.home_folder / "work" / key
        work.mkdir(parents=True, exist_ok=True)
        output = store.new_folder()
        progress = StageProgress(invocation.label, run.log if run else lambda _step, _metrics: None)
        request = StageRequest(
            config=stage.config_model.model_validate(invocation.config),
            inputs={role: given.locate(store) for role, given in invocation.inputs.items()},
            output=output,
            work=work,
            task=invocation.task,
            roots=invocation.roots,
            seed=invocation.seed or 0,
            runtime=runtime,
            control=Control(progress, stopping.stop_requested),
            cache=settings.cache_folder,
        )
        started = time.monotonic()
        try:
            with stopping.stopping_between_steps(), _threads(stage, runtime):
                meta = stage.run(request)
        except BaseException:
            shutil.rmtree(output, ignore_errors=True)
            raise
        finally:
            progress.finish()
        meta = {**meta, "seconds": round(time.monotonic() - started, 3)}
        if run:
            # What an attempt that was killed had measured before this one went on.
            run.log_history(output / "history.jsonl")
        digest, size = store.put(output)
        reference = ArtifactReference(stage=stage.kind, key=key, digest=digest, size=size, meta=meta)
        if run:
            run.finish(meta, digest=digest, uri=store.folder(digest).as_uri())
        shutil.rmtree(work, ignore_errors=True)
    return reference


def _threads(stage: Stage, runtime: Runtime) -> AbstractContextManager[None]:
    """The runtime's number of threads around whatever computes; light stages may not even need torch."""
    if stage.resource == "light":
        return nullcontext()
    from compression.training.precision import torch_threads

    return torch_threads(runtime.threads)


def _see_one_gpu(slot: int) -> None:
    """Give the GPU of a slot to this process, which runs one stage and has not imported torch yet."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = visible.split(",") if visible else [str(number) for number in range(slot + 1)]
    os.environ["CUDA_VISIBLE_DEVICES"] = devices[slot % len(devices)]


def _slot(invocation: StageInvocation, settings: Settings) -> AbstractContextManager[int | None]:
    resource = invocation.stage.resource
    if resource == "light":
        return nullcontext()
    return machine_slot(
        settings.lock_folder,
        settings.runtime().device,
        settings.workers,
        exclusive=resource == "measurement",
        check=Control(should_stop=stopping.stop_requested).check,
    )


def _tracked(
    invocation: StageInvocation, execution: Execution, settings: Settings, key: str
) -> "AbstractContextManager[StageRun | None]":
    if execution.study_run is None:
        return nullcontext()
    from tasks.tracking import Tracker

    stage, task = invocation.stage, invocation.task
    tags = {"variant": execution.variant, "prefect.flow_run_id": execution.prefect_run}
    if task is not None:
        tags["task"] = task.name
    if invocation.seed is not None:
        tags["seed"] = str(invocation.seed)
    return Tracker(settings.tracking_uri, None, execution.study, study_run=execution.study_run).stage_run(
        stage.kind,
        key,
        name=invocation.label,
        params=invocation.config,
        tags=tags,
        dataset=_dataset(invocation),
        checkpoint=stage.produces not in ("data", "evaluation"),
        # The monitor's own thread would disturb a latency measurement.
        system_metrics=stage.resource == "training",
    )


def _dataset(invocation: StageInvocation) -> "DatasetUse | None":
    """The rows or the corpus that a stage reads."""
    from tasks.tracking import DatasetUse

    stage = invocation.stage
    if invocation.task is not None:
        return DatasetUse(invocation.task.name, invocation.data or "", context=stage.kind)
    corpus = stage.corpus(stage.config_model.model_validate(invocation.config))
    if corpus is None or invocation.corpus is None:
        return None
    return DatasetUse(corpus.name, invocation.corpus, context=stage.kind)


def run_in_process(invocation: StageInvocation, execution: Execution, settings: Settings) -> ArtifactReference:
    """Run a stage in a process of its own, so that several can run side by side without sharing torch's generator.

    The child gets its share of the cores, is told to stop when this process is, and ends when this process dies.

    Args:
        invocation: see `run_stage`.
        execution: see `run_stage`.
        settings: see `run_stage`.

    Returns:
        See `run_stage`.

    Raises:
        UserError: the child's own message.
        Interrupted: a stop was asked for.
        RuntimeError: the child died, for example for lack of memory.
    """
    order = {
        "invocation": invocation.model_dump(mode="json"),
        "execution": execution.model_dump(mode="json"),
        "settings": settings.model_dump(mode="json"),
        "parent": os.getpid(),
    }
    environment = {**os.environ, "OMP_NUM_THREADS": str(settings.runtime().threads)}
    child = subprocess.Popen(
        [sys.executable, "-m", "tasks.stage_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
        start_new_session=True,  # a terminal's Ctrl-C reaches us alone, and we pass it on once
    )
    answer = _talk(child, json.dumps(order))
    outcome: dict[str, Any] = json.loads(answer) if answer.strip() else {}
    if "reference" in outcome:
        return ArtifactReference.model_validate(outcome["reference"])
    if outcome.get("interrupted"):
        raise Interrupted("stopped on request")
    if "user_error" in outcome:
        raise UserError(outcome["user_error"])
    cause = f"signal {-child.returncode}" if child.returncode < 0 else f"exit code {child.returncode}"
    raise RuntimeError(f"{invocation.label}: the stage's process died ({cause})")


def _talk(child: "subprocess.Popen[str]", order: str) -> str:
    """Send the order, wait for the answer, pass a stop request on."""
    given: str | None = order
    stopping_since: float | None = None
    while True:
        try:
            return child.communicate(given, timeout=0.2)[0]
        except subprocess.TimeoutExpired:
            given = None
        if stopping.stop_requested():
            if stopping_since is None:
                stopping_since = time.monotonic()
                child.terminate()
            elif time.monotonic() - stopping_since > _STOP_GRACE_SECONDS:
                child.kill()
