"""Augmentation of a task's training rows: streamed into shards, and resumed after the last whole one."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compression.architecture.checkpoint import load_tokenizer
from compression.architecture.masked_lm import load_masked_lm
from compression.augmentation.candidates import CandidateTable
from compression.augmentation.config import AugmentConfig
from compression.augmentation.copiers import Copier, no_copies, random_editor, word_replacer
from compression.augmentation.masked_words import MaskedWordModel
from compression.augmentation.quality import QUALITY_FILE, report
from compression.augmentation.rows import RowMaker, labelled_rows
from compression.augmentation.shards import shard_counts, shard_path, write_shard
from compression.augmentation.teacher import Judge
from compression.augmentation.unlabelled import read_unlabelled
from compression.augmentation.vectors import load_vectors
from compression.control import Control
from compression.data.load import TaskData
from compression.errors import UserError
from compression.runtime import Runtime

ROWS_A_SHARD = 2048
"""Training rows whose copies are written at once: what a killed run loses at most."""


@dataclass(frozen=True)
class Sources:
    """What an augmentation draws on besides the rows; None for what its configuration does not ask for.

    Attributes:
        masked_lm: folder of a masked LM.
        vectors: file of word vectors.
        vocabulary: words of a .npy file of vectors.
        teacher: folder of a fine-tuned teacher.
        unlabelled: file of texts without labels.
    """

    masked_lm: Path | None = None
    vectors: Path | None = None
    vocabulary: Path | None = None
    teacher: Path | None = None
    unlabelled: Path | None = None


@dataclass(frozen=True)
class Folders:
    """Where an augmentation keeps what it made.

    Attributes:
        work: finished shards, of this augmentation alone.
        candidates: candidates of words; augmentations that differ in nothing but seed, copies, probability, filter or
            report may share them.
        converted: word vectors converted from text; of this one file.
        output: takes the finished shards and `quality.json`.
    """

    work: Path
    candidates: Path
    converted: Path
    output: Path


def apply(
    data: TaskData,
    config: AugmentConfig,
    sources: Sources,
    folders: Folders,
    *,
    seed: int,
    runtime: Runtime,
    control: Control,
    rows_a_shard: int = ROWS_A_SHARD,
) -> dict[str, Any]:
    """Augment a task's training rows.

    Every row is followed by its copies, which have its label; a row of a pair task by copies with another first text
    and then by copies with another second text. The same seed gives the same rows, whatever the size of shards and
    batches and however often the work was interrupted.

    Args:
        data: the task; only its training rows are read.
        config: method and numbers.
        sources: models and files.
        folders: where things are kept.
        seed: seed of every random choice.
        runtime: device and precision.
        control: where to report progress, and whether to stop.
        rows_a_shard: rows whose copies are written at once.

    Returns:
        The quality report without its examples.

    Raises:
        Interrupted: a stop was asked for; the same call goes on after the last whole block or shard.
        UserError: a source cannot be used.
    """
    config = config.for_task(data.config)
    folders.work.mkdir(parents=True, exist_ok=True)
    counts = _Shards(data, config, sources, folders, seed, runtime, control, rows_a_shard).complete()
    quality = report(counts, counts[0].get("examples", []))
    for number in range(len(counts)):
        shutil.move(shard_path(folders.work, number), shard_path(folders.output, number))
    text = json.dumps(quality, indent=2, ensure_ascii=False)
    (folders.output / QUALITY_FILE).write_text(f"{text}\n", encoding="utf-8")
    return {name: value for name, value in quality.items() if name != "examples"}


@dataclass(frozen=True)
class _Shards:
    """The shards of one augmentation: first those of the rows, then those of texts that the teacher labels."""

    data: TaskData
    config: AugmentConfig
    sources: Sources
    folders: Folders
    seed: int
    runtime: Runtime
    control: Control
    rows_a_shard: int

    def complete(self) -> list[dict[str, Any]]:
        """Make the shards that are not there; returns the counts of all."""
        texts = self._unlabelled_texts()
        rows, further = len(self.data.train), len(texts[0])
        parts = [(start, min(start + self.rows_a_shard, rows)) for start in range(0, rows, self.rows_a_shard)]
        labelled = [(start, min(start + self.rows_a_shard, further)) for start in range(0, further, self.rows_a_shard)]
        paths = [shard_path(self.folders.work, number) for number in range(len(parts) + len(labelled))]
        counts = [shard_counts(path) for path in paths]
        if None not in counts:
            return [known for known in counts if known is not None]
        judge = self._judge()
        if judge is None and further:
            raise UserError("texts without labels need a teacher that labels them")
        copier, of_sources = self._copier()
        config, progress = self.config, self.control.progress
        maker = RowMaker(self.data, copier, judge, config.max_shift, config.quality_sample, self.control)
        sizes = [stop - start for start, stop in (*parts, *labelled)]
        done = sum(size for size, known in zip(sizes, counts, strict=True) if known is not None)
        progress.start("augmenting", rows + further, unit="row", done=done)
        for number in [number for number, known in enumerate(counts) if known is None]:
            self.control.check()
            if number < len(parts):
                frame, made = maker.make(*parts[number])
            elif judge is not None:
                frame, made = labelled_rows(texts, *labelled[number - len(parts)], judge)
            made |= of_sources if number == 0 else {}
            write_shard(paths[number], frame, made)
            counts[number] = made
            progress.advance(sizes[number])
        progress.finish()
        return [known for known in counts if known is not None]

    def _unlabelled_texts(self) -> list[list[str]]:
        """First and perhaps second texts without labels; one empty list for other methods."""
        if self.config.unlabelled is None or self.sources.unlabelled is None:
            return [[]]
        return read_unlabelled(self.sources.unlabelled, self.config.unlabelled, pair=self.data.pair)

    def _judge(self) -> Judge | None:
        if self.sources.teacher is None:
            return None
        return Judge(self.sources.teacher, self.data, runtime=self.runtime, control=self.control)

    def _copier(self) -> tuple[Copier, dict[str, int]]:
        """What makes copies, and counts of the sources that it draws on."""
        config, copies = self.config, int(self.config.copies)
        if config.method == "eda":
            return random_editor(config, copies, self.seed), {}
        if copies == 0 or not (config.uses_masked_lm or config.uses_vectors):
            return no_copies, {}
        masked = None if self.sources.masked_lm is None else self._masked_words(self.sources.masked_lm)
        vectors = None
        if self.sources.vectors is not None:
            given = self.sources.vectors, self.sources.vocabulary
            vectors = load_vectors(*given, config.vectors.limit, self.folders.converted)
        columns = ("text", "text_pair") if self.data.pair else ("text",)
        table = CandidateTable(
            [text for column in columns for text in self.data.train[column]],
            config,
            masked=masked,
            vectors=vectors,
            folder=self.folders.candidates,
            control=self.control,
        )
        of_sources = {
            "words_without_vector": table.without_vector,
            "repeated_vectors": 0 if vectors is None else vectors.duplicates,
        }
        return word_replacer(table, config, copies, self.seed), of_sources

    def _masked_words(self, folder: Path) -> MaskedWordModel:
        return MaskedWordModel(
            load_masked_lm(folder, fresh_head=False),
            load_tokenizer(folder),
            masked_input=self.config.masked_input,
            runtime=self.runtime,
        )
