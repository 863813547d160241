import os
import sqlite3
import subprocess
import sys
import time
import urllib.request

import pytest
from tracking_store import all_runs, fresh_store

from compression.errors import UserError
from tasks import mlflow_store
from tasks.tracking import Tracker

# One process imports MLflow and forks four, which then start at the same moment.
_FOUR_PROCESSES = """
import multiprocessing, pathlib, sys
import mlflow.store.tracking.sqlalchemy_store
from tasks import mlflow_store
from tasks.tracking import Tracker

def study(number, barrier):
    barrier.wait()
    mlflow_store.prepare(sys.argv[1], pathlib.Path(sys.argv[2]))
    tracker = Tracker(sys.argv[1], None, "together")
    tracker.start_study(f"process {number}", params={}, tags={})
    tracker.record_cell("teacher", "sst2", 0, params={}, metrics={"accuracy": 0.5})
    tracker.finish_study("FINISHED", "")

forking = multiprocessing.get_context("fork")
barrier = forking.Barrier(4)
processes = [forking.Process(target=study, args=(number, barrier)) for number in range(4)]
for process in processes: process.start()
for process in processes: process.join()
sys.exit(sum(process.exitcode for process in processes))
"""


def test_four_processes_at_once_make_one_database_where_a_fifth_was_killed(tmp_path):
    database = tmp_path / "a folder" / "mlflow.db"
    database.parent.mkdir()
    database.touch()
    database.with_name("mlflow.db.new").write_bytes(b"half a database")
    command = [sys.executable, "-c", _FOUR_PROCESSES, f"sqlite:///{database}", str(tmp_path / "locks")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert sqlite3.connect(database).execute("pragma integrity_check").fetchone() == ("ok",)
    runs = all_runs(f"sqlite:///{database}")
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert sorted(run.info.run_name for run in runs if "bertpress.version" in run.data.tags) == sorted(
        [f"process {number}" for number in range(4)] + ["teacher · sst2 · seed 0"] * 4
    )
    assert len({run.info.experiment_id for run in runs}) == 1
    assert [path.name for path in database.parent.iterdir()] == ["mlflow.db"]


def test_a_prepared_database_keeps_its_runs(tmp_path):
    uri = fresh_store(tmp_path)
    Tracker(uri, None, "kept").start_study("night", params={}, tags={})
    mlflow_store.prepare(uri, tmp_path / "locks")
    assert [run.info.run_name for run in all_runs(uri)] == ["night"]


@pytest.mark.parametrize("uri", ["sqlite:///mlflow.db", "sqlite:///folder/mlflow.db", "sqlite://"])
def test_a_store_that_depends_on_the_working_directory_is_refused(uri, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"must be absolute.*from here it is sqlite:////"):
        mlflow_store.prepare(uri, tmp_path / "locks")


@pytest.mark.parametrize("uri", ["./mlruns", "/data/mlruns", "file:///data/mlruns"])
def test_a_folder_of_files_is_refused(uri, tmp_path):
    with pytest.raises(UserError, match="no longer taken by MLflow; give a database"):
        mlflow_store.prepare(uri, tmp_path / "locks")


def test_a_server_that_does_not_answer_is_named_at_once(tmp_path):
    with pytest.raises(UserError, match=r"http://127\.0\.0\.1:9 does not answer"):
        mlflow_store.prepare("http://127.0.0.1:9", tmp_path / "locks")


def test_a_database_of_another_release_is_refused_with_the_command_that_mends_it(tmp_path):
    uri = fresh_store(tmp_path)
    with sqlite3.connect(tmp_path / "mlflow.db") as connection:
        connection.execute("update alembic_version set version_num = '451aebb31d03'")
    with pytest.raises(UserError, match="mlflow db upgrade"):
        mlflow_store.prepare(uri, tmp_path / "locks")


def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "mlflow.db").write_text("not a database, but a text that is long enough to look like a file of pages")
    with pytest.raises(UserError, match=r"mlflow\.db.*not a database"):
        mlflow_store.prepare(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "locks")


def test_telemetry_is_off_unless_asked_for(monkeypatch):
    monkeypatch.delenv("DO_NOT_TRACK", raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    mlflow_store.quiet()
    assert os.environ["DO_NOT_TRACK"] == "true"
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "false"


def test_a_server_has_its_own_pages():
    with pytest.raises(UserError, match=r"open https://tracking\.example in a browser"):
        mlflow_store.ui_command("https://tracking.example")


@pytest.mark.slow
def test_the_ui_command_serves_a_store_and_leaves_no_files(tmp_path, monkeypatch):
    uri = fresh_store(tmp_path / "home")
    tracker = Tracker(uri, None, "shown")
    run = tracker.start_study("night", params={}, tags={}, resolved={"name": "shown"})
    tracker.finish_study("FINISHED", "")
    monkeypatch.chdir(tmp_path)
    command, environment = mlflow_store.ui_command(uri, port=5917)
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, start_new_session=True) as server:
        try:
            _wait_for("http://127.0.0.1:5917/health")
            mlflow_store.prepare("http://127.0.0.1:5917", tmp_path / "locks")
            query = f"path=study/resolved.json&run_uuid={run}"
            shown = _get(f"http://127.0.0.1:5917/get-artifact?{query}")
            assert b'"shown"' in shown
            through_server = Tracker("http://127.0.0.1:5917", None, "remote")
            through_server.start_study("evening", params={}, tags={})
            through_server.record_cell("teacher", "sst2", 0, params={}, metrics={"accuracy": 0.5})
            through_server.finish_study("FINISHED", "")
        finally:
            server.terminate()
    assert {run.info.status for run in all_runs(uri)} == {"FINISHED"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home"]


def _get(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=5) as answer:
        return answer.read()


def _wait_for(address: str) -> None:
    for _ in range(240):
        try:
            _get(address)
        except OSError:
            time.sleep(0.25)
        else:
            return
    raise TimeoutError(address)
