"""Locks between processes on one machine, by flock(2): the kernel frees them when their holder dies, however it dies.

`filelock` calls flock. Names are hashed, because keys have characters and lengths that file names do not allow.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

# Every run holds one of these slots; who removes things takes them all.
RUNS, RUN_SLOTS = "runs", 64
_POLL_SECONDS = 0.05


def lock_file(folder: Path, name: str) -> Path:
    """Path of the lock file of a name.

    Args:
        folder: folder of lock files.
        name: any text.

    Returns:
        The path; the folder is made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.lock"


@contextmanager
def held(folder: Path, name: str) -> Iterator[None]:
    """Hold the lock of a name; waits for whoever has it, and can be interrupted meanwhile.

    Args:
        folder: folder of lock files.
        name: any text.

    Yields:
        Nothing.
    """
    with FileLock(lock_file(folder, name), poll_interval=_POLL_SECONDS):
        yield


@contextmanager
def machine_slot(
    folder: Path, resource: str, slots: int, *, exclusive: bool, check: Callable[[], None] = lambda: None
) -> Iterator[int]:
    """Take one of a machine's slots, or all of them, among all processes of all studies.

    Args:
        folder: folder of lock files.
        resource: what is limited, for example `cpu` or `cuda`.
        slots: how many holders there may be at once.
        exclusive: take every slot: nothing else may run meanwhile, as a latency measurement needs.
        check: called while waiting; raises to give up.

    Yields:
        Number of the slot; the first one's when all are taken.
    """
    numbered = [FileLock(lock_file(folder, f"{resource}-slot-{number}")) for number in range(slots)]
    groups = [{number: lock} for number, lock in enumerate(numbered)] if exclusive else [dict(enumerate(numbered))]
    with ExitStack() as stack:
        # All takers of all slots go in one order, so two of them cannot wait for each other.
        taken = [stack.enter_context(_first_free(wanted, check)) for wanted in groups]
        yield taken[0]


@contextmanager
def _first_free(candidates: Mapping[int, FileLock], check: Callable[[], None]) -> Iterator[int]:
    """Hold whichever lock becomes free first."""
    while True:
        for number, lock in candidates.items():
            check()
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            try:
                yield number
            finally:
                lock.release()
            return
        time.sleep(_POLL_SECONDS)
