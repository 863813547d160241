"""What a file of published figures says: papers, their tables, and the settings they state."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from compression.architecture.description import ShapeDescription
from compression.configuration import Config
from compression.errors import UserError, did_you_mean

Quantity = Literal[
    "score", "average", "difference", "parameters_millions", "parameters_change_percent", "sparsity_percent",
    "flops_billions", "seconds", "hours", "speedup", "training_steps",
]  # fmt: skip
Metric = Literal["accuracy", "accuracy_mismatched", "f1", "exact_match", "matthews", "pearson", "spearman"]
Split = Literal["dev", "test"]

# What is no percentage has no upper limit; correlations and differences may be negative.
_CORRELATIONS = ("matthews", "pearson", "spearman")
_PERCENTAGES = ("score", "average", "difference", "sparsity_percent")


def _figure(given: object) -> object:
    if given is None or (isinstance(given, int | float) and not isinstance(given, bool)):
        return given
    raise ValueError(f"must be a number or null; given {given!r}")


Figure = Annotated[int | float | None, BeforeValidator(_figure)]
MeanOf = tuple[str | tuple[str, ...], ...]


class CellReference(Config):
    """A cell of a published table."""

    table: str | None = Field(None, description="Id of the table; null is the table itself")
    row: str = Field(description="Name of the row")
    column: str = Field(description="Name of the column")


class PublishedColumn(Config):
    """What the figures of a column are.

    Example:
        >>> PublishedColumn(task="mrpc", metric="f1", metric_stated=False).heading
        'mrpc f1?'
        >>> PublishedColumn(quantity="speedup", condition="batch 1").heading
        'speedup (batch 1)'
    """

    quantity: Quantity = Field(
        "score",
        description="What is counted, with its unit; `score` and `average` in percent, `difference` in points, `speedup` in times",
    )
    task: str | None = Field(
        None, description="Task of a score: a GLUE task, `squad`, `squad_v2`, `race`, `imdb`, or a pretraining task"
    )
    metric: Metric | None = Field(
        None,
        description="Metric of a score, as `evaluate` names it; null where the source does not say and nothing tells",
    )
    metric_stated: bool = Field(
        True, description="False where the source does not say which metric it is, and `metric` is a reading"
    )
    split: Split | None = Field(None, description="Split, where it is not the table's")
    condition: str = Field("", description="What else the figures hold for: batch, length, hardware, number format")
    mean_of: MeanOf = Field(
        (), description="Columns that it is the mean of; the columns of an inner list are averaged first"
    )
    relative_to: CellReference | None = Field(None, description="Cell that a difference is taken to")

    @model_validator(mode="after")
    def _fields_fit_the_quantity(self) -> Self:
        if (self.quantity == "score") != (self.task is not None):
            raise ValueError("a score, and nothing else, has a `task`")
        if self.metric is not None and self.task is None:
            raise ValueError("`metric` is that of a score")
        if self.quantity == "score" and self.metric is None and self.metric_stated:
            raise ValueError("a score has a `metric`, or `metric_stated: false`")
        if (self.quantity == "difference") != (self.relative_to is not None):
            raise ValueError("a difference, and nothing else, has `relative_to`")
        return self

    @property
    def heading(self) -> str:
        """Heading for a reader; `?` marks a metric that the source does not state."""
        metric = f"{self.metric or ''}{'' if self.metric_stated else '?'}"
        mean = "mean " if self.mean_of and self.quantity != "average" else ""
        name = (f"{mean}{self.quantity}" if self.task is None else f"{self.task} {metric}").replace("_", " ")
        return f"{name} ({self.condition})" if self.condition else name

    @property
    def limits(self) -> tuple[float, float]:
        """Smallest and largest possible figure."""
        signed = self.quantity == "difference" or self.metric in _CORRELATIONS
        smallest = -100.0 if signed or self.quantity == "parameters_change_percent" else 0.0
        return smallest, 100.0 if self.quantity in _PERCENTAGES else float("inf")


class PublishedRow(Config):
    """A row of a published table.

    Example:
        >>> PublishedRow(name="Top", figures={"cola": 35.9}).figures["cola"]
        35.9
    """

    name: str = Field(min_length=1, description="Name as the source prints it")
    factors: dict[str, bool | int | float | str] = Field(
        default_factory=dict, description="What sets the row apart, by name"
    )
    shape: ShapeDescription | None = Field(None, description="Shape of the encoder")
    no_shape: str | None = Field(None, min_length=1, description="Why the model has no such shape")
    figures: dict[str, Figure] = Field(description="Column -> figure as printed; null where none is printed")

    @model_validator(mode="after")
    def _one_shape(self) -> Self:
        if self.shape is not None and self.no_shape is not None:
            raise ValueError("has both `shape` and `no_shape`")
        return self


class Inconsistency(Config):
    """A figure that does not follow from the others of its source."""

    row: str = Field(description="Name of the row")
    column: str = Field(description="Name of the column: a mean, a difference within the table, or parameters")
    recomputed: float = Field(description="What follows instead, in the column's unit")
    reason: str = Field(min_length=1, description="What explains it, as far as anything does")


class _Sourced(Config):
    id: str = Field(pattern=r"^[a-z0-9_]+\.[a-z0-9_]+$", description="Paper and table, for example `tinybert.t3`")
    table: str = Field(min_length=1, description="Where it stands in the source")
    what: str = Field(min_length=1, description="What it shows")
    read_in: Literal["paper", "authors_repository"] = Field(description="Where the figures were read")
    source: str = Field(min_length=1, description="Document and version, or repository, commit and file")
    notes: tuple[str, ...] = Field((), description="What a reader must know")


class PublishedTable(_Sourced):
    """A printed table.

    Example:
        >>> columns = {"cola": PublishedColumn(task="cola", metric="matthews")}
        >>> table = PublishedTable(id="paper.t1", table="Table 1", what="demo", read_in="paper", source="none", split="dev",
        ...                        columns=columns, rows=[{"name": "small", "figures": {"cola": 20.1}}])
        >>> table.figure("small", "cola"), table.split_of("cola")
        (20.1, 'dev')
    """

    split: Split | None = Field(None, description="Split that scores were measured on; null where there are none")
    columns: dict[str, PublishedColumn] = Field(min_length=1, description="What each column is, by name")
    shape: ShapeDescription | None = Field(None, description="Shape of the encoder in all rows")
    rows: tuple[PublishedRow, ...] = Field(min_length=1, description="Rows in the order of the source")
    expected_inconsistencies: tuple[Inconsistency, ...] = Field(
        (), description="Figures that do not follow from the others"
    )

    def row(self, name: str) -> PublishedRow:
        """A row by its name.

        Args:
            name: name as the source prints it.

        Returns:
            The row.

        Raises:
            UserError: no such row; suggests the nearest.
        """
        rows = {row.name: row for row in self.rows}
        if name not in rows:
            raise UserError(f"{self.id} has no row {name!r}; it has {', '.join(rows)}{did_you_mean(name, rows)}")
        return rows[name]

    def figure(self, row: str, column: str) -> int | float | None:
        """A printed figure.

        Args:
            row: name of the row.
            column: name of the column.

        Returns:
            The figure in the column's unit; None where none is printed.

        Raises:
            UserError: no such row or column; suggests the nearest.
        """
        figures = self.row(row).figures
        if column not in figures:
            near = did_you_mean(column, figures)
            raise UserError(f"{self.id} has no column {column!r}; it has {', '.join(figures)}{near}")
        return figures[column]

    def shape_of(self, row: PublishedRow) -> ShapeDescription | None:
        """Shape of a row's encoder: its own, or the one that holds for all rows.

        Args:
            row: a row of this table.

        Returns:
            The shape; None when the source names none.
        """
        return row.shape or (self.shape if row.no_shape is None else None)

    def expected(self, row: str, column: str) -> Inconsistency | None:
        """The declared inconsistency of a figure.

        Args:
            row: name of the row.
            column: name of the column.

        Returns:
            The inconsistency; None where the figure follows from the others.
        """
        found = (item for item in self.expected_inconsistencies if (item.row, item.column) == (row, column))
        return next(found, None)

    def split_of(self, column: str) -> Split | None:
        """Split that a column was measured on.

        Args:
            column: name of the column.

        Returns:
            The split; None for what no split is needed for.
        """
        return self.columns[column].split or self.split


class Setting(Config):
    """A hyper-parameter as the source states it."""

    name: str = Field(min_length=1, description="What is set")
    value: bool | int | float | str | list[int | float] | dict[str, int | float | list[int | float]] = Field(
        description="Value, list of values tried, or values by task"
    )
    where: str = Field("", description="Where exactly it stands")


class PublishedSettings(_Sourced):
    """Hyper-parameters of a paper or of its official code."""

    rows: tuple[Setting, ...] = Field(min_length=1, description="Settings in the order of the source")


class PublishedPaper(Config):
    """One file: a paper with what it prints.

    Example:
        >>> PublishedPaper(paper="LayerDrop", authors="Fan et al.", year=2019, arxiv="1909.11556").reference
        'LayerDrop (Fan et al. 2019, arXiv:1909.11556)'
    """

    paper: str = Field(min_length=1, description="Name that the paper or its method goes by")
    authors: str = Field(min_length=1, description="Authors, short")
    year: int = Field(ge=2017, description="Year of the first version")
    arxiv: str | None = Field(None, pattern=r"^\d{4}\.\d{5}$", description="arXiv number")
    tables: tuple[PublishedTable, ...] = Field((), description="Tables of figures")
    settings: tuple[PublishedSettings, ...] = Field((), description="Tables of hyper-parameters")

    @property
    def reference(self) -> str:
        """How the paper is cited in a line."""
        arxiv = f", arXiv:{self.arxiv}" if self.arxiv else ""
        return f"{self.paper} ({self.authors} {self.year}{arxiv})"
