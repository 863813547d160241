"""Augmented rows on disk: Parquet files of some thousand rows, each with what was counted while it was made."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow
import pyarrow.parquet

from compression.errors import DataError

if TYPE_CHECKING:
    import pandas

_COUNTS = b"bertpress.counts"


def shard_path(folder: Path, number: int) -> Path:
    """File of a shard.

    Args:
        folder: folder of the shards.
        number: the shard, counted from 0.

    Returns:
        Its path.

    Example:
        >>> shard_path(Path("rows"), 3).name
        'train-00003.parquet'
    """
    return folder / f"train-{number:05d}.parquet"


def write_shard(path: Path, frame: "pandas.DataFrame", counts: Mapping[str, Any]) -> None:
    """Write a shard so that it is there whole or not at all.

    Args:
        path: the file.
        frame: its rows.
        counts: JSON values that belong to it.
    """
    table = pyarrow.Table.from_pandas(frame, preserve_index=False)
    # Without pandas' own note, which says nothing about the rows and changes with its version.
    table = table.replace_schema_metadata({_COUNTS: json.dumps(counts).encode()})
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    pyarrow.parquet.write_table(table, aside, compression="zstd")
    with aside.open("rb") as file:
        os.fsync(file.fileno())
    aside.replace(path)


def shard_counts(path: Path) -> dict[str, Any] | None:
    """Counts of a shard.

    Args:
        path: the file.

    Returns:
        What was counted; None when the shard is not there or damaged.
    """
    try:
        metadata = pyarrow.parquet.read_metadata(path).metadata or {}
        counts: dict[str, Any] = json.loads(metadata[_COUNTS])
    except (OSError, KeyError, ValueError, pyarrow.ArrowException):
        return None
    return counts


def read_rows(folder: Path) -> "pandas.DataFrame":
    """Read all shards of a folder.

    Args:
        folder: folder of the shards.

    Returns:
        Rows as in `TaskData.train`, and `copy`: 0 for a row as it was, from 1 for its copies, -1 for a text that the
        teacher labelled.

    Raises:
        DataError: there are no shards, or one cannot be read.
    """
    paths = sorted(folder.glob("train-*.parquet"))
    if not paths:
        raise DataError(f"{folder} holds no augmented rows")
    try:
        frame: pandas.DataFrame = pyarrow.concat_tables(map(pyarrow.parquet.read_table, paths)).to_pandas()
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{folder}: augmented rows cannot be read ({error})") from None
    return frame
