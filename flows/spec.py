"""What a study file says: teacher, tasks, seeds, defaults, variants, table.

The configurations of the stages are checked apart, by `flows.derivation`, once it is known which stages a chain has.
"""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails

from compression.configuration import Config
from compression.data.config import Name, TaskConfig, metrics_of
from compression.data.glue import GLUE_TASKS
from flows.study_errors import DocumentPath, UnplacedError, describe

Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
PartialConfig = dict[str, Any]

EFFICIENCY_COLUMNS = ("parameters", "bytes", "latency")


def _one_stage(given: object) -> object:
    if isinstance(given, str):
        return {given: {}}
    if isinstance(given, dict) and len(given) == 1:
        kind, config = next(iter(given.items()))
        if config is None or isinstance(config, dict):
            return {kind: config or {}}
    raise UnplacedError(describe("a stage is its kind, or a mapping with one key, `{KIND: {FIELD: VALUE}}`", given))


StageEntry = Annotated[dict[str, PartialConfig], BeforeValidator(_one_stage)]


class TeacherConfig(Config):
    """The model that students learn from and that every chain starts at.

    Example:
        >>> TeacherConfig(model="bert-base-uncased").finetuned
        False
    """

    model: str = Field(
        min_length=1,
        description="Pretrained encoder: a name on the Hugging Face hub, a local folder, "
        "or `package:NAME/FOLDER` inside an installed package",
    )
    revision: str | None = Field(None, min_length=1, description="Branch, tag or commit of a model on the hub")
    finetuned: bool = Field(
        False, description="The model already is a classifier for the one task of the study and is not fine-tuned again"
    )
    finetune: PartialConfig = Field(
        default_factory=dict, description="Fields of the `finetune` stage that hold for the teacher alone"
    )
    seed: Seed | None = Field(
        None, description="Seed of one teacher for all seeds of the study; null gives each seed its own teacher"
    )

    @model_validator(mode="after")
    def _no_contradiction(self) -> Self:
        if self.finetuned and (self.finetune or self.seed is not None):
            raise UnplacedError(
                "`finetune` and `seed` mean nothing for a teacher that is fine-tuned already; leave them out"
            )
        if self.finetune.get("student") is not None:
            raise UnplacedError("the teacher is no student; leave out `finetune.student`")
        if self.revision is not None and self.model.startswith(("package:", ".", "/", "~")):
            raise UnplacedError(describe("`revision` belongs to a model on the hub, and this one is local", self.model))
        return self


class VariantConfig(Config):
    """A row of the table: a chain of stages, declared or derived from another variant.

    Applied in the order from, without, then, set, matrix. A bare list in YAML is `stages`.

    Example:
        >>> VariantConfig.model_validate(["finetune", {"quantize": {"embeddings": False}}]).stages
        ({'finetune': {}}, {'quantize': {'embeddings': False}})
    """

    model_config = ConfigDict(serialize_by_alias=True)

    description: str = Field("", description="What the variant shows, for the report")
    stages: tuple[StageEntry, ...] | None = Field(None, description="The chain; `evaluate` is added at its end")
    from_: str | None = Field(
        None,
        alias="from",
        description="Variant to derive from; the name of a matrix derives from each of its combinations",
    )
    without: tuple[str, ...] = Field((), description="Kinds of stages to leave out of the chain")
    then: tuple[StageEntry, ...] = Field((), description="Stages to add at the end of the chain, before `evaluate`")
    set_: dict[str, Any] = Field(
        default_factory=dict,
        alias="set",
        description="Values of single fields: `KIND.FIELD`, `KIND[1].FIELD` for the second of a kind "
        "(counted from 0), `*.FIELD` for all stages that have the field",
    )
    matrix: dict[str, Annotated[tuple[Any, ...], Field(min_length=1)]] = Field(
        default_factory=dict, description="Paths as in `set`, each with a list of values: one variant a combination"
    )

    @model_validator(mode="before")
    @classmethod
    def _list_is_a_chain(cls, given: object) -> object:
        if isinstance(given, list | tuple):
            return {"stages": given}
        if not isinstance(given, dict):
            raise UnplacedError(describe("must be a list of stages, or a mapping with `stages` or `from`", given))
        return given

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.stages is None) == (self.from_ is None):
            raise UnplacedError("a variant has either `stages` or `from`")
        return self


