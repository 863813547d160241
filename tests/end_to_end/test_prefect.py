"""What Prefect must do for us, on real servers: record bursts, run schedules, let forked children live."""

import signal
import sqlite3
import subprocess
import sys
import time

import httpx
import psutil
import pytest
from world import ROOT, World

from benchmarks.orchestration import write_study

STAGES = 200


def server_of(process):
    """The embedded server of a run that has just started."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        for child in psutil.Process(process.pid).children():
            if "flows.embedded_server" in child.cmdline():
                return child
        time.sleep(0.05)
    raise AssertionError(process.communicate())


@pytest.fixture(scope="module")
def burst(tmp_path_factory, encoder):
    """A home in which 200 trivial stages were run and then reused, with the embedded server."""
    world = World(tmp_path_factory.mktemp("burst"), encoder, api="")
    study = write_study(world.folder / "trivial", STAGES)
    command = [sys.executable, "-m", "benchmarks.orchestration", "--child", "run", str(study), str(world.home)]
    # An address that nobody answers at: the embedded server is used.
    environment = {**world.environment, "PREFECT_API_URL": "http://127.0.0.1:1/api", "PYTHONPATH": str(ROOT)}
    world.start_trivial = lambda: subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for _ in range(2):
        process = world.start_trivial()
        world.server = server_of(process)
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
    return world


def test_every_task_run_of_a_burst_is_recorded(burst):
    with sqlite3.connect(burst.home / "prefect" / "prefect.db") as database:
        runs = database.execute(
            "select flow_run.start_time, task_run.state_name, count(*) from task_run "
            "join flow_run on flow_run.id = task_run.flow_run_id group by 1, 2 order by 1"
        ).fetchall()
    assert [(state, count) for _, state, count in runs] == [("Completed", STAGES), ("Cached", STAGES)]


def test_the_embedded_server_ends_with_the_run(burst):
    assert not burst.server.is_running()


def test_the_embedded_server_ends_with_a_killed_run(burst):
    process = burst.start_trivial()
    server = server_of(process)
    process.kill()
    process.communicate()
    psutil.wait_procs([server], timeout=30)
    assert not server.is_running()


def test_a_killed_run_leaves_nothing_running_in_prefect(world, prefect_api):
    process = world.start("run", str(world.study), "--only", "small", "--seeds", "0")
    world.wait_for(lambda: next(world.home.glob("work/finetune-*/*.safetensors"), None))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    running = {"flow_runs": {"state": {"type": {"any_": ["RUNNING"]}}, "tags": {"all_": ["bertpress"]}}}
    assert httpx.post(f"{prefect_api}/flow_runs/count", json=running).json() == 1
    world.run("--only", "small", "--seeds", "0")
    assert httpx.post(f"{prefect_api}/flow_runs/count", json=running).json() == 0


def test_data_loader_workers_work_inside_a_task(world, tmp_path, encoder, prefect_api):
    alone = World(tmp_path / "alone", encoder, prefect_api)
    arguments = ("--only", "small", "--seeds", "0")
    with_workers = world.run(*arguments, BERTPRESS_DATALOADER_WORKERS="2")
    assert [row["scores"][0]["mean"] for row in with_workers["rows"]] == [
        row["scores"][0]["mean"] for row in alone.run(*arguments)["rows"]
    ]


DEPLOY = """
from prefect import flow

@flow
def nightly():
    pass

if __name__ == "__main__":
    nightly.serve(name="nightly", cron="0 2 * * *")
"""


def test_a_cron_deployment_gets_scheduled_runs(tmp_path, prefect_api):
    """Guards the pins of fastapi and sqlalchemy: with others the server does not start, or never schedules."""
    (tmp_path / "deploy.py").write_text(DEPLOY)
    environment = {"PREFECT_API_URL": prefect_api, "PREFECT_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    server = subprocess.Popen(
        [sys.executable, str(tmp_path / "deploy.py")],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    wanted = {"deployments": {"name": {"any_": ["nightly"]}}, "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
    try:
        deadline = time.monotonic() + 180
        scheduled = 0
        while not scheduled and time.monotonic() < deadline and server.poll() is None:
            time.sleep(1)
            scheduled = httpx.post(f"{prefect_api}/flow_runs/count", json=wanted).json()
    finally:
        server.kill()
        errors = server.communicate()[1].decode()
    assert scheduled > 0, errors
