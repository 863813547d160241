import json
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient
from tracking_store import all_runs, fresh_store, history

from tasks.tracking import CellStage, DatasetUse, Tracker
from tasks.tracking_links import old_views, view_tag

_TRAIN = CellStage("finetune", "finetune-aaaa", "1" * 64, cached=False)
_EVALUATE = CellStage("evaluate", "evaluate-bbbb", "2" * 64, cached=False)
_METRICS = {"accuracy": 0.875, "macro_f1": 0.8, "parameters": 14_000_000.0}


@pytest.fixture
def uri(tmp_path):
    return fresh_store(tmp_path)


def _run_stages(tracker, *stages):
    for stage in stages:
        with tracker.stage_run(
            stage.kind, stage.key, name=f"int8 · sst2 · seed 0 · {stage.kind}", checkpoint=stage.kind != "evaluate"
        ) as run:
            run.finish({}, digest=stage.digest, uri=f"file:///store/{stage.digest}")


def _record(tracker, *stages, **changes):
    settings = {"params": {"finetune": {"epochs": 3}}, "metrics": _METRICS, "stages": stages, **changes}
    return tracker.record_cell("int8", "sst2", 0, **settings)


def _as_reused(stage):
    return CellStage(stage.kind, stage.key, stage.digest, cached=True)


def test_one_experiment_a_study_one_parent_an_execution(uri, tmp_path):
    study_file = tmp_path / "objectives.yaml"
    study_file.write_text("name: objectives\n")
    parents = []
    for night in ("monday", "tuesday"):
        tracker = Tracker(uri, None, "objectives", "Which objective matters?")
        params = {"tasks": ["sst2"], "teacher": {"model": "bert"}}
        parents.append(
            tracker.start_study(
                night, params=params, tags={"prefect.flow_run": "f1"}, study_file=study_file, resolved={"seeds": [0]}
            )
        )
        _run_stages(tracker, _TRAIN)
        _record(tracker, _TRAIN)
        tracker.finish_study("FINISHED", "| variant |")
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("objectives")
    assert experiment.tags["mlflow.note.content"] == "Which objective matters?"
    assert experiment.artifact_location == (tmp_path / "mlflow-artifacts").as_uri()
    runs = all_runs(uri)
    assert {run.info.experiment_id for run in runs} == {experiment.experiment_id}
    # Nothing but what was asked for, and nothing left open.
    assert sorted(run.data.tags["bertpress.kind"] for run in runs) == [
        "cell",
        "cell",
        "stage",
        "stage",
        "study",
        "study",
    ]
    assert {run.info.status for run in runs} == {"FINISHED"}
    children = [run for run in runs if run.data.tags["bertpress.kind"] != "study"]
    assert sorted(run.data.tags["mlflow.parentRunId"] for run in children) == sorted(parents * 2)
    assert {run.data.tags["prefect.flow_run"] for run in runs} == {"f1"}
    parent = client.get_run(parents[0])
    assert parent.data.params == {"tasks": '["sst2"]', "teacher.model": "bert"}
    assert parent.data.tags["mlflow.source.name"] == f"bertpress run {study_file}"
    assert parent.data.tags["mlflow.note.content"] == "| variant |"
    assert [found.path for found in client.list_artifacts(parents[0], "study")] == [
        "study/objectives.yaml",
        "study/resolved.json",
    ]


