"""Kills, damage, two runs at once, changed code: the table stays that of an undisturbed run."""

import json
import shutil
import signal
from pathlib import Path

import pytest
from test_run import metrics
from world import ROOT, World


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, encoder, prefect_api):
    world = World(tmp_path_factory.mktemp("undisturbed"), encoder, prefect_api, name="undisturbed")
    world.table = world.run()
    return world


@pytest.fixture
def copy_of(undisturbed, tmp_path, encoder, prefect_api):
    """A world that starts from the undisturbed one's home."""
    world = World(tmp_path, encoder, prefect_api, name="undisturbed")
    shutil.copytree(undisturbed.home, world.home)
    return world


def digests(world):
    return {
        record.name: json.loads(json.loads(record.read_text())["result"])["digest"]
        for record in (world.home / "records").iterdir()
    }


def models(world):
    """Digests of everything but the evaluations, which hold measured latencies."""
    return {key: digest for key, digest in digests(world).items() if not key.startswith("evaluate")}


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_goes_on_and_ends_like_an_undisturbed_one(undisturbed, tmp_path, encoder, prefect_api, sign):
    world = World(tmp_path, encoder, prefect_api, name="undisturbed")
    process = world.start("run", str(world.study))
    checkpoint = world.wait_for(lambda: next(world.home.glob("work/task_distill-*/*.safetensors"), None))
    process.send_signal(sign)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == (-9 if sign == signal.SIGKILL else 130), errors
    assert checkpoint.exists(), "the stage was stopped in its middle and left its checkpoint"
    done = digests(world)
    if sign != signal.SIGKILL:
        assert {run.info.status for run in world.mlflow_runs("attributes.status != 'FINISHED'")} == {"KILLED"}
        assert "run the same command again" in errors
    plans = {plan["label"]: plan["status"] for plan in world.plan()}
    assert plans["finetune teacher · mood · seed 0"] == "reuse"
    assert plans["task_distill distilled · mood · seed 0"] == "run"
    table = world.run()
    assert metrics(table) == metrics(undisturbed.table)
    assert models(world) == models(undisturbed)
    assert done.items() <= digests(world).items()
    assert not list((world.home / "work").iterdir())
    assert {run.info.status for run in world.mlflow_runs()} == {"FINISHED", "KILLED"}


def damage_bit(world, record):
    file = world.home / "store" / "objects" / record["digest"][:2] / record["digest"] / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def damage_folder(world, record):
    shutil.rmtree(world.home / "store" / "objects" / record["digest"][:2] / record["digest"])


def damage_record(world, record):
    path = world.home / "records" / record["key"]
    path.write_bytes(path.read_bytes()[:50])


@pytest.mark.parametrize("damage", [damage_bit, damage_folder, damage_record])
def test_damage_is_found_and_computed_again(undisturbed, copy_of, damage):
    label = "task_distill distilled · mood · seed 0"
    damage(copy_of, next(plan for plan in copy_of.plan() if plan["label"] == label))
    plans = {plan["label"]: plan for plan in copy_of.plan()}
    assert plans[label]["status"] == "run"
    assert plans[label]["reason"].startswith("never computed" if damage is damage_record else "damaged: artifact")
    assert plans["finetune small · mood · seed 0"]["status"] == "reuse"
    table = copy_of.run()
    assert metrics(table) == metrics(undisturbed.table)
    assert digests(copy_of) == digests(undisturbed), "the same bits came back, so nothing after it ran"
    assert {plan["status"] for plan in copy_of.plan()} == {"reuse"}


def test_two_runs_at_once_compute_each_stage_once(undisturbed, tmp_path, encoder, prefect_api):
    world = World(tmp_path, encoder, prefect_api, name="undisturbed")
    both = [world.start("run", str(world.study), "--json") for _ in range(2)]
    tables = []
    for process in both:
        output, errors = process.communicate(timeout=900)
        assert process.returncode == 0, errors
        tables.append(json.loads(output))
    assert metrics(tables[0]) == metrics(tables[1]) == metrics(undisturbed.table)
    keys = [run.data.tags["bertpress.stage_key"] for run in world.mlflow_runs("tags.`bertpress.kind` = 'stage'")]
    assert sorted(keys) == sorted(digests(world)), "one MLflow run a stage: computed once"


CHANGES = {
    # changed module -> kinds of stage that use it
    "compression/distillation/task.py": {"task_distill"},
    "compression/training/optimizer.py": {"finetune", "task_distill"},
    "compression/quantization/int8_arithmetic.py": {"quantize", "evaluate"},
    "compression/evaluation/evaluate.py": {"evaluate"},
    "flows/planning.py": set(),
    "compression/analysis/table.py": set(),
}


@pytest.mark.parametrize("changed", CHANGES)
def test_changed_code_runs_exactly_the_stages_that_use_it(copy_of, changed):
    source = copy_of.folder / "source"
    for package in ("compression", "tasks", "flows"):
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    copy_of.source = source
    assert {plan["status"] for plan in copy_of.plan()} == {"reuse"}, "the same code elsewhere"
    path = source / changed
    path.write_text(path.read_text() + "\n_ADDED = 1\n")
    plans = copy_of.plan()
    for plan in plans:
        if plan["stage"] in CHANGES[changed] and plan["reason"].startswith("changed"):
            assert (
                plan["reason"]
                == f"changed: code of {Path(changed).with_suffix('').as_posix().replace('/', '.')} changed"
            )
    direct = {plan["stage"] for plan in plans if plan["status"] == "run" and not plan["reason"].startswith("its input")}
    nothing_before = {
        kind for kind in CHANGES[changed] if not (kind == "task_distill" and "finetune" in CHANGES[changed])
    }
    assert direct == nothing_before
    after = {plan["stage"] for plan in plans if plan["status"] == "run"}
    assert after >= CHANGES[changed]
    if not CHANGES[changed]:
        assert after == set()


def test_stages_side_by_side_give_the_same_models(undisturbed, tmp_path, encoder, prefect_api):
    world = World(tmp_path, encoder, prefect_api, name="undisturbed")
    table = world.run(BERTPRESS_WORKERS="2")
    assert metrics(table) == metrics(undisturbed.table)
    assert models(world) == models(undisturbed)


def test_a_failing_stage_fails_its_cells_alone(undisturbed, copy_of):
    message = copy_of.bertpress(
        "run", str(copy_of.study), "--set", "defaults.task_distill.learning_rate=1", "--set", "defaults.task_distill.max_grad_norm=0", "--set", "defaults.task_distill.soft_weight=1e30", expect=1
    )  # fmt: skip
    assert "training diverged" in message
    assert "Traceback" not in message
    latest = copy_of.mlflow_runs("tags.`bertpress.kind` = 'study'")[0]
    assert latest.info.status == "FAILED"
    children = copy_of.mlflow_runs(f"tags.`mlflow.parentRunId` = '{latest.info.run_id}'")
    assert {run.data.tags["variant"] for run in children if run.data.tags["bertpress.kind"] == "cell"} == {
        "teacher",
        "small",
    }
    assert {run.info.status for run in children if run.data.tags["bertpress.kind"] == "stage"} == {"FAILED"}
