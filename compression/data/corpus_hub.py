"""Data sets of the Hugging Face hub, or of a local folder in the same layout, as streams of texts."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from compression.data.corpus_config import CorpusConfig
from compression.data.corpus_files import check_column
from compression.errors import DataError

_COMMIT = re.compile(r"[0-9a-f]{40}")


def local_folder(name: str, roots: Sequence[Path]) -> Path | None:
    """The folder that a data set's name means, if it is one.

    Args:
        name: absolute path, path below one of `roots`, or the name of a hub data set.
        roots: folders to look in, in order.

    Returns:
        The first folder that exists.

    Example:
        >>> local_folder("Salesforce/wikitext", []) is None
        True
    """
    candidates = [Path(root) / Path(name).expanduser() for root in roots] or [Path(name).expanduser()]
    return next((path.absolute() for path in candidates if path.is_dir()), None)


def commit(config: CorpusConfig, *, online: bool) -> str | None:
    """The commit of a hub data set: what its content is told apart by.

    Args:
        config: a corpus with `dataset`.
        online: whether the hub may be asked.

    Returns:
        The commit; `config.revision` where that is one. None when the hub would have to be asked.

    Raises:
        DataError: the hub does not know the data set or its revision, or cannot be reached.
    """
    if config.revision is not None and _COMMIT.fullmatch(config.revision):
        return config.revision
    if not online:
        return None
    from huggingface_hub import HfApi

    try:
        return str(HfApi().dataset_info(str(config.dataset), revision=config.revision).sha)
    # Whatever goes wrong (no such set, no network, no access), the same two ways mend it.
    except Exception as error:
        raise _refusal(config, error) from error


def stream_texts(config: CorpusConfig, roots: Sequence[Path]) -> Iterator[Any]:
    """Stream the texts of a data set in its own order; memory does not grow with it.

    Args:
        config: a corpus with `dataset`.
        roots: folders that a local data set may be in.

    Yields:
        A text, a list of texts, or None, for each row.

    Raises:
        DataError: the data set cannot be loaded, or lacks the split or the text column.
    """
    import datasets

    folder = local_folder(str(config.dataset), roots)
    try:
        stream = datasets.load_dataset(
            str(folder or config.dataset),
            config.config,
            split=config.split,
            revision=None if folder else commit(config, online=True),
            streaming=True,
        )
    except DataError:
        raise
    except Exception as error:
        raise _refusal(config, error) from error
    checked = False
    rows = iter(stream)
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except Exception as error:  # a file that is damaged or unreachable shows only when it is read
            raise _refusal(config, error) from error
        if not checked:
            check_column(config.name, config.text, list(row))
            checked = True
        value = row[config.text]
        if not (value is None or isinstance(value, str) or _are_texts(value)):
            raise DataError(f"{config.name}: column {config.text!r} holds {type(value).__name__} where a text belongs")
        yield value


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _refusal(config: CorpusConfig, error: Exception) -> DataError:
    reason = (str(error).strip().splitlines() or ["no reason given"])[0]
    return DataError(
        f"corpus {config.name!r} cannot be loaded ({type(error).__name__}: {reason}); name a data set of the hub, a "
        "folder of Parquet or JSONL files, or list local text files in `files`"
    )
