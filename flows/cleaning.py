"""Removing what no run references: artifacts, records, and what killed processes left behind."""

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from compression.errors import UserError
from flows.run_record import run_folder, run_records
from tasks.artifact_store import ArtifactStore
from tasks.locks import RUN_SLOTS, RUNS, machine_slot
from tasks.records import read_record
from tasks.settings import Settings

# Work folders hold checkpoints that the next run resumes from; older ones belong to studies that nobody went on with.
# What stages share in the cache folder is made again when it is missed.
_WORK_SECONDS = 7 * 24 * 3600.0
_PATIENCE_SECONDS = 1.0


@dataclass(frozen=True)
class Removal:
    """One thing that can go.

    Attributes:
        what: artifact, record, checkpoint, derived data or temporary folder.
        path: where it is.
        size: bytes.
        reason: why it can go.
    """

    what: str
    path: Path
    size: int
    reason: str


def plan_cleaning(settings: Settings, *, keep_runs: int | None = None) -> list[Removal]:
    """Find what can go.

    Args:
        settings: the home folder.
        keep_runs: forget all but this many latest runs of each study first; all runs count by default.

    Returns:
        What can go; nothing is removed.
    """
    removals = list(_old_runs(settings, keep_runs))
    forgotten = {removal.path for removal in removals}
    keys: set[str] = set()
    digests: set[str] = set()
    for folder in sorted(settings.study_folder.glob("*")):
        for record in run_records(settings, folder.name):
            if run_folder(settings, folder.name) / f"{record.id}.json" not in forgotten:
                keys |= {node.key for node in record.nodes.values()}
                digests |= {node.digest for node in record.nodes.values()}
    removals += _records(settings, keys)
    removals += _artifacts(settings, digests)
    removals += _leftovers(settings)
    return removals


def clean(removals: list[Removal], settings: Settings) -> int:
    """Remove what `plan_cleaning` found.

    Args:
        removals: what to remove.
        settings: the home folder.

    Returns:
        Bytes that were freed.

    Raises:
        UserError: a study is running.
    """
    store = ArtifactStore(settings.store_folder)
    deadline = time.monotonic() + _PATIENCE_SECONDS

    def give_up() -> None:
        if time.monotonic() > deadline:
            raise UserError("a study is running on this store; clean when it has ended")

    with machine_slot(settings.lock_folder, RUNS, RUN_SLOTS, exclusive=True, check=give_up):
        for removal in removals:
            if removal.what == "artifact":
                store.remove(removal.path.name)
            elif removal.path.is_dir():
                shutil.rmtree(removal.path, ignore_errors=True)
            else:
                removal.path.unlink(missing_ok=True)
    return sum(removal.size for removal in removals)


def _old_runs(settings: Settings, keep_runs: int | None) -> Iterator[Removal]:
    if keep_runs is None:
        return
    for folder in sorted(settings.study_folder.glob("*")):
        for path in sorted((folder / "runs").glob("*.json"), reverse=True)[keep_runs:]:
            yield Removal("run", path, path.stat().st_size, f"not among the {keep_runs} latest of {folder.name}")


def _records(settings: Settings, used: set[str]) -> Iterator[Removal]:
    for path in sorted(settings.record_folder.glob("*-*")):
        if path.name in used:
            continue
        readable = read_record(settings, path.name) is not None
        yield Removal("record", path, path.stat().st_size, "no run used it" if readable else "torn")


def _artifacts(settings: Settings, used: set[str]) -> Iterator[Removal]:
    store = ArtifactStore(settings.store_folder)
    for digest in store.digests():
        if digest not in used:
            yield Removal("artifact", store.folder(digest), _size(store.folder(digest)), "no run used it")


def _leftovers(settings: Settings) -> Iterator[Removal]:
    for path in sorted((settings.store_folder / "tmp").glob("*")):
        owner = path.name.partition("-")[0]
        if not (owner.isdigit() and psutil.pid_exists(int(owner))):
            yield Removal("temporary folder", path, _size(path), "its process is gone")
    for path in sorted((settings.home_folder / "work").glob("*")):
        if time.time() - path.stat().st_mtime > _WORK_SECONDS:
            yield Removal("checkpoint", path, _size(path), "nobody resumed it for a week")
    for path in sorted(settings.cache_folder.glob("*")):
        if time.time() - path.stat().st_mtime > _WORK_SECONDS:
            yield Removal("derived data", path, _size(path), "no stage asked for it for a week")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
