"""What the command line prints, with rich; and the same as plain records for `--json`."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from compression.architecture.counts import parameters_by_part
from flows.cleaning import Removal
from flows.planning import NodePlan, differences
from flows.project import Project
from flows.report import terminal
from flows.reporting import report_folder
from flows.run_record import last_parts, run_records
from tasks.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from compression.analysis.results import AblationTable
    from flows.running import Outcome

_CHANGES_SHOWN = 3
_STATUS_STYLE = {"reuse": "green", "run": "yellow"}


def show_table(console: "Console", project: Project, table: "AblationTable") -> None:
    """Print the ablation table.

    Args:
        console: where to.
        project: the study.
        table: its table.
    """
    console.print(terminal.render(table, width=console.width, title=project.name))


def show_outcome(console: "Console", project: Project, outcome: "Outcome") -> None:
    """Print the table of a run, what it cost, and where to browse it.

    Args:
        console: where to.
        project: the study.
        outcome: what the run gave.
    """
    record = outcome.record
    show_table(console, project, outcome.table)
    reused = sum(node.cached for node in record.nodes.values())
    console.print(f"\n{len(record.nodes) - reused} stages run, {reused} reused, {record.seconds:.0f} s", markup=False)
    page = report_folder(project.settings, project.name) / "report.html"
    console.print(f"report   {page.as_uri()}", markup=False, soft_wrap=True)
    console.print(f"MLflow   {record.links.get('MLflow', '')}  (after: bertpress ui)", markup=False, soft_wrap=True)
    for failure in outcome.failures:
        console.print(f"failed   {failure}", style="red", markup=False)


def plan_records(project: Project, plans: Sequence[NodePlan]) -> list[dict[str, Any]]:
    """A plan as JSON values.

    Args:
        project: the study.
        plans: the plan of every node.

    Returns:
        One mapping a node.
    """
    return [
        {
            "stage": plan.node.kind,
            "label": plan.node.label,
            "status": plan.status,
            "reason": plan.reason,
            "key": plan.key,
            "digest": plan.reference.digest if plan.reference else None,
            "inputs": dict(plan.node.inputs),
            "id": plan.node.id,
            "parameters": _parameters(project, plan),
            "remarks": list(project.remarks.get(plan.node.id, ())),
        }
        for plan in plans
    ]


def _shortened(reason: str) -> str:
    """The first few of many changes; `explain` names them all."""
    changes = reason.split("; ")
    more = len(changes) - _CHANGES_SHOWN
    return reason if more <= 0 else f"{'; '.join(changes[:_CHANGES_SHOWN])}; and {more} more (bertpress explain)"


def _parameters(project: Project, plan: NodePlan) -> int | None:
    """Parameters of the encoder that a stage leaves behind, as far as known; None for an evaluation."""
    shape = project.shapes.get(plan.node.id)
    if shape is None or project.stages[plan.node.kind].produces == "evaluation":
        return None
    return sum(parameters_by_part(shape).values())


def show_plan(console: "Console", project: Project, plans: Sequence[NodePlan]) -> None:
    """Print every stage with run or reuse and the reason.

    Args:
        console: where to.
        project: the study.
        plans: the plan of every node.
    """
    from rich.table import Table
    from rich.text import Text

    numbers = {plan.node.id: str(number) for number, plan in enumerate(plans, start=1)}
    title = f"{project.name}: {len(project.graph.cells)} cells"
    grid = Table("#", "stage", "after", "encoder", "does", title=title, box=None, pad_edge=False, title_justify="left")
    grid.columns[3].justify = "right"
    grid.add_column("because", overflow="fold")
    for column in grid.columns[:-1]:
        column.no_wrap = True
    for plan in plans:
        seconds = plan.reference.meta.get("seconds") if plan.reference else None
        computed = f"computed before, in {seconds:.1f} s" if seconds is not None else "computed before"
        reason = _shortened(plan.reason) or computed
        after = ", ".join(numbers[given] for given in dict.fromkeys(plan.node.inputs.values()) if given in numbers)
        status = Text(plan.status, _STATUS_STYLE[plan.status])
        parameters = _parameters(project, plan)
        size = "" if parameters is None else f"{parameters / 1e6:.2f}M"
        grid.add_row(numbers[plan.node.id], Text(plan.node.label), after, size, status, Text(reason))
    console.print(grid)
    for title, lines in _remarks(project, plans):
        console.print(f"\n{title}", markup=False)
        for line in lines:
            console.print(f"  {line}", markup=False)
    count = Counter(plan.status for plan in plans)
    console.print(f"\n{count['run']} stages to run, {count['reuse']} reused", markup=False)


def _remarks(project: Project, plans: Sequence[NodePlan]) -> list[tuple[str, tuple[str, ...]]]:
    """What stages are remarked on, and the remarks; once for all seeds, and for all tasks that share them."""
    stages: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for plan in plans:
        node = plan.node
        if lines := project.remarks.get(node.id):
            of = stages.setdefault((f"{node.kind} {node.variant}", lines), [])
            if node.task is not None and node.task.name not in of:
                of.append(node.task.name)
    return [
        (" · ".join([name, *([", ".join(tasks)] if tasks else [])]), lines) for (name, lines), tasks in stages.items()
    ]


def explanation_records(project: Project) -> list[dict[str, Any]]:
    """Key parts of every stage of a project, and what changed since it last ran.

    Args:
        project: the study, narrowed to what is asked about.

    Returns:
        One mapping a stage.
    """
    before = last_parts(project.settings, project.name)
    records = []
    for plan in project.plan():
        last = before.get(plan.node.label)
        changed = differences(last, plan.parts) if last is not None and plan.parts is not None else None
        record = {"label": plan.node.label, "status": plan.status, "reason": plan.reason, "key": plan.key}
        records.append({**record, "parts": plan.parts, "changed": changed})
    return records


def show_explanation(console: "Console", records: Sequence[dict[str, Any]]) -> None:
    """Print key parts and changes.

    Args:
        console: where to.
        records: what `explanation_records` gives.
    """
    for record in records:
        console.print(f"{record['label']}", style="bold", markup=False)
        console.print(f"  {record['status']}  {record['reason']}".rstrip(), markup=False)
        if record["key"] is not None:
            console.print(f"  key         {record['key']}", markup=False, soft_wrap=True)
        for name, value in (record["parts"] or {}).items():
            console.print(f"  {name:<12}{_compact(name, value)}", markup=False, soft_wrap=True)
        changes = record["changed"]
        unknown = "known when its inputs are" if record["parts"] is None else "not run before"
        since = unknown if changes is None else "; ".join(changes) or "nothing"
        console.print(f"  changed     {since}\n", markup=False, soft_wrap=True, style="yellow" if changes else None)


def _compact(name: str, value: Any) -> str:
    if name == "code":
        return f"{len(value)} modules"
    if isinstance(value, dict):
        return (
            ", ".join(f"{key}={inner[:12] if isinstance(inner, str) else inner}" for key, inner in value.items()) or "-"
        )
    return "-" if value is None else str(value)


def study_records(settings: Settings) -> list[dict[str, Any]]:
    """The last run of every study.

    Args:
        settings: the home folder.

    Returns:
        One mapping a study.
    """
    records = []
    for folder in sorted(settings.study_folder.glob("*")):
        last = next(run_records(settings, folder.name), None)
        if last is not None:
            page = report_folder(settings, folder.name) / "report.html"
            shown = {"study": last.study, "status": last.status, "started": last.started, "seconds": last.seconds}
            records.append({**shown, "stages": len(last.nodes), "report": str(page) if page.exists() else None})
    return records


def show_studies(console: "Console", records: Sequence[dict[str, Any]]) -> None:
    """Print the studies.

    Args:
        console: where to.
        records: what `study_records` gives.
    """
    _show_grid(
        console, ("study", "status", "started", "seconds", "stages", "report"), records, "no study was run here yet"
    )


def removal_records(removals: Sequence[Removal]) -> list[dict[str, Any]]:
    """Removals as JSON values.

    Args:
        removals: what can go.

    Returns:
        One mapping a removal.
    """
    return [{**asdict(removal), "path": str(removal.path)} for removal in removals]


def show_removals(console: "Console", removals: Sequence[Removal], *, removed: bool) -> None:
    """Print what goes, or would go.

    Args:
        console: where to.
        removals: what can go.
        removed: whether it went.
    """
    _show_grid(console, ("what", "size", "reason", "path"), removal_records(removals), "nothing to remove")
    if removals:
        total = sum(removal.size for removal in removals) / 1e6
        done = "removed" if removed else "would be removed; --yes removes them"
        console.print(f"\n{len(removals)} things, {total:.1f} MB, {done}", markup=False)


def _show_grid(console: "Console", columns: Sequence[str], records: Sequence[dict[str, Any]], empty: str) -> None:
    from rich.table import Table
    from rich.text import Text

    if not records:
        console.print(empty)
        return
    grid = Table(box=None, pad_edge=False)
    for column in columns:
        grid.add_column(column, overflow="fold")
    for record in records:
        grid.add_row(*(Text("" if record[column] is None else str(record[column])) for column in columns))
    console.print(grid)
