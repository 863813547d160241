import json
import threading
import time

import pytest
from mlflow import MlflowClient
from tracking_store import all_runs, fresh_store, history

from compression.errors import Interrupted
from tasks import tracking_stage_run
from tasks.tracking import DatasetUse, Tracker


@pytest.fixture
def uri(tmp_path):
    return fresh_store(tmp_path)


@pytest.fixture
def tracker(uri):
    tracker = Tracker(uri, None, "study")
    tracker.start_study("night", params={}, tags={})
    return tracker


def _stage_run(tracker, **settings):
    return tracker.stage_run("finetune", "finetune-1", name="teacher · sst2 · seed 0 · finetune", **settings)


def test_a_finished_stage_shows_its_curves_data_and_checkpoint(uri, tracker):
    data = DatasetUse("sst2", "0123456789abcdef" * 4, "glue/sst2")
    with _stage_run(tracker, params={"epochs": 3}, dataset=data, checkpoint=True) as run:
        for step in range(3):
            run.log(step, {"loss": 1.0 / (step + 1), "epoch": 0.5})
        meta = {"parameters": 11, "training": {"seconds": 2.5}, "epochs": "three", "environment": {"cpu": "Xeon"}}
        run.finish(meta, digest="d" * 64, uri="file:///store/d")
    stored = MlflowClient(uri).get_run(run.run_id)
    assert stored.info.status == "FINISHED"
    assert history(uri, run.run_id, "curves/loss") == [(0, 1.0), (1, 0.5), (2, 1 / 3)]
    assert stored.data.metrics == {"curves/loss": 1 / 3, "parameters": 11.0, "training/seconds": 2.5}
    assert stored.data.params == {"epochs": "3", "summary/epochs": "three", "summary/environment/cpu": "Xeon"}
    assert stored.data.tags["bertpress.digest"] == "d" * 64
    (dataset,) = stored.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("sst2", "0123456789ab")
    assert "0123456789abcdef" * 4 in [tag.value for tag in dataset.tags]
    (model,) = MlflowClient(uri).search_logged_models([stored.info.experiment_id])
    assert model.name == "teacher-sst2-seed-0-finetune-dddddddd"
    assert (model.source_run_id, str(model.status)) == (run.run_id, "READY")
    assert model.params["uri"] == "file:///store/d"
    assert stored.outputs.model_outputs[0].model_id == model.model_id == stored.data.tags["bertpress.model_id"]


def test_a_resumed_stage_has_every_point_once(uri, tracker, tmp_path):
    file = tmp_path / "history.jsonl"
    losses = {step: 1.0 / (step + 1) for step in range(0, 100, 10)}
    lines = [json.dumps({"step": step, "epoch": step / 50, "loss": loss}) for step, loss in losses.items()]
    lines.insert(6, json.dumps({"step": 50, "selection_score": 0.75}))
    file.write_text("\n".join(lines[:8]))
    with _stage_run(tracker) as run:
        # The attempt was killed at step 60 and goes on from its checkpoint at 40.
        run.log_history(file)
        for step in range(40, 100, 10):
            run.log(step, {"loss": losses[step]})
        file.write_text("\n".join(lines) + '\n{"step": 100, "lo')
        run.log_history(file)
        run.log_history(tmp_path / "absent.jsonl")
        run.finish({}, digest="d", uri="file:///d")
    assert history(uri, run.run_id, "curves/loss") == sorted(losses.items())
    assert history(uri, run.run_id, "curves/selection_score") == [(50, 0.75)]
    assert "curves/epoch" not in MlflowClient(uri).get_run(run.run_id).data.metrics


