"""What a task is: where its rows come from, how they are split, and what is predicted."""

from pathlib import PurePath
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from compression.configuration import Config
from compression.data.glue import GLUE_TASKS
from compression.errors import did_you_mean

Fraction = Annotated[float, Field(gt=0, lt=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)]

FILE_ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")

_FILES_ONLY = ("text", "label", "labels", "problem")


class FilesConfig(Config):
    """A user's own files: CSV, TSV, JSONL or Parquet, told apart by their ending."""

    train: str = Field(
        description="Training file: a path relative to the study file or the data folder, or `package:NAME/FILE` inside an installed package"
    )
    selection: str | None = Field(
        None, description="File for early stopping and model selection; held out of train when absent"
    )
    evaluation: str | None = Field(None, description="File whose rows are reported; held out of train when absent")
    encoding: str = Field("utf-8", description="Text encoding of CSV, TSV and JSONL files")

    @field_validator("train", "selection", "evaluation")
    @classmethod
    def _known_ending(cls, given: str | None) -> str | None:
        if given is not None and PurePath(given).suffix.lower() not in FILE_ENDINGS:
            raise ValueError(f"unknown kind of file {given!r}; its name must end in {', '.join(FILE_ENDINGS)}")
        return given


class TaskConfig(Config):
    """One task of a study: a GLUE task by name, or a user's own files.

    Example:
        >>> TaskConfig(name="mrpc").glue
        'mrpc'
        >>> TaskConfig(name="tweets", files={"train": "tweets.csv"}, text="text", label="sentiment").problem
        'classification'
    """

    name: Name = Field(description="Name of the task in tables; the name of a GLUE task is enough to use it")
    glue: str | None = Field(
        None, description=f"GLUE task to load: {', '.join(GLUE_TASKS)}; the task's name by default"
    )
    files: FilesConfig | None = Field(None, description="A user's own files, instead of GLUE")
    text: str | tuple[str, str] = Field("text", description="Text column, or two columns for a pair task (files only)")
    label: str = Field("label", description="Label column (files only)")
    labels: tuple[str, ...] | None = Field(
        None,
        min_length=2,
        description="Label values in order of class index; the sorted values of train by default (files only)",
    )
    problem: Literal["classification", "regression"] = Field(
        "classification", description="What is predicted (files only)"
    )
    max_length: int = Field(128, ge=4, le=8192, description="Longest input in word pieces; longer ones are cut")
    selection_fraction: Fraction = Field(
        0.1, description="Share of train held out for model selection when there is no selection file"
    )
    evaluation_fraction: Fraction = Field(
        0.1, description="Share of train held out as the reported split when there is no evaluation file"
    )
    split_seed: int = Field(0, description="Seed of the held-out splits; the same for every seed of the study")
    limit_train: int | None = Field(None, ge=1, description="Use at most this many training rows, chosen by split_seed")
    limit_selection: int | None = Field(None, ge=1, description="Use at most this many selection rows")
    limit_evaluation: int | None = Field(
        None, ge=1, description="Use at most this many reported rows; the table says so"
    )

    @model_validator(mode="before")
    @classmethod
    def _name_alone_means_glue(cls, given: object) -> object:
        if isinstance(given, str):
            given = {"name": given}
        if (
            isinstance(given, dict)
            and not given.get("files")
            and not given.get("glue")
            and given.get("name") in GLUE_TASKS
        ):
            given = {**given, "glue": given["name"]}
        return given

    @field_validator("labels", mode="before")
    @classmethod
    def _labels_are_names(cls, given: object) -> object:
        if not isinstance(given, list | tuple):
            return given
        if any(isinstance(label, bool) for label in given):
            # YAML reads a bare yes or no as a truth value; the file's own spelling would be lost.
            raise ValueError('labels that YAML reads as true or false must be quoted, for example ["no", "yes"]')
        return tuple(str(label) if isinstance(label, int) else label for label in given)

    @model_validator(mode="after")
    def _columns_and_labels_agree(self) -> Self:
        columns = (self.text,) if isinstance(self.text, str) else self.text
        if len({*columns, self.label}) != len(columns) + 1:
            raise ValueError(f"text and label columns must differ: {', '.join((*columns, self.label))}")
        if self.labels is not None and len(set(self.labels)) != len(self.labels):
            raise ValueError(f"a label is listed twice: {', '.join(self.labels)}")
        if self.labels is not None and self.problem == "regression":
            raise ValueError("`labels` belongs to classification; leave it out for regression")
        return self

    @model_validator(mode="after")
    def _glue_brings_its_own_columns(self) -> Self:
        own = [name for name in _FILES_ONLY if getattr(self, name) != type(self).model_fields[name].default]
        if self.glue is not None and self.files is None and own:
            raise ValueError(f"GLUE task {self.glue!r} brings its own columns and labels; leave out {', '.join(own)}")
        return self

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.glue is None) == (self.files is None):
            near = did_you_mean(self.name, GLUE_TASKS) if self.files is None else ""
            raise ValueError(
                f"task {self.name!r} needs either `files` or the name of a GLUE task ({', '.join(GLUE_TASKS)}){near}"
            )
        if self.glue is not None and self.glue not in GLUE_TASKS:
            near = did_you_mean(self.glue, GLUE_TASKS)
            raise ValueError(f"unknown GLUE task {self.glue!r}; allowed: {', '.join(GLUE_TASKS)}{near}")
        return self
