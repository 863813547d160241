"""What a run of a study leaves on disk: key parts, artifacts, cells, links. `explain`, `report` and `clean` read it."""

import os
import secrets
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from compression.configuration import Config
from tasks.artifact_store import write_aside
from tasks.settings import Settings

_WRITE_SECONDS = 2.0


class NodeRecord(Config):
    """One stage of a run."""

    key: str = Field(description="Cache key")
    digest: str = Field(description="Digest of the product")
    cached: bool = Field(description="Whether it was reused")
    seconds: float = Field(0.0, description="Seconds that computing it took, whenever that was")
    parts: dict[str, Any] = Field(description="What the key is made of")


class RunRecord(Config):
    """One run of a study, as far as it got."""

    id: str = Field(description="Names the file; sorts by time")
    study: str = Field(description="Name of the study")
    status: Literal["running", "finished", "failed", "killed"] = Field("running", description="How it ended")
    started: str = Field(description="UTC, ISO 8601")
    seconds: float = Field(0.0, description="Wall-clock seconds")
    nodes: dict[str, NodeRecord] = Field(default_factory=dict, description="label -> stage")
    cell_links: dict[str, str] = Field(default_factory=dict, description="variant|task|seed -> address in MLflow")
    links: dict[str, str] = Field(default_factory=dict, description="name -> URL")


class RunRecorder:
    """Writes a run's record as it grows, at most every two seconds."""

    def __init__(self, settings: Settings, study: str) -> None:
        now = datetime.now(UTC)
        identity = f"{now:%Y%m%dT%H%M%S}-{os.getpid()}-{secrets.token_hex(3)}"
        self._path = run_folder(settings, study) / f"{identity}.json"
        self._begun = time.monotonic()
        self._written = 0.0
        self._head: dict[str, Any] = {"id": identity, "study": study, "started": now.isoformat(timespec="seconds")}
        self._nodes: dict[str, NodeRecord] = {}
        self.cell_links: dict[str, str] = {}
        self.links: dict[str, str] = {}

    @property
    def id(self) -> str:
        """The run's identity."""
        return str(self._head["id"])

    def add(self, label: str, node: NodeRecord) -> None:
        """Record a stage.

        Args:
            label: the node's label.
            node: the stage.
        """
        self._nodes[label] = node
        if time.monotonic() - self._written > _WRITE_SECONDS:
            self.write("running")

    def write(self, status: Literal["running", "finished", "failed", "killed"]) -> RunRecord:
        """Write the record as it is now.

        Args:
            status: how the run stands.

        Returns:
            The record.
        """
        record = RunRecord(
            **self._head,
            status=status,
            seconds=round(time.monotonic() - self._begun, 2),
            nodes=dict(self._nodes),
            cell_links=dict(self.cell_links),
            links=dict(self.links),
        )
        write_aside(self._path, record.model_dump_json(indent=1))
        self._written = time.monotonic()
        return record


def run_folder(settings: Settings, study: str) -> Path:
    """Folder of a study's run records.

    Args:
        settings: the home folder.
        study: the study's name, whose pattern keeps it inside the folder.

    Returns:
        The folder.
    """
    return settings.study_folder / study / "runs"


def run_records(settings: Settings, study: str) -> Iterator[RunRecord]:
    """A study's runs, the latest first; unreadable records are passed over.

    Args:
        settings: the home folder.
        study: the study's name.

    Yields:
        The records.
    """
    for path in sorted(run_folder(settings, study).glob("*.json"), reverse=True):
        try:
            yield RunRecord.model_validate_json(path.read_text())
        except (OSError, ValidationError):
            continue


def last_parts(settings: Settings, study: str) -> dict[str, dict[str, Any]]:
    """Key parts of the stages of a study as they last ran, whichever run that was.

    Args:
        settings: the home folder.
        study: the study's name.

    Returns:
        label -> parts.
    """
    parts: dict[str, dict[str, Any]] = {}
    for record in run_records(settings, study):
        for label, node in record.nodes.items():
            parts.setdefault(label, node.parts)
    return parts


def cell_name(variant: str, task: str, seed: int | None) -> str:
    """Name of a cell in a run record.

    Args:
        variant: the row.
        task: the task.
        seed: the seed, if the chain uses one.

    Returns:
        `variant|task|seed`.

    Example:
        >>> cell_name("small", "sst2", 0)
        'small|sst2|0'
    """
    return f"{variant}|{task}|{'-' if seed is None else seed}"
