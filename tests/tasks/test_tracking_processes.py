import os
import signal
import subprocess
import sys

import psutil
import pytest
from mlflow import MlflowClient
from tracking_store import all_runs, fresh_store

from tasks.tracking import Tracker, close_dead_runs
from tasks.tracking_processes import owner_tags

_TRAINING = """
import sys, time
from tasks.tracking import Tracker
tracker = Tracker(sys.argv[1], None, "study")
tracker.start_study("killed", params={}, tags={})
done = tracker.stage_run("finetune", "finetune-1", name="done")
done.finish({}, digest="d", uri="file:///d")
run = tracker.stage_run("finetune", "finetune-2", name="training")
for step in range(200):
    run.log(step, {"loss": 0.5})
print("training", flush=True)
time.sleep(600)
"""


@pytest.fixture
def uri(tmp_path):
    return fresh_store(tmp_path)


def _open_run(uri, tags, name="other"):
    return MlflowClient(uri).create_run("0", run_name=name, tags=tags).info.run_id


def _status(uri, run_id):
    return MlflowClient(uri).get_run(run_id).info.status


def test_runs_of_a_killed_process_are_closed_and_those_of_a_living_one_are_not(uri):
    tracker = Tracker(uri, None, "study")
    living = tracker.start_study("living", params={}, tags={})
    command = [sys.executable, "-c", _TRAINING, uri]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "training\n"
        assert close_dead_runs(uri) == 0
        os.kill(process.pid, signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet reaped by its parent
        assert psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE
        assert close_dead_runs(uri) == 2
    runs = {run.info.run_name: run for run in all_runs(uri)}
    assert {name: run.info.status for name, run in runs.items()} == {
        "living": "RUNNING",
        "killed": "KILLED",
        "done": "FINISHED",
        "training": "KILLED",
    }
    points = MlflowClient(uri).get_metric_history(runs["training"].info.run_id, "curves/loss")
    assert len(points) == 200
    assert runs["training"].info.end_time == max(point.timestamp for point in points)
    assert runs["killed"].info.end_time >= runs["killed"].info.start_time
    assert close_dead_runs(uri) == 0
    assert _status(uri, living) == "RUNNING"


def _gone():
    """Tags of a process of this host that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    _, started, namespace = owner_tags()["bertpress.process"].split()
    return {**owner_tags(), "bertpress.process": f"{process.pid} {started} {namespace}"}


def test_runs_of_other_hosts_and_of_others_programs_are_left_alone(uri):
    number, started, _ = _gone()["bertpress.process"].split()
    kept = [
        _open_run(uri, {**_gone(), "bertpress.host": "elsewhere"}),
        _open_run(uri, {**_gone(), "bertpress.process": f"{number} {started} pid:[1]"}),
        _open_run(uri, {**_gone(), "bertpress.process": "no number"}),
        _open_run(uri, {}),
    ]
    closed = _open_run(uri, _gone())
    assert close_dead_runs(uri) == 1
    assert _status(uri, closed) == "KILLED"
    assert [_status(uri, run_id) for run_id in kept] == ["RUNNING"] * 4


def test_a_process_number_used_again_is_not_the_process(uri):
    number, started, namespace = owner_tags()["bertpress.process"].split()
    earlier = f"{number} {float(started) - 3600:.2f} {namespace}"
    slightly_off = f"{number} {float(started) - 1:.2f} {namespace}"  # the clock was set
    closed = _open_run(uri, {**owner_tags(), "bertpress.process": earlier})
    kept = _open_run(uri, {**owner_tags(), "bertpress.process": slightly_off})
    assert close_dead_runs(uri) == 1
    assert (_status(uri, closed), _status(uri, kept)) == ("KILLED", "RUNNING")


def test_a_run_that_its_process_closed_meanwhile_keeps_its_status(uri, monkeypatch):
    run_id = _open_run(uri, _gone())
    searched = MlflowClient.search_runs

    def search_and_then_finish(client, *given, **named):
        page = searched(client, *given, **named)
        client.set_terminated(run_id, "FINISHED")
        return page

    monkeypatch.setattr(MlflowClient, "search_runs", search_and_then_finish)
    assert close_dead_runs(uri) == 0
    assert _status(uri, run_id) == "FINISHED"


def test_more_dead_runs_than_one_page_holds(uri, monkeypatch):
    monkeypatch.setattr("tasks.tracking_processes._PAGE", 3)
    gone = _gone()
    for number in range(8):
        _open_run(uri, gone, str(number))
    assert close_dead_runs(uri) == 8
    assert {run.info.status for run in all_runs(uri)} == {"KILLED"}
