import json

import pytest

from compression.errors import UserError
from flows.cleaning import clean, plan_cleaning
from flows.run_record import NodeRecord, RunRecorder
from tasks.artifact_store import ArtifactReference, ArtifactStore
from tasks.locks import RUN_SLOTS, RUNS, machine_slot
from tasks.settings import Settings


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path)


def product(settings, key, content):
    """An artifact with its record, as Prefect writes it."""
    store = ArtifactStore(settings.store_folder)
    folder = store.new_folder()
    (folder / "file").write_text(content)
    digest, size = store.put(folder)
    reference = ArtifactReference(stage="finetune", key=key, digest=digest, size=size)
    settings.record_folder.mkdir(parents=True, exist_ok=True)
    (settings.record_folder / key).write_text(json.dumps({"metadata": {}, "result": reference.model_dump_json()}))
    return reference


def run(settings, study, *products):
    recorder = RunRecorder(settings, study)
    for reference in products:
        recorder.add(reference.key, NodeRecord(key=reference.key, digest=reference.digest, cached=False, parts={}))
    recorder.write("finished")


def kinds(removals):
    return sorted(removal.what for removal in removals)


def test_what_a_run_references_stays(settings):
    used, unused = product(settings, "finetune-1", "a"), product(settings, "finetune-2", "b")
    run(settings, "one", used)
    removals = plan_cleaning(settings)
    assert kinds(removals) == ["artifact", "record"]
    assert {removal.path.name for removal in removals} == {"finetune-2", unused.digest}
    assert clean(removals, settings) > 0
    assert ArtifactStore(settings.store_folder).digests() == [used.digest]
    assert plan_cleaning(settings) == []


def test_an_artifact_of_another_study_stays(settings):
    shared = product(settings, "finetune-1", "a")
    run(settings, "one", shared)
    run(settings, "two", shared)
    assert kinds(plan_cleaning(settings, keep_runs=1)) == []
    assert kinds(plan_cleaning(settings, keep_runs=0)) == ["artifact", "record", "run", "run"]


def test_only_the_latest_runs_are_kept_when_asked(settings):
    old, new = product(settings, "finetune-1", "a"), product(settings, "finetune-2", "b")
    run(settings, "one", old)
    import time

    time.sleep(1.1)  # run records are named by the second
    run(settings, "one", new)
    removals = plan_cleaning(settings, keep_runs=1)
    assert kinds(removals) == ["artifact", "record", "run"]
    assert old.digest in {removal.path.name for removal in removals}


def test_leftovers_of_dead_processes_go_and_those_of_living_ones_stay(settings):
    ArtifactStore(settings.store_folder).new_folder()
    dead = settings.store_folder / "tmp" / "999999999-abc"
    dead.mkdir()
    (settings.record_folder).mkdir(parents=True)
    (settings.record_folder / "finetune-9").write_text("{torn")
    assert [(removal.what, removal.path.name) for removal in plan_cleaning(settings)] == [
        ("record", "finetune-9"),
        ("temporary folder", "999999999-abc"),
    ]


def test_nothing_is_removed_while_a_study_runs(settings):
    product(settings, "finetune-1", "a")
    removals = plan_cleaning(settings)
    with (
        machine_slot(settings.lock_folder, RUNS, RUN_SLOTS, exclusive=False),
        pytest.raises(UserError, match="a study is running"),
    ):
        clean(removals, settings)
    assert plan_cleaning(settings) == removals