class PublishedRowsConfig(Config):
    """A published table whose figures stand beside the measured ones. A bare string in YAML is its id.

    Example:
        >>> PublishedRowsConfig.model_validate("tinybert.t3").table
        'tinybert.t3'
    """

    table: str = Field(description="Id of the table; `bertpress published` lists them")
    rows: dict[str, str] = Field(
        default_factory=dict, description="Variant -> name of the row in the source, where the names differ"
    )

    @model_validator(mode="before")
    @classmethod
    def _string_is_an_id(cls, given: object) -> object:
        return {"table": given} if isinstance(given, str) else given

    def mapping(self, variants: Iterable[str], rows: Container[str]) -> dict[str, str]:
        """Which row belongs to which variant.

        Args:
            variants: names of variants.
            rows: names of the published rows.

        Returns:
            Variant -> row, for variants that have one.
        """
        named = {variant: self.rows.get(variant, variant) for variant in variants}
        return {variant: row for variant, row in named.items() if row in rows}


class TableConfig(Config):
    """What the ablation table shows.

    Example:
        >>> TableConfig(baseline="small", sort=["-sst2.accuracy"]).baseline
        'small'
    """

    baseline: str | None = Field(None, description="Variant that differences and paired tests are taken against")
    teacher: str | None = Field(
        None,
        description="Variant whose metrics `retained` is a share of; by default the one whose chain is the teacher's",
    )
    metrics: dict[str, Annotated[tuple[str, ...], Field(min_length=1)]] | None = Field(
        None, description="Metrics to show, by task; by default all that the task has"
    )
    sort: tuple[str, ...] | None = Field(
        None,
        description="Columns that order the rows, `-` before a name for the largest first: `variant`, `parameters`, "
        "`bytes`, `latency` or `TASK.METRIC`; by default the order of the file",
    )
    published: PublishedRowsConfig | None = Field(
        None, description="Published table whose figures stand beside the measured ones"
    )


class Study(Config):
    """A study, as its file declares it.

    Example:
        >>> teacher = {"model": "bert-base-uncased"}
        >>> study = Study(name="demo", teacher=teacher, tasks=["sst2"], variants={"teacher": ["finetune"]})
        >>> study.seeds, study.tasks[0].glue
        ((0,), 'sst2')
    """

    name: Name = Field(description="Name of the study: its MLflow experiment and the folder of its reports")
    description: str = Field("", description="The question that the study answers, for the report")
    teacher: TeacherConfig = Field(description="The model that students learn from")
    tasks: tuple[TaskConfig, ...] = Field(min_length=1, description="Tasks: names of GLUE tasks, or a user's own files")
    seeds: tuple[Seed, ...] = Field((0,), min_length=1, description="Seeds; each cell of the table is a mean over them")
    defaults: dict[str, PartialConfig] = Field(
        default_factory=dict,
        description="Fields of stages, by kind, that hold wherever a variant does not say otherwise",
    )
    variants: dict[Name, VariantConfig] = Field(min_length=1, description="Rows of the table, by name")
    table: TableConfig = Field(default_factory=TableConfig, description="What the ablation table shows")

    @model_validator(mode="before")
    @classmethod
    def _empty_defaults(cls, given: object) -> object:
        if isinstance(given, dict) and isinstance(given.get("defaults"), dict):
            given = {
                **given,
                "defaults": {kind: {} if value is None else value for kind, value in given["defaults"].items()},
            }
        return given

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        parts = Parts(self.teacher, self.tasks, self.seeds, tuple(self.variants), self.table)
        disagreements: list[InitErrorDetails] = [
            {"type": "value_error", "loc": place, "input": None, "ctx": {"error": UnplacedError(text)}}
            for place, text in parts.disagreements()
        ]
        if disagreements:
            raise ValidationError.from_exception_data("Study", disagreements)
        return self


def task_metrics(task: TaskConfig) -> tuple[str, ...]:
    """Metrics that `evaluate` measures on a task.

    Args:
        task: the task.

    Returns:
        Names; those on MNLI's second reported split end in its name.

    Example:
        >>> task_metrics(TaskConfig(name="mrpc")), task_metrics(TaskConfig(name="mnli"))
        (('f1', 'accuracy'), ('accuracy', 'accuracy_mismatched'))
    """
    splits = GLUE_TASKS[task.glue].evaluation if task.glue else (("", ""),)
    return tuple(f"{metric}_{split}" if split else metric for split, _ in splits for metric in metrics_of(task))


