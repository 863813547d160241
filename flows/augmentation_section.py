"""What a report says about augmented rows: how much was replaced, what the teacher thinks of it, and examples."""

import json
from typing import Any

from compression.augmentation.quality import QUALITY_FILE
from flows.project import Project
from flows.run_record import RunRecord
from tasks.artifact_store import ArtifactStore

_TITLE = "Augmented rows"
_EXAMPLES = 3


def augmentation_section(project: Project, record: RunRecord) -> dict[str, list[str]]:
    """Section of a report for a study's `augment` stages.

    Args:
        project: the study.
        record: the run that the report is about.

    Returns:
        Heading -> lines: one a stage, and examples of the first stage of each variant; nothing for a study without such
        stages.
    """
    store = ArtifactStore(project.settings.store_folder)
    lines: list[str] = []
    shown: set[str] = set()
    for node in project.graph.nodes.values():
        done = record.nodes.get(node.label)
        path = None if done is None else store.folder(done.digest) / QUALITY_FILE
        if node.kind != "augment" or path is None or not path.is_file():
            continue
        quality = json.loads(path.read_text(encoding="utf-8"))
        lines.append(f"{node.label}: {summary(quality)}")
        if node.variant not in shown:
            shown.add(node.variant)
            lines += [f"“{each['original']}” → “{each['copy']}”" for each in quality["examples"][:_EXAMPLES]]
    return {_TITLE: lines} if lines else {}


def summary(quality: dict[str, Any]) -> str:
    """A quality report in one line.

    Args:
        quality: the report, as `compression.augmentation.quality.report` gives it.

    Returns:
        The line.

    Example:
        >>> from compression.augmentation.quality import report
        >>> summary(report([{"source_rows": 2, "rows": 5, "drawn": 4, "same": 1, "words": 10, "changed": 4}], []))
        '5 rows from 2; 40.0 % of the words of copies changed; 25.0 % of the copies drawn were there already'
    """
    parts = [f"{quality['rows']:,} rows from {quality['source_rows']:,}"]
    if quality["drawn"]:
        parts.append(f"{quality['share_changed']:.1%} of the words of copies changed")
        parts.append(f"{quality['share_same']:.1%} of the copies drawn were there already")
    if quality["dropped"]:
        parts.append(f"{quality['share_dropped']:.1%} dropped because the teacher's output moved too far")
    if quality["labelled"]:
        parts.append(f"{quality['labelled']:,} labelled by the teacher")
    if "label_agreement" in quality:
        parts.append(f"the teacher keeps the label of {quality['label_agreement']:.1%} of {quality['judged']:,} copies")
    if "mean_shift" in quality:
        parts.append(f"its output moves by {quality['mean_shift']:.3f} on average")
    return "; ".join(parts).replace("%", " %")
