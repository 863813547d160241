"""Addresses inside MLflow's browser interface that show what a reader came for.

MLflow opens on pages made for chat applications, folds child runs away and shows no metric. A view stored in a tag of
the experiment, as its own Share button stores one, opens the cells as a flat list with their metrics.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from tasks.tracking_values import now

_VIEW_TAG = "mlflow.sharedViewState."
_VIEW_NAME = "bertpress-"
_RECORDED = "recorded"
_MODE = ("workflowType", "machine_learning")
_KEPT_VIEWS = 100
_TAG_COLUMNS = ("variant", "task", "seed", "cached")
_METRIC_COLUMNS = 8


def run_link(experiment_id: str, run_id: str) -> str:
    """Page of one run.

    Args:
        experiment_id: its experiment.
        run_id: the run.

    Returns:
        What comes after the server's address.

    Example:
        >>> run_link("1", "ab12")
        '/#/experiments/1/runs/ab12'
    """
    return f"/#/experiments/{experiment_id}/runs/{run_id}"


def cells_filter(study_run: str) -> str:
    """Search that finds the cells of one execution of a study.

    Args:
        study_run: the execution's run.

    Returns:
        A filter in MLflow's language.

    Example:
        >>> cells_filter("ab12")
        "tags.`bertpress.kind` = 'cell' and tags.`mlflow.parentRunId` = 'ab12'"
    """
    return f"tags.`bertpress.kind` = 'cell' and tags.`mlflow.parentRunId` = '{study_run}'"


def view_link(experiment_id: str, study_run: str) -> str:
    """Page of the cells of one execution with the columns of `view_tag`.

    Args:
        experiment_id: the study's experiment.
        study_run: the execution's run.

    Returns:
        What comes after the server's address.

    Example:
        >>> view_link("1", "ab12")
        '/#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=bertpress-ab12'
    """
    query = urlencode([_MODE, ("viewStateShareKey", _VIEW_NAME + study_run)])
    return f"/#/experiments/{experiment_id}/runs?{query}"


def view_tag(study_run: str, metrics: Sequence[str]) -> tuple[str, str]:
    """The experiment's tag that `view_link` opens.

    Args:
        study_run: the execution's run.
        metrics: metrics in the order of their columns; the first sorts the rows.

    Returns:
        Tag and text.
    """
    columns = [f"metrics.`{name}`" for name in metrics[:_METRIC_COLUMNS]]
    columns = [f"tags.`{name}`" for name in _TAG_COLUMNS] + columns
    view: dict[str, Any] = {
        "searchFilter": cells_filter(study_run),
        "orderByKey": f"metrics.`{metrics[0]}`" if metrics else "attributes.start_time",
        "orderByAsc": False,
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": {"tags.`variant`": 170, "tags.`seed`": 60},
        "runsHiddenMode": "SHOW_ALL",
        _RECORDED: now(),
    }
    return f"{_VIEW_TAG}{_VIEW_NAME}{study_run}", json.dumps(view)


def old_views(tags: Mapping[str, str]) -> list[str]:
    """Views to forget, as every execution leaves one and a page of the experiment loads them all.

    Args:
        tags: all tags of the experiment.

    Returns:
        Tags of our views but the last hundred.

    Example:
        >>> old_views(dict(view_tag(f"run{number}", ["accuracy"]) for number in range(100)))
        []
    """
    views = {tag: json.loads(view) for tag, view in tags.items() if tag.startswith(_VIEW_TAG + _VIEW_NAME)}
    return sorted(views, key=lambda tag: int(views[tag][_RECORDED]), reverse=True)[_KEPT_VIEWS:]
