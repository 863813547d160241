"""The MLflow store: made once, opened quietly, shown in a browser."""

import logging
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compression.errors import UserError
from tasks.locks import held

if TYPE_CHECKING:
    from mlflow import MlflowClient

_ENVIRONMENT = {
    # Without these a network that swallows packets costs seconds a run; MLflow reads only the word "true".
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # MLflow prints a line a finished run when a server is the store.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_CHATTY_LOGGERS = (
    "alembic",
    "mlflow.store.db.utils",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.system_metrics.system_metrics_monitor",
)
_ANSWER_SECONDS = 5.0
_DEFAULT_PORT = 5000


def prepare(tracking_uri: str, lock_folder: Path) -> None:
    """Make the store ready: environment, and a database with MLflow's tables when there is none.

    MLflow's first migration, run by two processes at once, leaves a database that never works again; so one process
    migrates, under a lock, into a file aside, which then takes its name. The others wait and find it there.

    Args:
        tracking_uri: `sqlite:////absolute/file.db`, another database, or the address of an MLflow server.
        lock_folder: folder of lock files, on a local disk.

    Raises:
        UserError: the store cannot be used; names the URI and what to do.
    """
    quiet()
    if tracking_uri.startswith(("http://", "https://")):
        _check_server(tracking_uri)
        return
    database = _sqlite_file(tracking_uri)
    if tracking_uri.startswith("file:") or ("://" not in tracking_uri and tracking_uri != "databricks"):
        raise UserError(
            f"MLflow store {tracking_uri!r}: folders of files are no longer taken by MLflow; give a database "
            "such as sqlite:////home/me/mlflow.db, or the http address of an MLflow server"
        )
    with held(lock_folder, f"mlflow {tracking_uri}"):
        if database is not None and not (database.exists() and database.stat().st_size):
            _create(database)
        _open(tracking_uri)


def quiet() -> None:
    """Turn off MLflow's telemetry, its printing and its chatter about migrations, for this process and its children.

    Variables that are already set are left as they are.

    Example:
        >>> quiet()
        >>> os.environ["MLFLOW_DISABLE_TELEMETRY"]
        'true'
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for logger in _CHATTY_LOGGERS:
        logging.getLogger(logger).setLevel(logging.WARNING)


@cache
def client(tracking_uri: str) -> "MlflowClient":
    """The client of a store, one a process. Every call names its run: MLflow's active run belongs to a thread.

    Args:
        tracking_uri: the store.

    Returns:
        The client.
    """
    quiet()
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri)


def default_artifact_location(tracking_uri: str) -> str | None:
    """Where tables, plots and study files go when nothing else was said.

    Args:
        tracking_uri: the store.

    Returns:
        URI of a folder beside an SQLite database; None where the server or the user decides.

    Example:
        >>> default_artifact_location("sqlite:////data/mlflow.db")
        'file:///data/mlflow-artifacts'
        >>> default_artifact_location("http://tracking.example")
    """
    database = _sqlite_file(tracking_uri)
    return None if database is None else (database.parent / "mlflow-artifacts").as_uri()


def ui_command(
    tracking_uri: str, host: str = "127.0.0.1", port: int = _DEFAULT_PORT
) -> tuple[list[str], Mapping[str, str]]:
    """Command that shows a store in a browser. MLflow's defaults would start 14 processes; this starts three.

    Args:
        tracking_uri: the store, a database.
        host: address to listen on.
        port: port to listen on.

    Returns:
        Arguments and the whole environment to start them with.

    Raises:
        UserError: the store is a server already, which has a browser interface of its own.

    Example:
        >>> command, environment = ui_command("sqlite:////data/mlflow.db", port=5001)
        >>> command[command.index("--port") + 1], environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"]
        ('5001', 'false')
    """
    if tracking_uri.startswith(("http://", "https://")):
        raise UserError(f"results are kept by an MLflow server: open {tracking_uri} in a browser")
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", tracking_uri]
    if location := default_artifact_location(tracking_uri):
        # Else MLflow makes folders in the working directory.
        command += ["--default-artifact-root", location, "--artifacts-destination", location]
    command += ["--workers", "1", "--host", host, "--port", str(port)]
    return command, {**_ENVIRONMENT, **os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def ui_address(tracking_uri: str) -> str:
    """Address that links into the browser interface start with.

    Args:
        tracking_uri: the store.

    Returns:
        The server's address, or where `bertpress ui` listens by default.

    Example:
        >>> ui_address("sqlite:////data/mlflow.db"), ui_address("http://tracking.example/")
        ('http://127.0.0.1:5000', 'http://tracking.example')
    """
    if tracking_uri.startswith(("http://", "https://")):
        return tracking_uri.rstrip("/")
    return f"http://127.0.0.1:{_DEFAULT_PORT}"


def _sqlite_file(tracking_uri: str) -> Path | None:
    """File of an SQLite URI, None for every other store."""
    if not tracking_uri.startswith("sqlite"):
        return None
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        name = make_url(tracking_uri).database
    except ArgumentError as error:
        raise UserError(f"MLflow store {tracking_uri!r}: {error}") from error
    if not name or not Path(name).is_absolute():
        where = Path(name or "mlflow.db").resolve()
        raise UserError(
            f"MLflow store {tracking_uri!r}: the path must be absolute, or the store changes with the working "
            f"directory; from here it is sqlite:///{where}"
        )
    return Path(name)


def _create(database: Path) -> None:
    """Migrate a new database aside and rename it, so that a killed attempt leaves nothing behind its name."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    quiet()  # importing MLflow has just set its loggers up
    database.parent.mkdir(parents=True, exist_ok=True)
    aside = database.with_name(f"{database.name}.new")
    for leftover in (aside, Path(f"{aside}-journal")):
        leftover.unlink(missing_ok=True)
    store: Any = SqlAlchemyStore(f"sqlite:///{aside}", default_artifact_location(f"sqlite:///{database}"))
    store.engine.dispose()
    aside.rename(database)


def _open(tracking_uri: str) -> None:
    """Ask the store something, so that what is wrong with it shows before any work is done."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    quiet()
    try:
        client(tracking_uri).search_experiments(max_results=1)
    except (MlflowException, SQLAlchemyError, ImportError) as error:
        raise UserError(f"MLflow store {tracking_uri}: {error}") from error


def _check_server(address: str) -> None:
    """A server that does not answer would cost MLflow's client minutes of retries."""
    try:
        with urllib.request.urlopen(f"{address.rstrip('/')}/health", timeout=_ANSWER_SECONDS):  # noqa: S310
            pass
    except urllib.error.HTTPError:
        return  # it answers; a proxy may well want a login for this path
    except OSError as error:
        raise UserError(
            f"MLflow server {address} does not answer ({error}); start it, or leave the setting out to use a "
            "database in the home folder"
        ) from error