def test_a_cell_holds_the_chain_the_metrics_and_what_it_was_measured_on(uri):
    tracker = Tracker(uri, None, "cells")
    tracker.start_study("night", params={}, tags={})
    _run_stages(tracker, _TRAIN, _EVALUATE)
    data = DatasetUse("sst2", "abc" * 20, "glue/sst2", "evaluation")
    chain = {"finetune": {"epochs": 3, "student": {"preset": "tiny"}}, "evaluate": {"note": "x" * 7000}}
    run_id = _record(tracker, _TRAIN, _EVALUATE, params=chain, dataset=data, tags={"published": "tinybert.t3"})
    cell = MlflowClient(uri).get_run(run_id)
    assert cell.info.run_name == "int8 · sst2 · seed 0"
    assert cell.data.metrics == _METRICS
    assert cell.data.params["finetune.student.preset"] == "tiny"
    assert len(cell.data.params["evaluate.note"]) <= 6000
    assert "7000 characters, sha256" in cell.data.params["evaluate.note"]
    wanted = {"variant": "int8", "task": "sst2", "seed": "0", "cached": "no", "published": "tinybert.t3"}
    wanted |= {"stage.1.finetune": _TRAIN.key, "artifact.2.evaluate": _EVALUATE.digest}
    assert wanted.items() <= cell.data.tags.items()
    (dataset,) = cell.inputs.dataset_inputs
    assert dataset.dataset.name == "sst2"
    assert {tag.key: tag.value for tag in dataset.tags} == {
        "mlflow.data.context": "evaluation",
        "bertpress.digest": "abc" * 20,
    }
    (model,) = MlflowClient(uri).search_logged_models([cell.info.experiment_id])
    assert [found.model_id for found in cell.inputs.model_inputs] == [model.model_id]
    assert {metric.key: metric.value for metric in model.metrics} == _METRICS
    assert f"/runs/{tracker.find_stage_run(_TRAIN.key)}" in cell.data.tags["mlflow.note.content"]


def test_a_fully_cached_execution_shows_complete_cells(uri):
    first = Tracker(uri, None, "nightly")
    first.start_study("first", params={}, tags={})
    _run_stages(first, _TRAIN, _EVALUATE)
    fresh = _record(first, _TRAIN, _EVALUATE)
    first.finish_study("FINISHED", "")
    # Another study that shares the stages, in another process: it knows no run ids.
    second = Tracker(uri, None, "another study")
    second.start_study("second", params={}, tags={})
    reused = _record(second, _as_reused(_TRAIN), _as_reused(_EVALUATE))
    second.finish_study("FINISHED", "")
    client = MlflowClient(uri)
    before, after = client.get_run(fresh), client.get_run(reused)
    assert after.data.metrics == before.data.metrics
    assert after.data.params == before.data.params
    assert after.data.tags["cached"] == "yes"
    assert after.inputs.model_inputs[0].model_id == before.inputs.model_inputs[0].model_id
    link = f"#/experiments/{before.info.experiment_id}/runs/{first.find_stage_run(_EVALUATE.key)}"
    assert link in before.data.tags["mlflow.note.content"]
    assert link in after.data.tags["mlflow.note.content"]
    # The checkpoint was measured once, however often the study runs.
    (model,) = client.search_logged_models([before.info.experiment_id])
    assert len(model.metrics) == len(_METRICS)
    assert {run.info.status for run in all_runs(uri)} == {"FINISHED"}


def test_stage_runs_that_did_not_finish_are_not_linked(uri):
    tracker = Tracker(uri, None, "study")
    tracker.start_study("night", params={}, tags={})
    assert tracker.find_stage_run("finetune-aaaa") is None
    with pytest.raises(ValueError, match="diverged"), tracker.stage_run("finetune", "finetune-aaaa", name="x"):
        raise ValueError("diverged")
    assert tracker.find_stage_run("finetune-aaaa") is None
    _run_stages(tracker, _TRAIN)
    assert MlflowClient(uri).get_run(tracker.find_stage_run("finetune-aaaa")).info.status == "FINISHED"


def test_a_cell_recorded_twice_is_one_run(uri):
    tracker = Tracker(uri, None, "study")
    parent = tracker.start_study("night", params={}, tags={})
    first = _record(tracker)
    assert _record(tracker) == first
    retried_elsewhere = Tracker(uri, None, "study", study_run=parent)
    assert _record(retried_elsewhere) == first
    assert history(uri, first, "accuracy") == [(0, 0.875)]
    assert len(all_runs(uri)) == 2
    # Other cells of the same parent are other runs.
    assert tracker.record_cell("int8", "sst2", 1, params={}, metrics={}) != first


