"""Folders that stages share: what is costly to derive is found there by the next stage that needs the same."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks import keys
from tasks.stages.base import StageRequest


def shared_folder(request: StageRequest, name: str, depends_on: Mapping[str, Any]) -> Path:
    """A folder in the cache that all stages share, or in the work folder where there is none.

    Args:
        request: the stage's request.
        name: what is kept there.
        depends_on: all that the content depends on and that is not part of its file names: JSON values.

    Returns:
        The folder, which exists.
    """
    folder = (request.cache or request.work) / f"{name}-{keys.digest(depends_on)[:32]}"
    folder.mkdir(parents=True, exist_ok=True)
    os.utime(folder)  # `bertpress clean` goes by this time
    return folder
