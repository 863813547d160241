"""Running a stage in processes of its own: one beside other stages, or several that train it together."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from compression.errors import Interrupted, UserError
from tasks import stopping
from tasks.artifact_store import ArtifactReference
from tasks.execution import Execution
from tasks.invocation import StageInvocation
from tasks.process_group import environments
from tasks.settings import Settings

_GRACE_SECONDS = 30.0

Child = subprocess.Popen[str]


def processes_of(invocation: StageInvocation, settings: Settings) -> int:
    """How many processes run a stage together.

    Args:
        invocation: the stage.
        settings: how many may.

    Returns:
        Their number; 1 for a stage that cannot be shared.
    """
    return settings.processes if invocation.stage.several_processes else 1


def run_in_process(
    invocation: StageInvocation, key: str, execution: Execution, settings: Settings
) -> ArtifactReference:
    """Run a stage in a process of its own, so that several can run side by side without sharing torch's generator.

    Where the settings ask for several processes and the stage can be shared, they train it together. Children get their
    share of the cores, are told to stop when this process is, and end when it dies.

    Args:
        invocation: see `run_stage`.
        key: see `run_stage`.
        execution: see `run_stage`.
        settings: see `run_stage`.

    Returns:
        See `run_stage`.

    Raises:
        UserError: the child's own message.
        Interrupted: a stop was asked for.
        RuntimeError: a child died, for example for lack of memory.
    """
    order = {
        "invocation": invocation.model_dump(mode="json"),
        "key": key,
        "execution": execution.model_dump(mode="json"),
        "settings": settings.model_dump(mode="json"),
        "parent": os.getpid(),
    }
    threads = {"OMP_NUM_THREADS": str(settings.runtime().threads)}
    count = processes_of(invocation, settings)
    first, *others = [_start({**os.environ, **threads, **group}) for group in environments(count)]
    for child in others:
        _send(child, json.dumps(order))
    try:
        answer = _talk(first, others, json.dumps(order))
    finally:
        for child in others:
            _end(child, _GRACE_SECONDS if first.returncode == 0 else 0.0)
    outcome: dict[str, Any] = json.loads(answer) if answer.strip() else {}
    if "reference" in outcome:
        return ArtifactReference.model_validate(outcome["reference"])
    if outcome.get("interrupted"):
        raise Interrupted("stopped on request")
    if "user_error" in outcome:
        raise UserError(outcome["user_error"])
    cause = f"signal {-first.returncode}" if first.returncode < 0 else f"exit code {first.returncode}"
    raise RuntimeError(f"{invocation.label}: the stage's process died ({cause})")


def _start(environment: dict[str, str]) -> Child:
    return subprocess.Popen(
        [sys.executable, "-m", "tasks.stage_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE if environment.get("RANK", "0") == "0" else subprocess.DEVNULL,
        env=environment,
        text=True,
        start_new_session=True,  # a terminal's Ctrl-C reaches us alone, and we pass it on once
    )


def _send(child: Child, order: str) -> None:
    if child.stdin is not None:
        child.stdin.write(order)
        child.stdin.close()


def _end(child: Child, grace: float) -> None:
    try:
        child.wait(grace)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _talk(first: Child, others: Sequence[Child], order: str) -> str:
    """Send the order, wait for the answer, pass a stop request on; an answer can be late once one of them has died."""
    given: str | None = order
    ending_since: float | None = None
    while True:
        try:
            return first.communicate(given, timeout=0.2)[0]
        except subprocess.TimeoutExpired:
            given = None
        if stopping.stop_requested() and ending_since is None:
            for child in (first, *others):
                child.terminate()
        if stopping.stop_requested() or any(child.poll() not in (None, 0) for child in others):
            ending_since = ending_since or time.monotonic()
            if time.monotonic() - ending_since > _GRACE_SECONDS:
                first.kill()