def test_a_cell_whose_writer_died_half_way_is_recorded_again(uri, monkeypatch):
    tracker = Tracker(uri, None, "study")
    parent = tracker.start_study("night", params={}, tags={})
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_inputs", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            _record(tracker)
    retried = Tracker(uri, None, "study", study_run=parent)
    run_id = _record(retried, metrics={"accuracy": 0.5})
    assert history(uri, run_id, "accuracy") == [(0, 0.5)]
    active = [run for run in all_runs(uri) if run.info.lifecycle_stage == "active"]
    assert sorted(run.data.tags["bertpress.kind"] for run in active) == ["cell", "study"]


def test_a_tracker_goes_on_in_another_process(uri):
    tracker = Tracker(uri, None, "study")
    parent = tracker.start_study("night", params={}, tags={"prefect.flow_run": "f1"})
    for other in (deepcopy(tracker), Tracker(uri, None, "study", study_run=parent)):
        with other.stage_run("evaluate", "evaluate-1", name="x") as run:
            run.finish({}, digest="1", uri="file:///1")
        tags = MlflowClient(uri).get_run(run.run_id).data.tags
        assert (tags["mlflow.parentRunId"], tags["prefect.flow_run"]) == (parent, "f1")


def test_threads_open_no_stray_runs(uri):
    tracker = Tracker(uri, None, "study")
    tracker.start_study("night", params={}, tags={})

    def stage(number):
        with tracker.stage_run("finetune", f"finetune-{number}", name=str(number)) as run:
            run.log(0, {"loss": float(number)})
            run.finish({}, digest=str(number), uri="file:///x")
        return run.run_id

    with ThreadPoolExecutor(4) as threads:
        run_ids = list(threads.map(stage, range(8)))
    tracker.finish_study("FINISHED", "")
    assert mlflow.active_run() is None
    assert len(all_runs(uri)) == 9
    assert [history(uri, run_id, "curves/loss") for run_id in run_ids] == [[(0, float(n))] for n in range(8)]


def test_what_is_not_finite_is_named_and_not_stored(uri):
    tracker = Tracker(uri, None, "study")
    tracker.start_study("night", params={}, tags={})
    run_id = _record(tracker, metrics={"accuracy": 0.5, "perplexity": float("inf"), "f1": float("nan")})
    run = MlflowClient(uri).get_run(run_id)
    assert run.data.metrics == {"accuracy": 0.5}
    assert run.data.tags["not_finite"] == "perplexity, f1"


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
def test_closing_the_study_closes_what_it_left_open(uri, status):
    tracker = Tracker(uri, None, "study")
    parent = tracker.start_study("night", params={}, tags={})
    child = tracker.stage_run("finetune", "finetune-1", name="x").run_id
    neighbour = Tracker(uri, None, "study")
    running = neighbour.start_study("at the same time", params={}, tags={})
    tracker.finish_study(status, "")
    statuses = {run.info.run_id: run.info.status for run in all_runs(uri)}
    assert statuses == {parent: status, child: "KILLED" if status == "FINISHED" else status, running: "RUNNING"}


def test_reports_are_artifacts_of_the_parent(uri, tmp_path):
    for name in ("table.md", "plot.png"):
        (tmp_path / name).write_text(name)
    tracker = Tracker(uri, str(tmp_path / "art and plots"), "study")
    parent = tracker.start_study("night", params={}, tags={})
    long_note = "\n".join(f"| variant {number} | 0.5 |" for number in range(1000))
    files = [tmp_path / "table.md", tmp_path / "plot.png"]
    table = pd.DataFrame({"variant": ["int8"], "accuracy": [0.5]})
    for _ in range(2):
        tracker.finish_study("FINISHED", long_note, files, table, {"stages_run": 3})
    client = MlflowClient(uri)
    run = client.get_run(parent)
    assert [found.path for found in client.list_artifacts(parent, "report")] == ["report/plot.png", "report/table.md"]
    stored = json.loads((tmp_path / "art and plots" / parent / "artifacts" / "table.json").read_text())
    assert stored == {"columns": ["variant", "accuracy"], "data": [["int8", 0.5]]}
    assert run.data.metrics == {"stages_run": 3}
    note = run.data.tags["mlflow.note.content"].splitlines()
    assert note[-1] == "*Cut here: the whole of it is among the artifacts.*"
    assert note[-3].endswith("| 0.5 |")


