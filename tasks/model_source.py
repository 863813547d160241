"""Pretrained models by reference: a hub name, a local folder, or `package:NAME/FOLDER` inside an installed package."""

import re
from collections.abc import Sequence
from pathlib import Path

from compression.data.sources import resolve
from compression.errors import CheckpointError
from tasks.artifact_store import folder_digest

# Weights in safetensors, configuration and tokenizer; never pickled weights or code.
_PATTERNS = [
    "config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "special_tokens_map.json",
]
_HUB_NAME = re.compile(r"^[A-Za-z0-9][\w.-]*(/[\w.-]+)?$")


def resolve_model(reference: str, revision: str | None, roots: Sequence[Path], *, download: bool) -> Path | None:
    """Find a pretrained model's folder.

    Args:
        reference: hub name, local folder (absolute or below one of `roots`), or `package:NAME/FOLDER`.
        revision: branch, tag or commit of a hub model.
        roots: folders that a relative local folder may be in.
        download: whether a hub model that is not on this machine is fetched.

    Returns:
        The folder; None when it is a hub model that is not here and `download` is false.

    Raises:
        CheckpointError: neither a folder nor a hub model of that name can be had.
    """
    if reference.startswith("package:"):
        return _model_folder(resolve(reference, roots))
    for root in (Path(), *roots):
        if (root / reference).is_dir():
            return _model_folder((root / reference).resolve())
    if not _HUB_NAME.match(reference):
        looked = ", ".join(str(root / reference) for root in roots)
        raise CheckpointError(f"model {reference!r}: no such folder (looked at {looked}), and not a hub name")
    return _hub_model(reference, revision, download=download)


def _hub_model(name: str, revision: str | None, *, download: bool) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=_PATTERNS, local_files_only=not download))
    except LocalEntryNotFoundError as error:
        if not download:
            return None
        reason = str(error).splitlines()[0]
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).splitlines()[0]
    raise CheckpointError(
        f"model {name!r} is neither a local folder nor to be had from the hub: {reason}. "
        "Download it once on a machine with a network, or name a local folder."
    )


def _model_folder(folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder} is not a model folder: it has no config.json")
    if not any(folder.glob("*.safetensors")):
        raise CheckpointError(f"{folder} has no safetensors weights; pickled weights are never loaded")
    return folder


def model_digest(folder: Path) -> str:
    """Digest of what a model folder holds: weights, configuration and tokenizer; readmes do not count.

    Args:
        folder: a model folder.

    Returns:
        64 hexadecimal digits.
    """
    return folder_digest(
        folder, lambda path: any(path.match(pattern) for pattern in _PATTERNS) and path.parent == folder
    )
