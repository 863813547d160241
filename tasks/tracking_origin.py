"""Where a study's runs come from: the experiment, who started it, from what source and commit."""

import getpass
import importlib.metadata
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks import mlflow_store
from tasks.tracking_values import NOTE_TAG

_GIT_SECONDS = 5.0
# What children carry too; they are looked at alone as often as under their parent.
_INHERITED = ("mlflow.user", "mlflow.source.", "prefect.", "bertpress.version")


def experiment(client: Any, name: str, description: str, artifact_location: str | None) -> str:
    """Find or make the experiment of a study.

    Args:
        client: the store.
        name: the study's name.
        description: Markdown for the experiment's page.
        artifact_location: URI or folder; beside an SQLite database by default.

    Returns:
        Experiment id. An experiment deleted in the browser blocks its name, so it is restored.
    """
    from mlflow.exceptions import MlflowException

    location = artifact_location or mlflow_store.default_artifact_location(client.tracking_uri)
    if location and "://" not in location:
        location = Path(location).absolute().as_uri()
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=location, tags={NOTE_TAG: description}))
        except MlflowException:
            found = client.get_experiment_by_name(name)  # another process was quicker
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    if description and found.tags.get(NOTE_TAG) != description:
        client.set_experiment_tag(found.experiment_id, NOTE_TAG, description)
    return str(found.experiment_id)


def tags(source: str, folder: Path) -> dict[str, str]:
    """Who started an execution, from what, in which versions.

    Args:
        source: study file or study name.
        folder: folder whose git commit counts.

    Returns:
        Tag -> text; without the commit where there is no git repository.
    """
    found = {
        "mlflow.source.name": f"bertpress run {source}",
        "mlflow.source.type": "LOCAL",
        "mlflow.user": _user(),
        "bertpress.version": importlib.metadata.version("bertpress"),
    }
    if commit := _commit(folder):
        found["mlflow.source.git.commit"] = commit.removesuffix("-dirty")
        found["mlflow.source.git.dirty"] = str(commit.endswith("-dirty"))
    return found


def inherited(parent: Mapping[str, str]) -> dict[str, str]:
    """Tags of a parent run that its children carry too.

    Args:
        parent: all its tags.

    Returns:
        Some of them.

    Example:
        >>> inherited({"mlflow.user": "ada", "mlflow.runName": "night 3", "prefect.flow_run": "7"})
        {'mlflow.user': 'ada', 'prefect.flow_run': '7'}
    """
    return {tag: value for tag, value in parent.items() if tag.startswith(_INHERITED)}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number that has no name
        return "unknown"


def _commit(folder: Path) -> str:
    """Commit of a folder's repository, with `-dirty` behind it when files differ; empty without one."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ended.stdout.strip() if ended.returncode == 0 else ""
