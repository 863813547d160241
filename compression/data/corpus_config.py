"""What a corpus is: where its texts come from, what a document is, and how much of it is used."""

from pathlib import PurePath
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from compression.configuration import Config

TEXT_ENDINGS = (".txt", ".raw", ".tokens")
CORPUS_ENDINGS = (*TEXT_ENDINGS, ".jsonl", ".json", ".parquet", ".csv", ".tsv")

# Where the texts lie. What lies there counts by its content, as `compression.data.corpus.fingerprint` sees it.
PLACES = ("dataset", "config", "revision", "split", "files", "text", "encoding")


class CorpusConfig(Config):
    """Texts without labels, for masked-language modelling and general distillation.

    A bare string in YAML is a file when its name ends like one, and a data set otherwise.

    Example:
        >>> CorpusConfig(files=["wiki/*.txt"], documents="blank_line").files
        ('wiki/*.txt',)
        >>> CorpusConfig.model_validate("package:chitchat_dataset/dataset.json").files
        ('package:chitchat_dataset/dataset.json',)
        >>> CorpusConfig(dataset="Salesforce/wikitext", config="wikitext-103-raw-v1").split
        'train'
    """

    alternatives: ClassVar[tuple[str, ...]] = ("dataset", "files", "task_rows")

    dataset: str | None = Field(
        None,
        min_length=1,
        description="Data set: a name on the Hugging Face hub, or a local folder of Parquet, JSONL or CSV files that `datasets` loads. Streamed; each row is a document",
    )
    config: str | None = Field(None, description="Configuration of the data set, where it has several")
    revision: str | None = Field(
        None, min_length=1, description="Branch, tag or commit of a hub data set; a commit needs no look at the hub"
    )
    split: str = Field("train", min_length=1, description="Split of the data set")
    files: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description=f"Files, in this order: paths or patterns (`*`, `?`, `**`) relative to the study file or the data folder, or `package:NAME/FILE`. Told apart by their ending: {', '.join(CORPUS_ENDINGS)}",
    )
    task_rows: bool = Field(
        False,
        description="The texts of the task's own training rows; each task of the study then has a stage of its own",
    )
    text: str = Field(
        "text", min_length=1, description="Text column or field; in JSON also within inner lists and mappings"
    )
    encoding: str = Field("utf-8", description="Text encoding of files other than Parquet")
    documents: Literal["line", "blank_line", "file"] = Field(
        "line", description="What ends a document in text files; elsewhere a row or record is one, its lines paragraphs"
    )
    cross_documents: bool = Field(
        True,
        description="Fill sequences across documents, with a separator between them; off, a sequence holds text of one document, and the end of each document is a shorter sequence",
    )
    limit_tokens: int | None = Field(
        None, ge=1, description="Train on the first so many word pieces; null takes the whole corpus"
    )
    validation_fraction: float = Field(
        0.01,
        ge=0,
        lt=1,
        description="Share of the documents held out for the validation loss, never trained on; 0 holds out none",
    )
    limit_validation_tokens: int | None = Field(
        32_768,
        ge=1,
        description="Measure the validation loss on the first so many held-out word pieces; null takes all",
    )
    split_seed: int = Field(
        0, ge=0, description="Seed of the held-out documents and of their masks; the same for every seed of the study"
    )

    @model_validator(mode="before")
    @classmethod
    def _string_is_a_source(cls, given: object) -> object:
        if not isinstance(given, str):
            return given
        is_file = PurePath(given).suffix.lower() in CORPUS_ENDINGS
        return {"files": (given,)} if is_file else {"dataset": given}

    @field_validator("files", mode="before")
    @classmethod
    def _string_is_one_file(cls, given: object) -> object:
        return (given,) if isinstance(given, str) else given

    @field_validator("files")
    @classmethod
    def _known_endings(cls, given: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in given or ():
            if PurePath(name).suffix.lower() not in CORPUS_ENDINGS:
                raise ValueError(f"unknown kind of file {name!r}; its name must end in {', '.join(CORPUS_ENDINGS)}")
        return given

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [name for name in self.alternatives if getattr(self, name) not in (None, False)]
        if len(given) != 1:
            found = f"; given {', '.join(given)}" if given else ""
            raise ValueError(f"a corpus needs exactly one of {', '.join(self.alternatives)}{found}")
        foreign = [name for name in ("config", "revision") if getattr(self, name) is not None]
        if self.dataset is None and foreign:
            raise ValueError(f"`{foreign[0]}` belongs to a data set; this corpus is read from `{given[0]}`")
        return self

    @property
    def name(self) -> str:
        """The source in a few words, for messages and records."""
        if self.task_rows:
            return "the task's training rows"
        if self.files is not None:
            return ", ".join(self.files)
        return " ".join(part for part in (self.dataset, self.config, self.split) if part)


def without_places(config: dict[str, Any]) -> dict[str, Any]:
    """What of a corpus configuration counts besides the content that is found at its places.

    Args:
        config: a dumped `CorpusConfig`.

    Returns:
        Its other fields.

    Example:
        >>> kept = without_places(CorpusConfig(files=["a.txt"]).model_dump())
        >>> "files" in kept, kept["documents"]
        (False, 'line')
    """
    return {name: value for name, value in config.items() if name not in PLACES}
