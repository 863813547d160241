"""Reads published sets from a local folder such as `glue/<task>/<split>.parquet`, or else from the Hugging Face hub."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compression.data.config import TaskConfig
from compression.data.glue import GLUE_TASKS
from compression.data.squad import SQUAD_TASKS
from compression.data.tables import Table
from compression.errors import DataError

GLUE_HUB = "nyu-mll/glue"


@dataclass(frozen=True)
class PublishedSet:
    """Where a published set is found.

    Attributes:
        title: what messages call it.
        folder: folder of its Parquet files, below a study's or the data folder.
        hub: name on the hub.
        configuration: name of its configuration on the hub, where it has several.
        evaluation: key of each reported split -> name of its file or hub split.
    """

    title: str
    folder: str
    hub: str
    configuration: str | None
    evaluation: tuple[tuple[str, str], ...]

    def local_folder(self, roots: Sequence[Path]) -> Path | None:
        """Find its folder.

        Args:
            roots: folders that may hold it, in order.

        Returns:
            The first that exists.

        Example:
            >>> published_set(TaskConfig(name="sst2")).local_folder([]) is None
            True
        """
        folders = (Path(root) / self.folder for root in roots)
        return next((folder.absolute() for folder in folders if folder.is_dir()), None)

    def read_hub(self, splits: Sequence[str], roots: Sequence[Path]) -> list[Table]:
        """Load splits from the hub, or from its cache on this machine.

        Args:
            splits: names of the splits.
            roots: folders where it was looked for before; for the message.

        Returns:
            Their tables.

        Raises:
            DataError: the hub did not give them.
        """
        import datasets

        names = [self.hub] if self.configuration is None else [self.hub, self.configuration]
        try:
            loaded = datasets.load_dataset(*names, split=list(splits))
        # Whatever goes wrong (no network, no access, a damaged download) is mended in the same two ways.
        except Exception as error:
            places = ", ".join(str(Path(root).absolute() / self.folder) for root in roots)
            reason = str(error).strip().splitlines()
            raise DataError(
                f"{self.title} is in no local folder ({places or 'no data folder was given'}) and the hub's "
                f"{self.hub!r} cannot be loaded "
                f"({type(error).__name__}: {reason[0] if reason else 'no reason given'}); "
                f"put {', '.join(f'{split}.parquet' for split in splits)} into {self.folder}/ of the data folder"
            ) from error
        where = f"{' '.join(names)}/"
        return [_table(where + split, part) for split, part in zip(splits, loaded, strict=True)]


def published_set(task: TaskConfig) -> PublishedSet | None:
    """The published set that a task names.

    Args:
        task: the task.

    Returns:
        The set; None for a task of a user's own files.
    """
    if task.glue is not None:
        evaluation = GLUE_TASKS[task.glue].evaluation
        return PublishedSet(f"GLUE task {task.glue!r}", f"glue/{task.glue}", GLUE_HUB, task.glue, evaluation)
    if task.squad is not None:
        hub = SQUAD_TASKS[task.squad].hub
        return PublishedSet(f"{task.squad!r}", task.squad, hub, None, (("", "validation"),))
    return None


def _table(name: str, dataset: Any) -> Table:
    columns: dict[str, list[Any]] = dataset.to_dict()
    return Table(name, tuple(columns), columns, range(1, len(dataset) + 1))
