"""Many trivial stages side by side: every product has its record, and nothing that goes wrong is passed over."""

import contextlib
import gc
import time

import pytest

from benchmarks.orchestration import write_study
from benchmarks.trivial_stages import STAGES
from compression.errors import UserError
from flows.project import open_project
from tasks import cached_stage, invocation, source_fingerprint
from tasks.execution import Execution, run_stage
from tasks.settings import Settings, use_settings

NODES, WORKERS = 16, 4


@pytest.fixture
def in_prefect(prefect_api):
    """This process talks to the session's server."""
    from prefect import settings

    changed = {
        settings.PREFECT_API_URL: prefect_api,
        settings.PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
        settings.PREFECT_LOGGING_TO_API_ENABLED: False,  # what is left would be sent after the server has gone
    }
    with settings.temporary_settings(changed):
        yield


@pytest.fixture
def stages_in_threads(monkeypatch):
    """Stages run in the threads that wait for them: nothing is computed that a process of its own would be needed for."""
    monkeypatch.setattr(cached_stage, "run_in_process", run_stage)


@pytest.fixture
def much_source(monkeypatch):
    """The trivial stages' fingerprints read as much source as a real stage's."""

    def hashes(module, packages):
        return source_fingerprint.module_hashes("tasks.stages.task_distill") | source_fingerprint.module_hashes(
            module, packages
        )

    monkeypatch.setattr(invocation, "module_hashes", hashes)


@contextlib.contextmanager
def switching_threads():
    """Let threads take turns inside C code too, wherever it makes objects: what is rare happens at once."""
    before = gc.get_threshold()

    def switch(_phase, _info):
        time.sleep(0)

    gc.callbacks.append(switch)
    gc.set_threshold(50)
    try:
        yield
    finally:
        gc.callbacks.remove(switch)
        gc.set_threshold(*before)


def run_trivial(folder, nodes=NODES):
    """Run a study of trivial stages in a new home, as in a new process; returns what was left."""
    from flows.study_flow import StudyRun, run_in_prefect

    invocation._code.cache_clear()
    source_fingerprint._read.cache_clear()
    settings = Settings(home=folder / "home", workers=WORKERS, threads=1)
    use_settings(settings)
    project = open_project(write_study(folder / "study", nodes), settings, stages=STAGES)
    run = StudyRun(project.graph, project.preparer(), settings, Execution(study="overhead"), lambda *_: None)
    with contextlib.suppress(UserError):
        run_in_prefect(run, folder.name, "", lambda _run: "")
    return run, {path.name for path in settings.record_folder.glob("*")}


@pytest.mark.usefixtures("in_prefect", "stages_in_threads", "much_source")
def test_every_product_has_its_record(tmp_path):
    for number in range(4):
        with switching_threads():
            run, records = run_trivial(tmp_path / str(number))
        assert not run.failures
        assert len(run.products) == NODES
        assert records == {product.key for product in run.products.values()}


@pytest.mark.slow
@pytest.mark.usefixtures("in_prefect")
def test_every_product_of_a_process_has_its_record(tmp_path):
    for number in range(20):
        run, records = run_trivial(tmp_path / str(number))
        assert not run.failures
        assert records == {product.key for product in run.products.values()}


@pytest.mark.usefixtures("in_prefect", "stages_in_threads")
def test_a_key_that_cannot_be_computed_stops_the_run(tmp_path, monkeypatch):
    def broken(_self, _runtime):
        raise TypeError("no stable meaning")

    monkeypatch.setattr(invocation.StageInvocation, "key_parts", broken)
    with pytest.raises(TypeError, match="no stable meaning"):
        run_trivial(tmp_path, nodes=2)


@pytest.mark.usefixtures("in_prefect", "stages_in_threads")
def test_a_record_that_cannot_be_written_fails_its_stage(tmp_path, monkeypatch):
    from prefect.filesystems import LocalFileSystem

    def full(_self, _path, **_options):
        raise OSError("no space left on device")

    monkeypatch.setattr(LocalFileSystem, "write_path", full)
    run, records = run_trivial(tmp_path, nodes=2)
    assert not records
    assert "cache record could not be written" in next(iter(run.failures.values()))