def test_a_study_that_cannot_be_filled_is_not_left_running(uri, tmp_path):
    tracker = Tracker(uri, None, "study")
    with pytest.raises(TypeError):
        tracker.start_study("night", params={}, tags={}, resolved={(1, 2): "no JSON key"})
    assert [run.info.status for run in all_runs(uri)] == ["FAILED"]
    with pytest.raises(RuntimeError, match="start_study"):
        Tracker(uri, None, "other").record_cell("v", "t", 0, params={}, metrics={})


def test_the_commit_of_the_study_file(uri, tmp_path):
    study_file = tmp_path / "studies" / "study.yaml"
    study_file.parent.mkdir()
    study_file.write_text("name: study\n")
    git = ["git", "-C", str(study_file.parent), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "study.yaml"], ["commit", "-qm", "study"]):
        subprocess.run([*git, *command], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    for dirty in ("False", "True"):
        run_id = Tracker(uri, None, "study").start_study("x", params={}, tags={}, study_file=study_file)
        tags = MlflowClient(uri).get_run(run_id).data.tags
        assert (tags["mlflow.source.git.commit"], tags["mlflow.source.git.dirty"]) == (commit, dirty)
        study_file.write_text("name: study2\n")


def test_a_deleted_experiment_does_not_block_its_study(uri):
    first = Tracker(uri, None, "study")
    first.start_study("first", params={}, tags={})
    MlflowClient(uri).delete_experiment(first.experiment_id)
    second = Tracker(uri, None, "study", "New words.")
    second.start_study("second", params={}, tags={})
    experiment = MlflowClient(uri).get_experiment(second.experiment_id)
    assert (experiment.lifecycle_stage, experiment.tags["mlflow.note.content"]) == ("active", "New words.")


def test_the_link_opens_the_cells_with_their_metrics(uri):
    tracker = Tracker(uri, None, "study")
    parent = tracker.start_study("night", params={}, tags={})
    at_the_start = tracker.link()
    cell = _record(tracker)
    assert tracker.link() == at_the_start == Tracker(uri, None, "study", study_run=parent).link()
    address = urlparse(at_the_start)
    page, query = address.fragment.split("?")
    assert (address.netloc, page) == ("127.0.0.1:5000", f"/experiments/{tracker.experiment_id}/runs")
    key = parse_qs(query)["viewStateShareKey"][0]
    experiment = MlflowClient(uri).get_experiment(tracker.experiment_id)
    view = json.loads(experiment.tags[f"mlflow.sharedViewState.{key}"])
    assert view["orderByKey"] == "metrics.`accuracy`"
    assert {"tags.`variant`", "metrics.`macro_f1`"} <= set(view["selectedColumns"])
    found = MlflowClient(uri).search_runs([tracker.experiment_id], view["searchFilter"])
    assert [run.info.run_id for run in found] == [cell]
    assert tracker.link(cell).endswith(f"/#/experiments/{tracker.experiment_id}/runs/{cell}")
    assert parent in view["searchFilter"]


def test_only_the_last_hundred_views_are_kept():
    views = {}
    for number in range(130):
        tag, text = view_tag(f"run{number}", ["accuracy"])
        views[tag] = json.dumps({**json.loads(text), "recorded": number})
    old = old_views({**views, "mlflow.sharedViewState.made-by-a-person": "{}", "mlflow.note.content": "x"})
    assert sorted(old) == sorted(tag for tag in views if json.loads(views[tag])["recorded"] < 30)


def test_the_searches_that_the_documentation_gives(uri):
    tracker = Tracker(uri, None, "study")
    tracker.start_study("night", params={}, tags={})
    _record(tracker, _TRAIN, metrics={"accuracy": 0.95, "parameters": 14_000_000.0})
    page = Path(__file__).parents[2] / "docs" / "how-to" / "browse_results.md"
    table = page.read_text().split("## Search")[1].split("## ")[0]
    searches = re.findall(r"\| ``?((?:tags|metrics)\..+?)``?(?: \(| \|)", table)
    assert len(searches) == 5
    found = [len(MlflowClient(uri).search_runs([tracker.experiment_id], search)) for search in searches]
    assert found[:2] == [1, 1]
