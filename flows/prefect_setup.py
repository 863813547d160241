"""Prefect's environment, set before Prefect is imported: an embedded server unless a running one answers."""

import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.embedded_server import EmbeddedServer
from tasks.settings import Settings
from tasks.tracking_processes import is_gone, owner_tags

_DEFAULT_API = "http://127.0.0.1:4200/api"
_TAG = "bertpress"
_RECORDING_SECONDS = 30.0
_POLL_SECONDS = 0.2

# Prefect's defaults drop task runs that come in a burst: of 200 cached ones, 18 were recorded.
RECORDING = {
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_READ_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
}
# Loops that serve schedules, workers and pauses: a server that lives as long as one run has none of these.
_IDLE_LOOPS = (
    "CANCELLATION_CLEANUP",
    "CLEANUP_RECONCILER",
    "FOREMAN",
    "LATE_RUNS",
    "PAUSE_EXPIRATIONS",
    "REPOSSESSOR",
    "SCHEDULER",
)
_EMBEDDED = {f"PREFECT_SERVER_SERVICES_{loop}_ENABLED": "false" for loop in _IDLE_LOOPS}
QUIET = {
    "DO_NOT_TRACK": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "WARNING",
    # Failures are told once, by us and without framework lines; Prefect's own record keeps them whole.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_CLI_WRAP_LINES": "false",
}


def configure_prefect(settings: Settings) -> str:
    """Point Prefect at a server: the configured one or a local one if it answers, an embedded one otherwise.

    Variables that the user has set are left alone.

    Args:
        settings: API address and home folder.

    Returns:
        The API address; empty for the embedded server.
    """
    if EmbeddedServer.runs():
        return ""  # of an earlier run in this process, whose Prefect keeps to it
    for name, value in {**RECORDING, **QUIET, "PREFECT_HOME": str(settings.home_folder / "prefect")}.items():
        os.environ.setdefault(name, value)
    Path(os.environ["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)
    for address in (settings.prefect_api_url, _DEFAULT_API):
        if address and _answers(address):
            os.environ["PREFECT_API_URL"] = address
            return address
    os.environ.pop("PREFECT_API_URL", None)
    os.environ.update(_EMBEDDED)
    return ""


def _answers(address: str) -> bool:
    if not address.startswith(("http://", "https://")):
        return False
    try:
        with urllib.request.urlopen(f"{address.rstrip('/')}/health", timeout=2) as response:  # noqa: S310 - scheme checked
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError, ValueError):
        return False


def import_prefect() -> None:
    """Import Prefect, which reads its environment then; it reads it again where it was imported before."""
    from prefect.context import refresh_global_settings_context

    import flows.study_flow  # noqa: F401 - whatever of it a run needs

    refresh_global_settings_context()


@contextmanager
def flow_run_settings(server: str) -> Iterator[None]:
    """Settings of a study's flow run, and tags that say whose it is, by which it is closed when its process was killed.

    Args:
        server: address of Prefect's API; empty for the embedded server, where nobody watches heartbeats, whose thread
            would be waited for.

    Yields:
        Nothing.
    """
    from prefect import tags
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    changed = {} if server else {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
    with temporary_settings(changed), tags(_TAG, *(f"{name}={value}" for name, value in owner_tags().items())):
        yield


def close_dead_flow_runs() -> int:
    """Mark flow runs that dead processes of this host left running as crashed. Needs a server that runs.

    Returns:
        How many were closed.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.states import Crashed

    running = {"state": {"type": {"any_": ["RUNNING"]}}, "tags": {"all_": [_TAG]}}
    closed = 0
    with get_client(sync_client=True) as client:
        for flow_run in client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(running)):
            if is_gone(dict(tag.split("=", 1) for tag in flow_run.tags if "=" in tag)):
                client.set_flow_run_state(flow_run.id, Crashed(message="its process was killed"), force=True)
                closed += 1
    return closed


def wait_until_recorded(flow_run: str, task_runs: int) -> None:
    """Wait until the server has written down every task run of a flow run: it records them some time after they end.

    Args:
        flow_run: id of the flow run.
        task_runs: how many task runs there were; after half a minute they are waited for no longer.
    """
    from prefect.client.orchestration import get_client

    final = {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]}}
    wanted = {"flow_runs": {"id": {"any_": [flow_run]}}, "task_runs": {"state": final}}
    deadline = time.monotonic() + _RECORDING_SECONDS
    with get_client(sync_client=True) as client:
        while time.monotonic() < deadline:
            if client.request("POST", "/task_runs/count", json=wanted).json() >= task_runs:
                return
            time.sleep(_POLL_SECONDS)
