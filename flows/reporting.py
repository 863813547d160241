"""The report of a study: its table in every format, its plot, and the notes that MLflow and Prefect show."""

import importlib.metadata
import json
import platform
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.augmentation_section import augmentation_section
from flows.cells import cells_of
from flows.graph import SOURCE
from flows.project import Project
from flows.report import FORMATS, markdown, write
from flows.run_record import RunRecord, run_records
from tasks.artifact_store import ArtifactReference, ArtifactStore
from tasks.settings import Settings

if TYPE_CHECKING:
    from compression.analysis.results import AblationTable, PublishedComparison, Row

# A larger graph is no help to the eye, and Prefect stores the picture with every run.
_DRAWN_NODES = 60
_LIBRARIES = ("torch", "transformers", "datasets", "prefect", "mlflow")


def report_folder(settings: Settings, study: str) -> Path:
    """Where a study's latest report lies.

    Args:
        settings: the home folder.
        study: the study's name.

    Returns:
        The folder.
    """
    return settings.study_folder / study / "report"


def measured_table(project: Project) -> "AblationTable":
    """The table of whatever is in the cache now; nothing is run.

    Args:
        project: the study.

    Returns:
        The table; cells that are not computed are missing.
    """
    products = {plan.node.id: plan.reference for plan in project.plan() if plan.reference is not None}
    return table_of(project, products, links=_run_links(project))


def table_of(
    project: Project,
    products: dict[str, ArtifactReference],
    *,
    links: dict[str, str],
    computed: frozenset[str] = frozenset(),
) -> "AblationTable":
    """The study's table of some products.

    Args:
        project: the study.
        products: node id -> product.
        links: cell name -> address of its MLflow run.
        computed: nodes that this run computed.

    Returns:
        The table, its rows in the order that the study asks for.
    """
    from compression.analysis.table import table

    study, variants = project.loaded.study, [variant.name for variant in project.loaded.variants]
    store = ArtifactStore(project.settings.store_folder)
    result = table(
        cells_of(project.graph, products, store, links=links, computed=computed),
        variants=variants,
        tasks=[task.name for task in study.tasks],
        metrics=study.table.metrics,
        baseline=study.table.baseline if study.table.baseline in variants else None,
        teacher=project.teacher_row(),
        limits={task.name: task.limit_evaluation for task in study.tasks if task.limit_evaluation},
    )
    result = replace(result, published=_published(project, result))
    rows = list(result.rows)
    for column in reversed(study.table.sort or ()):
        descending = column.startswith("-")
        values = {row.variant: _sort_value(row, column.removeprefix("-")) for row in rows}
        known = [row for row in rows if values[row.variant] is not None]
        known.sort(key=lambda row, values=values: values[row.variant], reverse=descending)  # type: ignore[misc]
        rows = [*known, *(row for row in rows if values[row.variant] is None)]
    return replace(result, rows=tuple(rows))


def _published(project: Project, table: "AblationTable") -> "PublishedComparison | None":
    """The published table that the study asks for, beside the measured one."""
    from compression.analysis.published import load_published
    from compression.analysis.published_comparison import compare

    asked = project.loaded.study.table.published
    if asked is None:
        return None
    figures = load_published()
    published = figures.table(asked.table)
    variants = [row.variant for row in table.rows]
    return compare(
        table,
        published,
        figures.paper(asked.table).reference,
        rows=asked.mapping(variants, [row.name for row in published.rows]),
        tasks=project.loaded.study.tasks,
        shapes={cell.variant: project.shapes.get(cell.chain[-1]) for cell in project.graph.cells},
    )


def _sort_value(row: "Row", column: str) -> Any:
    """The value that a column orders a row by; None when it was not measured."""
    cost = row.efficiency
    values: dict[str, Any] = {
        "variant": row.variant,
        "parameters": cost.parameters,
        "bytes": cost.bytes,
        "latency": cost.latency.median if cost.latency else None,
        **{f"{score.task}.{score.metric}": score.mean for score in row.scores if score},
    }
    return values.get(column)


def _run_links(project: Project) -> dict[str, str]:
    """Addresses of the cells' runs in MLflow, of the latest run that recorded each."""
    links: dict[str, str] = {}
    for record in run_records(project.settings, project.name):
        for name, address in record.cell_links.items():
            links.setdefault(name, address)
    return links


def write_report(
    project: Project,
    table: "AblationTable",
    record: RunRecord | None,
    folder: Path | None = None,
    formats: Sequence[str] = tuple(FORMATS),
) -> list[Path]:
    """Write the report's files.

    Args:
        project: the study.
        table: its table.
        record: the run that the report is about.
        folder: where to; the study's report folder by default.
        formats: names of formats.

    Returns:
        The files.
    """
    study = project.loaded.study
    environment = {
        **{name: importlib.metadata.version(name) for name in _LIBRARIES},
        "Python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "device": "{0.device}, {0.precision}, {0.threads} threads".format(project.settings.runtime()),
    }
    if record is not None:
        reused = sum(node.cached for node in record.nodes.values())
        environment |= {"run": record.id, "stages": f"{len(record.nodes) - reused} run, {reused} reused"}
    return write(
        table,
        folder or report_folder(project.settings, project.name),
        formats,
        title=study.name,
        description=study.description,
        study_text=project.loaded.text,
        links=record.links if record else {},
        environment=environment,
        sections=augmentation_section(project, record) if record else {},
    )


def mlflow_note(project: Project, table: "AblationTable", failures: Sequence[str]) -> str:
    """Markdown on the parent run: the table, what it says, and how to reproduce it.

    Args:
        project: the study.
        table: its table.
        failures: one line a failed stage.

    Returns:
        Markdown.
    """
    parts = [
        project.loaded.study.description,
        markdown.render_table(table),
        _bullets(table.findings),
        _bullets(table.notes),
    ]
    parts += ["**Failed**", _bullets(failures)] if failures else []
    parts.append(
        f"Reproduce: `bertpress run {project.loaded.path.name}` (bertpress {importlib.metadata.version('bertpress')})"
    )
    return "\n\n".join(part for part in parts if part)


def flow_artifact(project: Project, table: "AblationTable", record: RunRecord, failures: Sequence[str]) -> str:
    """Markdown on the Prefect flow run: the table, the link to MLflow, the graph.

    Args:
        project: the study.
        table: its table.
        record: the run.
        failures: one line a failed stage.

    Returns:
        Markdown with a Mermaid graph.
    """
    parts = [mlflow_note(project, table, failures), f"[Runs in MLflow](<{record.links.get('MLflow', '')}>)"]
    nodes = project.graph.nodes
    if len(nodes) > _DRAWN_NODES:
        return "\n\n".join([*parts, f"{len(nodes)} stages; a graph is drawn up to {_DRAWN_NODES}."])
    lines = ["```mermaid", "graph LR"]
    for node in nodes.values():
        done = record.nodes.get(node.label)
        state = "not run" if done is None else "reused" if done.cached else f"{done.seconds:.0f} s"
        lines.append(f"  {node.id}[{json.dumps(f'{node.label} ({state})')}]")
        lines += [f"  {given} --> {node.id}" for given in dict.fromkeys(node.inputs.values()) if given != SOURCE]
    return "\n\n".join([*parts, "\n".join([*lines, "```"])])


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {markdown.escape(line)}" for line in lines)
