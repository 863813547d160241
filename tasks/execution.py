"""Running one stage for real: machine slot, folders, progress, MLflow run, and the product into the store."""

import os
import shutil
import time
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from pydantic import Field

from compression.configuration import Config
from compression.control import Control
from compression.runtime import Runtime
from tasks import stopping
from tasks.artifact_store import ArtifactReference, ArtifactStore
from tasks.invocation import StageInvocation
from tasks.locks import machine_slot
from tasks.process_group import call_others, wait_for_call
from tasks.progress import StageProgress
from tasks.settings import Settings
from tasks.stages.base import Stage, StageRequest

if TYPE_CHECKING:
    from tasks.tracking import DatasetUse, StageRun


class Execution(Config):
    """Who runs a stage: names and run ids for the record, none of which the product depends on."""

    study: str = Field(description="Name of the study")
    study_run: str | None = Field(
        None, description="MLflow run of this execution of the study; none is logged when absent"
    )
    variant: str = Field("", description="First variant that uses the stage")
    prefect_run: str = Field("", description="Prefect flow run")


def run_stage(invocation: StageInvocation, key: str, execution: Execution, settings: Settings) -> ArtifactReference:
    """Run a stage in this process and store its product.

    Args:
        invocation: the stage and its inputs.
        key: its cache key, under which it is recorded and can resume.
        execution: for which study, and where it is logged.
        settings: store, slots and runtime.

    Returns:
        Reference to the stored product.

    Raises:
        UserError: something the user can mend; the message starts with the stage's label.
        Interrupted: a stop was asked for; what is needed to resume is kept.
    """
    stage, runtime, store = invocation.stage, settings.runtime(), ArtifactStore(settings.store_folder)
    with _slot(invocation, settings) as slot, _tracked(invocation, execution, settings, key) as run:
        if slot is not None and runtime.device == "cuda" and settings.workers > 1:
            _see_one_gpu(slot)
        progress = StageProgress(invocation.label, run.log if run else lambda _step, _metrics: None)
        request = _request(invocation, settings, key, Control(progress, stopping.stop_requested))
        output, work = request.output, request.work
        call_others(work)
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


def run_beside(invocation: StageInvocation, key: str, settings: Settings) -> None:
    """Take part in a stage that another process runs by `run_stage`: compute with it, but store and record nothing.

    Args:
        invocation: the stage and its inputs.
        key: its cache key.
        settings: store and runtime.

    Raises:
        UserError: as `run_stage`.
        Interrupted: a stop was asked for.
    """
    stage, runtime = invocation.stage, settings.runtime()
    control = Control(should_stop=stopping.stop_requested)
    wait_for_call(settings.home_folder / "work" / key, control)
    request = _request(invocation, settings, key, control)
    try:
        with stopping.stopping_between_steps(), _threads(stage, runtime):
            stage.run(request)
    finally:
        shutil.rmtree(request.output, ignore_errors=True)


def _request(invocation: StageInvocation, settings: Settings, key: str, control: Control) -> StageRequest:
    store = ArtifactStore(settings.store_folder)
    work = settings.home_folder / "work" / key
    work.mkdir(parents=True, exist_ok=True)
    return StageRequest(
        config=invocation.stage.config_model.model_validate(invocation.config),
        inputs={role: given.locate(store) for role, given in invocation.inputs.items()},
        output=store.new_folder(),
        work=work,
        task=invocation.task,
        roots=invocation.roots,
        seed=invocation.seed or 0,
        runtime=settings.runtime(),
        control=control,
        cache=settings.cache_folder,
    )


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
