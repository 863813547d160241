import json
from types import SimpleNamespace

import pytest
from fake_stages import STAGES

from compression.errors import DataError
from flows.planning import differences
from flows.project import open_project
from tasks.artifact_store import ArtifactReference, ArtifactStore
from tasks.settings import Settings

STUDY = """
name: planned
teacher: {model: model, finetuned: true}
tasks: [{name: rows, files: {train: rows.csv}}]
variants:
  a: {stages: [general, distill], matrix: {general.value: [1, 2]}}
"""


@pytest.fixture
def project(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "rows.csv").write_text("text,label\n" + "".join(f"row {n},{'ab'[n % 2]}\n" for n in range(40)))
    (tmp_path / "study.yaml").write_text(STUDY)

    def opened():
        return open_project(tmp_path / "study.yaml", Settings(home=tmp_path / "home", device="cpu"), stages=STAGES)

    opened.folder = tmp_path
    return opened


def compute(project, plan, text):
    """Put a product under a planned key, as a run would."""
    store = ArtifactStore(project.settings.store_folder)
    folder = store.new_folder()
    (folder / "file").write_text(text)
    digest, size = store.put(folder)
    reference = ArtifactReference(stage=plan.node.kind, key=plan.key, digest=digest, size=size)
    project.settings.record_folder.mkdir(parents=True, exist_ok=True)
    (project.settings.record_folder / plan.key).write_text(json.dumps({"result": reference.model_dump_json()}))


def statuses(project):
    return [(plan.node.kind, plan.status, plan.key is None) for plan in project.plan()]


def test_keys_become_known_as_inputs_are_computed(project):
    one = project()
    assert statuses(one) == [("general", "run", False), ("distill", "run", True), ("evaluate", "run", True)] * 2
    compute(one, one.plan()[0], "first")
    assert statuses(one)[:3] == [("general", "reuse", False), ("distill", "run", False), ("evaluate", "run", True)]


def test_equal_content_of_an_input_is_one_key(project):
    """Early cut-off: what is computed again and gives the same bytes leaves what comes after it valid."""
    one = project()
    compute(one, one.plan()[0], "same")
    compute(one, one.plan()[3], "same")
    plans = one.plan()
    assert plans[0].key != plans[3].key
    assert plans[1].key == plans[4].key


@pytest.mark.parametrize("change", ["weights", "rows", "path"])
def test_content_counts_and_names_do_not(project, change):
    before = project().plan()[0].key
    one = project()
    compute(one, one.plan()[0], "x")
    distill_before = one.plan()[1].key
    folder = project.folder
    if change == "weights":
        (folder / "model" / "model.safetensors").write_bytes(b"weightz")
        assert project().plan()[0].key != before
    elif change == "rows":
        (folder / "rows.csv").write_text((folder / "rows.csv").read_text().replace("row 7,", "row seven,"))
        assert project().plan()[0].key == before, "general reads no rows"
        assert project().plan()[1].key != distill_before
    else:
        (folder / "model").rename(folder / "other")
        (folder / "rows.csv").rename(folder / "table.csv")
        text = STUDY.replace("rows.csv", "table.csv").replace("model: model", "model: other")
        (folder / "study.yaml").write_text(text)
        assert [plan.key for plan in project().plan()][:2] == [before, distill_before]


def test_a_model_that_is_not_there_is_an_error_that_names_it(project):
    (project.folder / "model" / "model.safetensors").unlink()
    with pytest.raises(Exception, match="no safetensors weights"):
        project().plan()


def test_differences_name_the_leaf():
    before = {"config": {"a": 1, "b": {"c": None}}, "code": {"m.x": "1", "m.y": "2"}, "seed": 0}
    after = {"config": {"a": 1, "b": {"c": 5}}, "code": {"m.x": "9", "m.z": "3"}, "seed": 1}
    assert differences(before, after) == [
        "code of m.x changed",
        "code of m.y is gone",
        "code of m.z is new",
        "config.b.c none -> 5",
        "seed 0 -> 1",
    ]


