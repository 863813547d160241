"""Which of the processes that run one stage together this one is, and how they begin at the same time.

They are told by the environment variables that torchrun sets. The first waits for a slot of the machine, perhaps for
hours; the others wait for its call, since torch would not wait so long for it.
"""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from compression.control import Control

_POLL_SECONDS = 0.1


def is_first() -> bool:
    """Whether this process is the one that stores and records: the only one, or number 0.

    Example:
        >>> is_first()
        True
    """
    return os.environ.get("RANK", "0") == "0"


def environments(count: int) -> Iterator[dict[str, str]]:
    """Environment variables of each process of a new group on this machine.

    Args:
        count: how many there are.

    Yields:
        Variables; none for a process that is alone.

    Example:
        >>> [names.get("RANK") for names in environments(2)], list(environments(1))
        (['0', '1'], [{}])
    """
    if count == 1:
        yield {}
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    for index in map(str, range(count)):
        size = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
        yield {"RANK": index, "LOCAL_RANK": index, **size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}


def call_others(work: Path) -> None:
    """Tell the other processes of a group, if there are any, to begin.

    Args:
        work: the stage's work folder, which all of them see.
    """
    if (port := os.environ.get("MASTER_PORT")) is not None:
        (work / f"called-{port}").touch()


def wait_for_call(work: Path, control: Control) -> None:
    """Wait until the first process of the group begins.

    Args:
        work: the stage's work folder.
        control: whether to stop.

    Raises:
        Interrupted: a stop was asked for.
    """
    while not (work / f"called-{os.environ['MASTER_PORT']}").exists():
        control.check()
        time.sleep(_POLL_SECONDS)
