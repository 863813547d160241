"""Which process writes a run, and the closing of runs whose process has gone.

A process that is killed cannot close its runs, and MLflow would show them as running for ever.
"""

import os
import platform
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from tasks import mlflow_store
from tasks.tracking_values import now

HOST_TAG, PROCESS_TAG = "bertpress.host", "bertpress.process"
# The start time is computed from the boot time, which moves when the clock is set.
_TOLERANCE_SECONDS = 5.0
_PAGE = 200


def owner_tags() -> dict[str, str]:
    """Tags that say which process writes a run; enough to tell later whether it still lives.

    Returns:
        Tag -> text: the host; and number, start time and namespace of the process, as numbers are used again.
    """
    return dict(_tags_of(os.getpid()))


@cache
def _tags_of(process: int) -> dict[str, str]:
    import psutil

    # Two containers may share a host name and still not see each other's processes.
    namespace = Path("/proc/self/ns/pid")
    space = namespace.readlink().name if namespace.is_symlink() else "-"
    return {HOST_TAG: platform.node(), PROCESS_TAG: f"{process} {psutil.Process(process).create_time():.2f} {space}"}


def is_gone(tags: Mapping[str, str]) -> bool:
    """Whether the process that wrote these tags ran here and has ended.

    Args:
        tags: tags of a run.

    Returns:
        False as well for processes of which nothing can be known from here.

    Example:
        >>> is_gone(owner_tags()), is_gone({**owner_tags(), HOST_TAG: "elsewhere"}), is_gone({})
        (False, False, False)
    """
    import psutil

    here = owner_tags()
    number, started, namespace = [*tags.get(PROCESS_TAG, "").split(), "", "", ""][:3]
    if tags.get(HOST_TAG) != here[HOST_TAG] or namespace != here[PROCESS_TAG].split()[2]:
        return False
    try:
        process = psutil.Process(int(number))
        used_again = abs(process.create_time() - float(started)) > _TOLERANCE_SECONDS
        return used_again or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    except (ValueError, psutil.AccessDenied):
        return False


def close_dead_runs(tracking_uri: str) -> int:
    """Mark as KILLED every run left RUNNING by a process of this host that has ended. Call it at start-up.

    The end time is that of the last measured value, or now when nothing was measured.

    Args:
        tracking_uri: the store.

    Returns:
        How many runs were closed.
    """
    client = mlflow_store.client(tracking_uri)
    left = f"attributes.status = 'RUNNING' and tags.`{HOST_TAG}` = '{platform.node()}'"
    dead = [run.info.run_id for run in search_runs(client, left) if is_gone(run.data.tags)]
    # Read again: a process may have closed its run between the search and its end.
    runs = [run for run in map(client.get_run, dead) if run.info.status == "RUNNING"]
    for run in runs:
        measured = [metric.timestamp for metric in run.to_proto().data.metrics]
        client.set_terminated(run.info.run_id, "KILLED", max(measured, default=now()))
    return len(runs)


def search_runs(client: Any, filter_string: str, experiment_ids: list[str] | None = None) -> Iterator[Any]:
    """All runs that match, page by page.

    Args:
        client: the store.
        filter_string: in MLflow's language.
        experiment_ids: where to look; everywhere by default.

    Yields:
        Runs.
    """
    experiment_ids = all_experiments(client) if experiment_ids is None else experiment_ids
    token = None
    while experiment_ids:
        page = client.search_runs(experiment_ids, filter_string, max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def all_experiments(client: Any) -> list[str]:
    """Ids of a store's experiments.

    Args:
        client: the store.

    Returns:
        The ids of those that were not deleted.
    """
    ids: list[str] = []
    token = None
    while True:
        page = client.search_experiments(page_token=token)
        ids += [experiment.experiment_id for experiment in page]
        token = page.token
        if not token:
            return ids