CORPUS_STUDY = """
name: planned
teacher: {model: model}
tasks: [{name: rows, files: {train: rows.csv}}, {name: other, files: {train: rows.csv}}]
seeds: [0, 1]
variants:
  a: [{pretrain: {corpus: CORPUS}}, finetune]
"""


@pytest.fixture
def with_corpus(project):
    (project.folder / "texts").mkdir()
    (project.folder / "texts" / "a.txt").write_text("one\ntwo\n")
    (project.folder / "model" / "config.json").write_text('{"model_type": "bert", "vocab_size": 9}')

    def opened(corpus: str):
        (project.folder / "study.yaml").write_text(CORPUS_STUDY.replace("CORPUS", corpus))
        return open_project(project.folder / "study.yaml", Settings(home=project.folder / "home", device="cpu"))

    opened.folder = project.folder
    return opened


def pretrain_plans(project):
    return [plan for plan in project.plan() if plan.node.kind == "pretrain"]


def test_a_corpus_counts_by_its_content(with_corpus):
    plans = pretrain_plans(with_corpus("texts/a.txt"))
    assert len(plans) == 2, "one for each seed and all tasks"
    assert plans[0].parts["corpus"] is not None
    assert plans[0].parts["data"] is None
    keys = [plan.key for plan in plans]
    (with_corpus.folder / "texts" / "a.txt").rename(with_corpus.folder / "texts" / "b.txt")
    renamed = pretrain_plans(with_corpus("{files: ['texts/*.txt'], encoding: utf-8}"))
    assert [plan.key for plan in renamed] == keys
    limited = pretrain_plans(with_corpus("{files: ['texts/*.txt'], limit_tokens: 5}"))
    assert differences(plans[0].parts, limited[0].parts) == ["config.corpus.limit_tokens none -> 5"]
    (with_corpus.folder / "texts" / "b.txt").write_text("one\nthree\n")
    [changed] = differences(plans[0].parts, pretrain_plans(with_corpus("'texts/b.txt'"))[0].parts)
    assert changed.startswith("corpus ")


def test_a_corpus_of_task_rows_belongs_to_the_task(with_corpus):
    plans = pretrain_plans(with_corpus("{task_rows: true}"))
    assert len(plans) == 4
    assert {plan.parts["corpus"] for plan in plans} == {None}
    assert {plan.parts["data"] is None for plan in plans} == {False}
    assert len({plan.key for plan in plans}) == 2, "both tasks have the same rows"


def test_a_corpus_of_the_hub_waits_unless_its_commit_is_known(with_corpus):
    reasons = [plan.reason for plan in pretrain_plans(with_corpus("some/set"))]
    assert reasons == ["the hub has to be asked for the commit of corpus some/set train first"] * 2
    pinned = pretrain_plans(with_corpus(f"{{dataset: some/set, revision: {'a' * 40}}}"))
    assert all(plan.key is not None for plan in pinned)


def test_the_commit_that_was_fingerprinted_is_the_one_that_is_read(with_corpus, monkeypatch):
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: SimpleNamespace(dataset_info=lambda *_, **__: SimpleNamespace(sha="b" * 40)))  # fmt: skip
    project = with_corpus("some/set")
    preparer = project.preparer(download=True)
    node = next(node for node in project.graph.nodes.values() if node.kind == "pretrain")
    invocation = preparer.invocation(node, {})
    assert invocation.config["corpus"]["revision"] == "b" * 40
    pinned = pretrain_plans(with_corpus(f"{{dataset: some/set, revision: {'b' * 40}}}"))
    assert invocation.key_parts(preparer.runtime) == pinned[0].parts


def test_a_corpus_that_is_not_there_is_an_error_before_anything_runs(with_corpus):
    with pytest.raises(DataError, match=r"b\.txt.*did you mean 'a\.txt'"):
        with_corpus("texts/b.txt").plan()
    (with_corpus.folder / "texts" / "b.txt").write_bytes(b"fine\n\xff\n")
    project = with_corpus("texts/b.txt")
    with pytest.raises(DataError, match="line 2: byte 0xff is not utf-8"):
        project.preparer().check_external(project.graph)
