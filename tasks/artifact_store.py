"""Content-addressed artifact folders: written aside, fsynced, renamed, and verified whenever they are used.

Layout: `objects/ab/<digest>/` holds the files as the stage wrote them plus `.manifest.json`; the digest is the SHA-256
of the manifest, so a folder proves its own content. `tmp/` holds what is being written.
"""

import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import Field

from compression.configuration import Config
from compression.errors import UserError
from tasks import keys

MANIFEST = ".manifest.json"

_verified_files: dict[tuple[int, int, int, int], str] = {}


class DamagedArtifactError(UserError):
    """An artifact whose files are not those that were stored; names the file."""


class ArtifactReference(Config):
    """What travels between stages instead of the artifact: a few hundred bytes.

    Example:
        >>> ArtifactReference(stage="finetune", key="finetune-0", digest="ab" * 32, size=10).stage
        'finetune'
    """

    stage: str = Field(description="Kind of the stage that made it")
    key: str = Field(description="Cache key under which it was made")
    digest: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the manifest of its files")
    size: int = Field(ge=0, description="Bytes of its files")
    meta: dict[str, Any] = Field(
        default_factory=dict, description="Summary that the stage returned: metrics, counts, times"
    )


class ArtifactStore:
    """A folder of artifacts on a local disk."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, digest: str) -> Path:
        """Folder of an artifact, whether or not it is there.

        Args:
            digest: the artifact's digest.

        Returns:
            Its path.

        Example:
            >>> ArtifactStore(Path("s")).folder("ab" * 32).parts[:3]
            ('s', 'objects', 'ab')
        """
        return self.root / "objects" / digest[:2] / digest

    def new_folder(self) -> Path:
        """An empty folder on the store's own file system, to write an artifact into.

        Returns:
            Its path, below `tmp/`.
        """
        path = self.root / "tmp" / f"{os.getpid()}-{secrets.token_hex(6)}"
        path.mkdir(parents=True)
        return path

    def put(self, folder: Path) -> tuple[str, int]:
        """Move a finished folder into the store; an intact equal one that is there already is kept.

        Args:
            folder: a folder made by `new_folder`; it is gone afterwards.

        Returns:
            Digest and size in bytes.

        Raises:
            UserError: the folder has links or special files.
        """
        manifest = _manifest_of(folder)
        digest = keys.digest(manifest)
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True))
        _flush_tree(folder)
        target = self.folder(digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            try:
                self.verify(digest)
            except DamagedArtifactError:
                self.remove(digest)
        try:
            folder.rename(target)
        except OSError:
            # Another process stored the same content first: its copy is as good as ours.
            if not target.exists():
                raise
            shutil.rmtree(folder, ignore_errors=True)
        _flush(target.parent)
        return digest, sum(entry["size"] for entry in manifest.values())

    def verify(self, digest: str) -> Path:
        """Check every file of an artifact against its digest.

        A file is read once a process, then trusted while its size, time of change and inode stay the same.

        Args:
            digest: the artifact's digest.

        Returns:
            The artifact's folder.

        Raises:
            DamagedArtifactError: the folder or a file is missing, changed or added.
        """
        folder = self.folder(digest)
        try:
            manifest = json.loads((folder / MANIFEST).read_text())
        except FileNotFoundError:
            raise DamagedArtifactError(f"artifact {digest[:12]} is not in the store ({folder})") from None
        except (OSError, ValueError) as error:
            raise DamagedArtifactError(f"artifact {digest[:12]}: unreadable manifest ({error})") from None
        if keys.digest(manifest) != digest:
            raise DamagedArtifactError(f"artifact {digest[:12]}: its manifest was changed")
        present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()} - {MANIFEST}
        for name in sorted(present ^ set(manifest)):
            raise DamagedArtifactError(f"artifact {digest[:12]}: {name} is {'extra' if name in present else 'missing'}")
        for name, entry in manifest.items():
            path = folder / name
            if path.is_symlink() or path.stat().st_size != entry["size"] or file_digest(path) != entry["sha256"]:
                raise DamagedArtifactError(f"artifact {digest[:12]}: {name} was changed after it was stored")
        return folder

    def remove(self, digest: str) -> None:
        """Take an artifact out of the store, at once for every reader.

        Args:
            digest: the artifact's digest; one that is not there is no error.
        """
        aside = self.root / "tmp" / f"removed-{secrets.token_hex(6)}"
        aside.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.folder(digest).rename(aside)
        except FileNotFoundError:
            return
        shutil.rmtree(aside, ignore_errors=True)

    def digests(self) -> list[str]:
        """Digests of all artifacts.

        Returns:
            Sorted digests; nothing is verified.
        """
        return sorted(path.name for path in self.root.glob("objects/??/*") if path.is_dir())


def file_digest(path: Path) -> str:
    """SHA-256 of a file, remembered by inode, size and time of change.

    Args:
        path: the file.

    Returns:
        64 hexadecimal digits.
    """
    status = path.stat()
    memo = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    if memo not in _verified_files:
        with path.open("rb") as stream:
            _verified_files[memo] = hashlib.file_digest(stream, "sha256").hexdigest()
    return _verified_files[memo]


def folder_digest(folder: Path, wanted: Callable[[Path], bool] = lambda _path: True) -> str:
    """Digest of the files of a folder, by relative name and content.

    Args:
        folder: the folder.
        wanted: which files count.

    Returns:
        64 hexadecimal digits.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and wanted(path))
    return keys.digest({path.relative_to(folder).as_posix(): file_digest(path) for path in files})


def write_aside(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the old or the new content, never a part.

    Args:
        path: the file; its folder is made.
        text: the content.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    aside.write_text(text)
    _flush(aside)
    aside.replace(path)


def _manifest_of(folder: Path) -> dict[str, dict[str, Any]]:
    manifest = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode):
            manifest[path.relative_to(folder).as_posix()] = {"size": path.stat().st_size, "sha256": file_digest(path)}
        elif not stat.S_ISDIR(mode):
            raise UserError(f"{path.name} in a stage's output is a link or a special file: only plain files are stored")
    return manifest


def _flush_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        _flush(path)
    _flush(folder)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