def test_points_are_written_in_batches(uri, tracker, monkeypatch):
    requests = []
    original = MlflowClient.log_batch
    monkeypatch.setattr(
        MlflowClient, "log_batch", lambda *given, **named: requests.append(1) or original(*given, **named)
    )
    clock = [1000.0]
    monkeypatch.setattr(tracking_stage_run.time, "monotonic", lambda: clock[0])
    with _stage_run(tracker, system_metrics=False) as run:
        for step in range(199):
            run.log(step, {"loss": 0.5})
        assert requests == []
        run.log(199, {"loss": 0.5})
        assert len(requests) == 1
        assert len(history(uri, run.run_id, "curves/loss")) == 200
        run.log(200, {"loss": 0.5})
        clock[0] += 2.5
        run.log(201, {"loss": 0.5})
        assert len(requests) == 2
        run.finish({}, digest="d", uri="file:///d")
    assert len(history(uri, run.run_id, "curves/loss")) == 202


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("a mapping that does not divide"), "FAILED"),
        (Interrupted("stop"), "KILLED"),
        (KeyboardInterrupt(), "KILLED"),
    ],
)
def test_a_stage_that_ends_early_is_closed_with_what_it_measured(uri, tracker, error, status):
    run = _stage_run(tracker)
    run.log(7, {"loss": 0.5})
    with pytest.raises(type(error)), run:
        raise error
    stored = MlflowClient(uri).get_run(run.run_id)
    assert stored.info.status == status
    assert history(uri, run.run_id, "curves/loss") == [(7, 0.5)]
    artifacts = [found.path for found in MlflowClient(uri).list_artifacts(run.run_id)]
    assert artifacts == (["error.txt"] if status == "FAILED" else [])
    if status == "FAILED":
        assert stored.data.tags["error"] == "ValueError: a mapping that does not divide"
        assert "a mapping that does not divide" in stored.data.tags["mlflow.note.content"]


def test_a_stage_that_reads_no_rows_has_no_data_set(uri, tracker):
    with _stage_run(tracker, dataset=DatasetUse("sst2", "")) as run:
        run.finish({}, digest="d", uri="file:///d")
    assert MlflowClient(uri).get_run(run.run_id).inputs.dataset_inputs == []


def test_a_stage_left_without_a_product_is_killed(uri, tracker):
    with _stage_run(tracker) as run:
        pass
    assert MlflowClient(uri).get_run(run.run_id).info.status == "KILLED"


def test_only_the_first_closing_counts(uri, tracker):
    run = _stage_run(tracker)
    run.finish({}, digest="d", uri="file:///d")
    run.fail(ValueError("too late"))
    run.kill()
    assert MlflowClient(uri).get_run(run.run_id).info.status == "FINISHED"


def test_what_is_not_finite_is_named_and_not_stored(uri, tracker):
    with _stage_run(tracker) as run:
        run.log(0, {"loss": 0.5})
        run.log(1, {"loss": float("nan")})
        run.log(2, {"loss": float("inf")})
        run.finish({"final": {"perplexity": float("inf")}}, digest="d", uri="file:///d")
    stored = MlflowClient(uri).get_run(run.run_id)
    assert history(uri, run.run_id, "curves/loss") == [(0, 0.5)]
    assert stored.data.tags["not_finite"] == "loss (step 1), final/perplexity (summary)"
    assert "final/perplexity" not in stored.data.metrics


def test_a_store_that_is_away_costs_a_warning_and_no_point(uri, tracker, monkeypatch, caplog):
    run = _stage_run(tracker)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", lambda *_, **__: (_ for _ in ()).throw(OSError("no such host")))
        for step in range(500):
            run.log(step, {"loss": 0.5})
    assert [record.message for record in caplog.records] == [
        f"MLflow run {run.run_id}: not all could be logged (no such host)"
    ]
    run.finish({"parameters": 11}, digest="d", uri="file:///d")
    assert len(history(uri, run.run_id, "curves/loss")) == 500
    assert MlflowClient(uri).get_run(run.run_id).data.metrics["parameters"] == 11


def test_a_long_stage_records_the_load_of_the_machine(uri, tracker, monkeypatch):
    monkeypatch.setattr(tracking_stage_run, "_SYSTEM_METRICS_AFTER_SECONDS", 0.05)
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    with _stage_run(tracker) as run:
        _wait_until(lambda: "system/cpu_utilization_percentage" in MlflowClient(uri).get_run(run.run_id).data.metrics)
        run.finish({}, digest="d", uri="file:///d")
    assert not [thread for thread in threading.enumerate() if thread.name == "SystemMetricsMonitor"]
    assert len(all_runs(uri)) == 2
    assert MlflowClient(uri).get_run(run.run_id).info.status == "FINISHED"


def test_a_short_stage_starts_no_monitor(uri, tracker):
    before = threading.active_count()
    with _stage_run(tracker) as run:
        run.finish({}, digest="d", uri="file:///d")
    _wait_until(lambda: threading.active_count() <= before)
    assert MlflowClient(uri).get_run(run.run_id).data.metrics == {}


def _wait_until(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)
