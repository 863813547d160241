"""A corpus as a stream of documents, and the digest of its content."""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from compression.data import corpus_hub
from compression.data.config import TaskConfig
from compression.data.corpus_config import TEXT_ENDINGS, CorpusConfig
from compression.data.corpus_files import Document, check_encoding, paragraphs, read_documents
from compression.data.load import fingerprint as task_fingerprint
from compression.data.load import load_task
from compression.data.sources import resolve
from compression.errors import DataError

_PATTERN = re.compile(r"[*?\[]")
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Corpus:
    r"""A corpus that can be read any number of times.

    Attributes:
        config: what was asked for.
        roots: folders that relative files may lie in.
        task: the task, for a corpus of a task's own training rows.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "a.txt").write_text("First.\n\nSecond.\n")
        >>> list(Corpus(CorpusConfig(files=["*.txt"]), (folder,)).documents())
        [['First.'], ['Second.']]
    """

    config: CorpusConfig
    roots: tuple[Path, ...] = ()
    task: TaskConfig | None = None

    def documents(self) -> Iterator[Document]:
        """Read the corpus from its beginning.

        Yields:
            Documents as lists of paragraphs; blank ones are left out.

        Raises:
            DataError: something is missing, malformed or in another encoding; names file and line.
        """
        config = self.config
        if config.task_rows:
            yield from self._task_documents()
        elif config.dataset is not None:
            for value in corpus_hub.stream_texts(config, self.roots):
                if document := paragraphs(value):
                    yield document
        else:
            for path in corpus_files(config, self.roots):
                yield from read_documents(path, text=config.text, encoding=config.encoding, boundary=config.documents)

    def identity(self) -> str:
        """Digest of the content, for recognising what was made of it.

        Returns:
            SHA-256 in hexadecimal; a task's rows count by the task's own fingerprint.

        Raises:
            DataError: something is missing, or the hub cannot be asked which commit is meant.
        """
        if self.config.task_rows:
            return task_fingerprint(self._own_task(), self.roots, ("train",))
        return fingerprint(self.config, self.roots) or ""

    def _task_documents(self) -> Iterator[Document]:
        train = load_task(self._own_task(), self.roots).train
        columns = [train[name].tolist() for name in ("text", "text_pair") if name in train.columns]
        for texts in zip(*columns, strict=True):
            if document := paragraphs(list(texts)):
                yield document

    def _own_task(self) -> TaskConfig:
        if self.task is None:
            raise ValueError("a corpus of the task's rows needs the task")
        return self.task


def pinned(config: CorpusConfig, roots: Sequence[Path], *, online: bool = True) -> CorpusConfig | None:
    """The same corpus with the commit of a hub data set filled in, so that what is read is what was fingerprinted.

    Args:
        config: the corpus.
        roots: folders that a local data set may be in.
        online: whether the hub may be asked.

    Returns:
        The corpus; one that is not of the hub as it is. None when the hub would have to be asked.

    Raises:
        DataError: the hub does not know the data set or its revision, or cannot be reached.
    """
    if config.dataset is None or corpus_hub.local_folder(config.dataset, roots) is not None:
        return config
    commit = corpus_hub.commit(config, online=online)
    return None if commit is None else config.model_copy(update={"revision": commit})


def fingerprint(config: CorpusConfig, roots: Sequence[Path]) -> str | None:
    """Digest of the content at a corpus's places: bytes of files in their order, or the commit of a hub data set.

    Where files lie and what they are called does not count, unless it changes their order. What else the configuration
    says (`without_places`) is not part of it.

    Args:
        config: the corpus; one of task rows counts through its task instead.
        roots: folders that relative files may lie in.

    Returns:
        SHA-256 in hexadecimal; None for task rows.

    Raises:
        DataError: a file is missing, empty, or in another encoding; or the hub, asked for a commit, does not answer.
    """
    if config.task_rows:
        return None
    if config.dataset is not None:
        folder = corpus_hub.local_folder(config.dataset, roots)
        if folder is None:
            commit = corpus_hub.commit(config, online=True)
            return _digest("hub", config.dataset, commit, config.config, config.split, config.text)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        named = [[path.relative_to(folder).as_posix(), _file_digest(path)] for path in files]
        return _digest("folder", named, config.config, config.split, config.text)
    content: list[list[str | None]] = []
    for path in corpus_files(config, roots):
        is_text, ending = path.suffix.lower() in TEXT_ENDINGS, path.suffix.lower()
        encoding = None if ending == ".parquet" else config.encoding
        content.append([ending, encoding, None if is_text else config.text, _file_digest(path, encoding)])
    return _digest("files", content)


def corpus_files(config: CorpusConfig, roots: Sequence[Path]) -> list[Path]:
    """The files of a corpus in the order in which they are read.

    Args:
        config: a corpus with `files`.
        roots: folders that relative names and patterns are looked for in; the first that has a match counts.

    Returns:
        Absolute paths, each once; those of a pattern are sorted.

    Raises:
        DataError: nothing is there, or a pattern matches nothing.
    """
    found: dict[Path, None] = {}
    for reference in config.files or ():
        if _PATTERN.search(reference.removeprefix("package:")):
            found.update(dict.fromkeys(_matches(reference, roots)))
        else:
            found[resolve(reference, roots)] = None
    return list(found)


def _matches(reference: str, roots: Sequence[Path]) -> list[Path]:
    """Files that a pattern names; its part before the first wild card is a folder as in `resolve`."""
    parts = PurePosixPath(reference).parts
    first = next(place for place, part in enumerate(parts) if _PATTERN.search(part))
    fixed, pattern = "/".join(parts[:first]).replace("//", "/", 1), "/".join(parts[first:])
    if ".." in parts[first:]:
        raise DataError(f"{reference!r}: `..` cannot follow a wild card")
    folders = [resolve(fixed, roots)] if fixed else [Path(root).absolute() for root in roots]
    for folder in folders:
        matches = sorted(path for path in folder.glob(pattern) if path.is_file())
        if matches:
            return matches
    looked = ", ".join(map(str, folders)) or "nowhere: there is no folder to look in"
    raise DataError(f"{reference!r} matches no file; looked in {looked}")


def _file_digest(path: Path, encoding: str | None = None) -> str:
    stat = path.stat()
    if stat.st_size == 0:
        raise DataError(f"{path}: the file is empty")
    return _digest_of_unchanged(path, stat.st_mtime_ns, stat.st_size, encoding)


@lru_cache(maxsize=4096)
def _digest_of_unchanged(path: Path, modified: int, size: int, encoding: str | None) -> str:
    """Digest of a file, which is looked through for bytes that are not in its encoding as well."""
    del modified, size
    if encoding is not None:
        check_encoding(path, encoding)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
