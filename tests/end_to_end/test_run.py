"""The whole path on a tiny real encoder: run, run again, look at everything that was left."""

import json
import re

import pytest
from world import World

CELLS = 8  # 4 variants x 1 task x 2 seeds


@pytest.fixture(scope="module")
def ran(tmp_path_factory, encoder, prefect_api):
    """A world in which the study has run once."""
    world = World(tmp_path_factory.mktemp("world"), encoder, prefect_api)
    world.first = world.run()
    return world


def metrics(table):
    """Means by row, without latency, which is measured anew by every computation."""
    return {row["variant"]: [score["mean"] for score in row["scores"]] for row in table["rows"]}


def test_the_table_has_every_cell(ran):
    assert [row["variant"] for row in ran.first["rows"]] == ["teacher", "small", "distilled", "int8"]
    assert all(len(score["values"]) == 2 for row in ran.first["rows"] for score in row["scores"])
    by_name = {row["variant"]: row["efficiency"] for row in ran.first["rows"]}
    assert by_name["small"]["parameters"] < by_name["teacher"]["parameters"]
    assert by_name["int8"]["bytes"] < by_name["distilled"]["bytes"]
    assert all(efficiency["latency"]["median"] > 0 for efficiency in by_name.values())


def test_a_second_run_computes_nothing_and_shows_the_same(ran):
    assert {plan["status"] for plan in ran.plan()} == {"reuse"}
    before = len(ran.mlflow_runs("tags.`bertpress.kind` = 'stage'"))
    again = ran.run()
    assert metrics(again) == metrics(ran.first)
    assert all(cell["cached"] for row in again["rows"] for cell in row["cells"])
    assert len(ran.mlflow_runs("tags.`bertpress.kind` = 'stage'")) == before
    latest = ran.mlflow_runs("tags.`bertpress.kind` = 'study'")[0]
    cells = ran.mlflow_runs(f"tags.`mlflow.parentRunId` = '{latest.info.run_id}'")
    assert len(cells) == CELLS
    for cell in cells:
        assert cell.data.metrics["accuracy"] > 0
        assert cell.data.metrics["parameters"] > 0
        assert cell.data.params


def test_mlflow_holds_one_tree_and_nothing_is_left_running(ran):
    runs = ran.mlflow_runs()
    assert {run.info.status for run in runs} == {"FINISHED"}
    parents = {run.info.run_id for run in runs if run.data.tags["bertpress.kind"] == "study"}
    assert all(run.data.tags["mlflow.parentRunId"] in parents for run in runs if run.info.run_id not in parents)
    training = [run for run in runs if run.data.tags.get("stage") == "task_distill"]
    assert training
    assert all("curves/loss" in run.data.metrics for run in training)


def test_prefect_recorded_every_task_run_and_the_artifact(ran, prefect_api):
    import httpx

    flows = httpx.post(f"{prefect_api}/flow_runs/filter", json={"sort": "START_TIME_DESC"}).json()
    flow = next(flow for flow in flows if flow["name"].startswith("tiny"))
    wanted = {"flow_runs": {"id": {"any_": [flow["id"]]}}}
    tasks = httpx.post(f"{prefect_api}/task_runs/filter", json=wanted).json()
    assert len(tasks) == len(ran.plan())
    assert "task_distill distilled · mood · seed 1" in {task["name"] for task in tasks}
    artifacts = httpx.post(f"{prefect_api}/artifacts/filter", json=wanted).json()
    [table] = [artifact for artifact in artifacts if artifact["key"] == "ablation-table"]
    assert "| distilled |" in table["data"]
    assert "graph LR" in table["data"]


def test_plan_and_explain_say_what_changed(ran):
    plans = {plan["label"]: plan for plan in ran.plan("--set", "defaults.task_distill.temperature=7")}
    assert plans["task_distill distilled · mood · seed 0"]["status"] == "run"
    assert "config.temperature 2 -> 7" in plans["task_distill distilled · mood · seed 0"]["reason"]
    assert plans["finetune teacher · mood · seed 0"]["status"] == "reuse"
    assert plans["quantize int8 · mood · seed 0"]["reason"] == "its input `model` has to be computed first"
    text = ran.bertpress("explain", str(ran.study), "distilled", "--set", "defaults.task_distill.temperature=7")
    assert "changed     config.temperature 2 -> 7" in text
    assert re.search(r"environment +torch=2\.\d+", text)


def test_report_writes_every_format_without_running(ran, tmp_path):
    ran.bertpress("report", str(ran.study), "--output", str(tmp_path))
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"table.md", "table.csv", "table.tex", "table.json", "report.html", "plot.svg", "plot.png"}
    page = (tmp_path / "report.html").read_text()
    assert "http://127.0.0.1:5000/#/experiments/" in page
    assert metrics(json.loads((tmp_path / "table.json").read_text())) == metrics(ran.first)


def test_only_tasks_and_seeds_narrow_a_run(ran):
    table = ran.run("--only", "distilled", "--seeds", "1")
    assert [row["variant"] for row in table["rows"]] == ["distilled"]
    assert [cell["seed"] for cell in table["rows"][0]["cells"]] == [1]


def test_list_and_clean(ran):
    [study] = json.loads(ran.bertpress("list", "--json"))
    assert (study["study"], study["status"]) == ("tiny", "finished")
    assert json.loads(ran.bertpress("clean", "--json")) == []
    would_go = json.loads(ran.bertpress("clean", "--keep-runs", "0", "--json"))
    assert {removal["what"] for removal in would_go} == {"run", "record", "artifact"}
    assert {plan["status"] for plan in ran.plan()} == {"reuse"}, "a dry run removes nothing"


def test_wrong_commands_end_with_2_and_a_plain_message(ran):
    message = ran.bertpress("plan", str(ran.study), "--set", "defaults.finetune.epoch=1", expect=2)
    assert "epochs" in message
    assert "Traceback" not in message
    assert "variant" in ran.bertpress("plan", str(ran.study), "--only", "distiled", expect=2)
    assert "nowhere.yaml" in ran.bertpress("run", "nowhere.yaml", expect=2)


def test_planning_imports_no_heavy_library(ran):
    program = f"""
import sys
from pathlib import Path
from flows.project import open_project
from flows.reporting import measured_table
from flows.terminal import explanation_records
from tasks.settings import Settings
project = open_project(Path({str(ran.study)!r}), Settings())
explanation_records(project)
measured_table(project)
heavy = [name for name in ("torch", "transformers", "mlflow", "prefect", "datasets", "sklearn") if name in sys.modules]
assert not heavy, heavy
"""
    import subprocess
    import sys

    environment = {**ran.environment, "PYTHONPATH": str(ran.source)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
