"""Reads GLUE from a local folder `glue/<task>/<split>.parquet`, or else from the Hugging Face hub."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compression.data.glue import GLUE_TASKS
from compression.data.tables import Table
from compression.errors import DataError

HUB_NAME = "nyu-mll/glue"


def local_folder(task: str, roots: Sequence[Path]) -> Path | None:
    """Find the folder of a GLUE task.

    Args:
        task: name of the task.
        roots: folders that may hold `glue/<task>`, in order.

    Returns:
        The first that exists.

    Example:
        >>> local_folder("sst2", []) is None
        True
    """
    folders = (Path(root) / "glue" / task for root in roots)
    return next((folder.absolute() for folder in folders if folder.is_dir()), None)


def read_hub(task: str, roots: Sequence[Path]) -> list[Table]:
    """Load train and the reported splits of a GLUE task from the hub, or from its cache on this machine.

    Args:
        task: name of the task.
        roots: folders where it was looked for before; for the message.

    Returns:
        The tables of train and of each reported split.

    Raises:
        DataError: the hub did not give them.
    """
    import datasets

    splits = ["train", *(split for _, split in GLUE_TASKS[task].evaluation)]
    try:
        loaded = datasets.load_dataset(HUB_NAME, task, split=splits)
    # Whatever goes wrong (no network, no access, a damaged download) is mended in the same two ways.
    except Exception as error:
        places = ", ".join(str(Path(root).absolute() / "glue" / task) for root in roots) or "no data folder was given"
        reason = str(error).strip().splitlines()
        raise DataError(
            f"GLUE task {task!r} is in no local folder ({places}) and the hub's {HUB_NAME!r} cannot be loaded "
            f"({type(error).__name__}: {reason[0] if reason else 'no reason given'}); "
            f"put {', '.join(f'{split}.parquet' for split in splits)} into glue/{task}/ of the data folder"
        ) from error
    return [_table(f"{HUB_NAME} {task}/{split}", part) for split, part in zip(splits, loaded, strict=True)]


def _table(name: str, dataset: Any) -> Table:
    columns: dict[str, list[Any]] = dataset.to_dict()
    return Table(name, tuple(columns), columns, range(1, len(dataset) + 1))