@dataclass(frozen=True)
class Parts:
    """Parts of a study that must agree with each other; None for one that is itself wrong.

    Apart from `Study`, so that a file with one wrong part still has the others checked.
    """

    teacher: TeacherConfig | None
    tasks: Sequence[TaskConfig] | None
    seeds: Sequence[int] | None
    variants: Iterable[str]
    table: TableConfig | None

    def disagreements(self) -> Iterator[tuple[DocumentPath, str]]:
        """Find what is wrong between parts.

        Yields:
            Place in the study, and the message.
        """
        if self.tasks is not None:
            yield from _repeated("tasks", "task", [task.name for task in self.tasks])
            if self.teacher is not None and self.teacher.finetuned and len(self.tasks) > 1:
                names = [task.name for task in self.tasks]
                yield ("teacher", "finetuned"), describe("a teacher that is fine-tuned already has one task", names)
        if self.seeds is not None:
            yield from _repeated("seeds", "seed", self.seeds)
        if self.table is not None:
            yield from self._table(self.table)
            if self.table.published is not None and self.tasks is not None:
                yield from self._published(self.table.published, self.tasks)

    def _table(self, table: TableConfig) -> Iterator[tuple[DocumentPath, str]]:
        for field in ("baseline", "teacher"):
            name = getattr(table, field)
            # the name of one combination of a matrix is checked once the matrix is spread
            if name is not None and declared_name(name) not in self.variants:
                yield ("table", field), describe("no such variant", name, self.variants)
        if self.tasks is None:
            return
        metrics = {task.name: task_metrics(task) for task in self.tasks}
        for task, chosen in (table.metrics or {}).items():
            if task not in metrics:
                yield ("table", "metrics", task), describe("no such task", task, metrics)
            for index, metric in enumerate(chosen if task in metrics else ()):
                if metric not in metrics[task]:
                    place = ("table", "metrics", task, index)
                    yield place, describe(f"task {task!r} has no such metric", metric, metrics[task])
        columns = ["variant", *EFFICIENCY_COLUMNS, *_metric_columns(metrics)]
        for index, column in enumerate(table.sort or ()):
            if column.removeprefix("-") not in columns:
                yield ("table", "sort", index), describe("no such column", column, columns)

    def _published(self, given: PublishedRowsConfig, tasks: Sequence[TaskConfig]) -> Iterator[tuple[DocumentPath, str]]:
        from compression.analysis.published import load_published

        tables = load_published().tables
        place = ("table", "published")
        if given.table not in tables:
            yield place, describe("no such published table", given.table, tables)
            return
        published = tables[given.table]
        names = [row.name for row in published.rows]
        for variant, row in given.rows.items():
            if declared_name(variant) not in self.variants:
                yield (*place, "rows", variant), describe("no such variant", variant, self.variants)
            if row not in names:
                yield (*place, "rows", variant), describe(f"{given.table} has no such row", row, names)
        if not given.rows and not given.mapping(self.variants, names):
            yield (
                place,
                describe(
                    f"no variant is named like a row of {given.table}; say in `rows` which is which", allowed=names
                ),
            )
        scored = {column.task for column in published.columns.values() if column.task is not None}
        if not scored & {task.glue or task.name for task in tasks}:
            yield place, describe(f"{given.table} has no scores on the tasks of this study", allowed=sorted(scored))


def declared_name(variant: str) -> str:
    """Name under which a variant stands in the file: without the combination of its matrix.

    Example:
        >>> declared_name("albert[rank=64]")
        'albert'
    """
    return variant.partition("[")[0]


def _metric_columns(metrics: Mapping[str, Sequence[str]]) -> list[str]:
    return [f"{task}.{metric}" for task, names in metrics.items() for metric in names]


def _repeated(field: str, noun: str, values: Sequence[object]) -> Iterator[tuple[DocumentPath, str]]:
    for index, value in enumerate(values):
        if value in values[:index]:
            yield (field, index), describe(f"the {noun} stands twice", value)
