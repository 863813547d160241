"""A migrated MLflow database, made once and copied for each test: migrating takes seconds, a copy milliseconds."""

import shutil
import tempfile
from functools import cache
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import ViewType

from tasks import mlflow_store


@cache
def _template() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="bertpress-mlflow-"))
    mlflow_store.prepare(f"sqlite:///{folder / 'template.db'}", folder / "locks")
    return folder / "template.db"


def fresh_store(folder: Path) -> str:
    """URI of an empty store in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(_template(), folder / "mlflow.db")
    return f"sqlite:///{folder / 'mlflow.db'}"


def all_runs(uri: str) -> list:
    """Every run of every experiment, deleted ones too."""
    client = MlflowClient(uri)
    experiments = [found.experiment_id for found in client.search_experiments(view_type=ViewType.ALL)]
    return list(client.search_runs(experiments, run_view_type=ViewType.ALL, max_results=1000))


def history(uri: str, run_id: str, metric: str) -> list[tuple[int, float]]:
    """Points of a metric, as (step, value), in the order of steps."""
    return sorted((point.step, point.value) for point in MlflowClient(uri).get_metric_history(run_id, metric))
