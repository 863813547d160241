"""The one Prefect task that runs a stage, cached by our key, our lock and our verification.

Prefect is given the key (`GivenKey`), holds `FlockManager`'s lock while it looks and runs (so two runs of
one study compute a stage once), and reads the record through `VerifiedArtifact`, whose refusal of a missing or damaged
artifact makes Prefect treat the record as absent and run the stage again.
"""

import asyncio
import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from prefect import Task, task
from prefect.cache_policies import CachePolicy
from prefect.context import TaskRunContext
from prefect.locking.protocol import LockManager
from prefect.serializers import Serializer
from prefect.transactions import IsolationLevel

from tasks.artifact_store import ArtifactReference, ArtifactStore
from tasks.child_processes import processes_of, run_in_process
from tasks.execution import Execution, run_stage
from tasks.invocation import StageInvocation
from tasks.locks import lock_file
from tasks.settings import Settings, current_settings

_POLL_SECONDS = 0.05
# Locks that this process holds: (folder, key) -> (holder, lock). Outside the manager, because Prefect copies managers.
_held: dict[tuple[Path, str], tuple[str, FileLock]] = {}


class FlockManager(LockManager):
    """Prefect's lock protocol on flock(2): unlike Prefect's own file locks, free at once when the holder is killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def acquire_lock(
        self, key: str, holder: str, acquire_timeout: float | None = None, hold_timeout: float | None = None
    ) -> bool:
        """Take the lock of a key; see Prefect's `LockManager`. A hold never times out: stages run for hours."""
        del hold_timeout
        if self.is_lock_holder(key, holder):
            return True
        lock = FileLock(lock_file(self.folder, key), thread_local=False)
        try:
            lock.acquire(timeout=-1 if acquire_timeout is None else acquire_timeout, poll_interval=_POLL_SECONDS)
        except Timeout:
            return False
        _held[self.folder, key] = (holder, lock)
        return True

    async def aacquire_lock(
        self, key: str, holder: str, acquire_timeout: float | None = None, hold_timeout: float | None = None
    ) -> bool:
        """See `acquire_lock`."""
        return await asyncio.to_thread(self.acquire_lock, key, holder, acquire_timeout, hold_timeout)

    def release_lock(self, key: str, holder: str) -> None:
        """Give the lock back; see Prefect's `LockManager`."""
        if not self.is_lock_holder(key, holder):
            raise ValueError(f"{holder} does not hold the lock of {key}")
        _held.pop((self.folder, key))[1].release()

    def is_locked(self, key: str) -> bool:
        """Whether anybody, in any process, holds the lock of a key."""
        if (self.folder, key) in _held:
            return True
        probe = FileLock(lock_file(self.folder, key))
        try:
            probe.acquire(timeout=0)
        except Timeout:
            return True
        probe.release()
        return False

    def is_lock_holder(self, key: str, holder: str) -> bool:
        """Whether this holder has the lock of a key."""
        return _held.get((self.folder, key), (None,))[0] == holder

    def wait_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """Wait until the lock of a key is free; see Prefect's `LockManager`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.is_locked(key):
            if deadline is not None and time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    async def await_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """See `wait_for_lock`."""
        return await asyncio.to_thread(self.wait_for_lock, key, timeout)


class VerifiedArtifact(Serializer):  # Prefect registers subclasses by name: no generics
    """Writes an artifact's reference as JSON; refuses to read one whose artifact is missing or damaged."""

    type: Literal["bertpress-artifact"] = "bertpress-artifact"

    def dumps(self, obj: ArtifactReference) -> bytes:
        """Reference as JSON bytes."""
        return obj.model_dump_json().encode()

    def loads(self, blob: bytes) -> ArtifactReference:
        """Reference from JSON bytes.

        Raises:
            DamagedArtifactError: Prefect then behaves as if there were no record.
        """
        reference = ArtifactReference.model_validate_json(blob)
        ArtifactStore(current_settings().store_folder).verify(reference.digest)
        return reference


class GivenKey(CachePolicy):
    """Prefect's cache key is the task's parameter `key`, made of the same parts that `plan` shows.

    It is computed before the task is submitted, in one thread: Prefect takes an error while it computes a key for "no
    key", and runs the task without a record. CPython 3.11 raises such an error when two threads parse source at once.
    """

    def compute_key(
        self, task_ctx: TaskRunContext, inputs: dict[str, Any], flow_parameters: dict[str, Any], **kwargs: Any
    ) -> str:
        """The parameter `key`; see Prefect's `CachePolicy`."""
        del task_ctx, flow_parameters, kwargs
        return str(inputs["key"])


def _run(invocation: StageInvocation, key: str, execution: Execution) -> ArtifactReference:
    settings = current_settings()
    alone = settings.workers == 1 and processes_of(invocation, settings) == 1
    return (run_stage if alone else run_in_process)(invocation, key, execution, settings)


def cached_stage(
    settings: Settings, kind: str, name: str
) -> "Task[[StageInvocation, str, Execution], ArtifactReference]":
    """The Prefect task of one stage.

    Args:
        settings: where records and locks are.
        kind: kind of the stage: the task's name.
        name: name of this task run, for people.

    Returns:
        A task to call or submit with `(invocation, key, execution)`, from a flow and never from another task: a
        cached task inside another is recorded only when the outer one ends.
    """
    policy = GivenKey().configure(
        isolation_level=IsolationLevel.SERIALIZABLE, lock_manager=FlockManager(settings.lock_folder)
    )
    return task(
        name=kind,
        task_run_name=_literal(name),
        cache_policy=policy,
        persist_result=True,
        result_storage=settings.record_folder,
        result_serializer=VerifiedArtifact(),
    )(_run)


def _literal(name: str) -> str:
    """Prefect fills `{}` in run names with parameters; ours has none."""
    return name.replace("{", "(").replace("}", ")")


def _drop_thread_exit_functions() -> None:
    """Let DataLoader workers end well inside a Prefect task.

    Prefect's event threads register clean-up functions that a forked child inherits without their threads; running them
    makes the child exit with an error, so children drop them.
    """
    with suppress(AttributeError):
        threading._threading_atexits.clear()  # type: ignore[attr-defined]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_drop_thread_exit_functions)
