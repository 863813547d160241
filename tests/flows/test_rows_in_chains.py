"""Stages that give rows: where they may stand, what flows past them, and what takes their rows."""

import json

import pytest
import yaml
from fake_stages import STAGES, FakeStage, Nothing

from compression.errors import DataError
from flows.augmentation_section import augmentation_section
from flows.chain_rules import broken_rule
from flows.derivation import ResolvedStage, ResolvedVariant
from flows.graph import SOURCE, build_graph
from flows.project import open_project
from flows.run_record import NodeRecord, RunRecord
from flows.spec import Study
from tasks.artifact_store import ArtifactStore
from tasks.settings import Settings
from tasks.stages.base import External
from tasks.stages.registry import stages


class More(FakeStage):
    """Gives rows; reads the chain's model when its value is 1, a file from outside when it is 2."""

    kind, produces, uses_seed, splits, takes_rows = "more", "data", True, ("train",), True

    def roles(self, config):
        return (*(["model"] if config.value == 1 else []), *super().roles(config))

    def external(self, config):
        return {"words": External("file", "words.txt")} if config.value == 2 else {}

    def for_task(self, config, task):
        return config.model_copy(update={"value": len(task.name)}) if config.value == 3 else config


class Tune(STAGES["finetune"].__class__):
    takes_rows = True


class Distill(STAGES["distill"].__class__):
    takes_rows = True


ALL = {**STAGES, "more": More(), "finetune": Tune(), "distill": Distill()}
TEACHER = ResolvedStage("finetune", Nothing())


def graph_of(*chains, tasks=("sst2",), seeds=(0,), **teacher):
    study = Study.model_validate(
        {
            "name": "s",
            "teacher": {"model": "m", **teacher},
            "tasks": list(tasks),
            "seeds": list(seeds),
            "variants": {"v": ["finetune"]},
        }
    )
    variants = [
        ResolvedVariant(f"v{number}", "", tuple(ResolvedStage(kind, Nothing(**config)) for kind, config in chain), 1)
        for number, chain in enumerate(chains)
    ]
    return build_graph(study, variants, TEACHER, ALL)


def chain(*stages):
    return [stage if isinstance(stage, tuple) else (stage, {}) for stage in (*stages, "evaluate")]


def by_kind(graph):
    found = {}
    for node in graph.nodes.values():
        found.setdefault(node.kind, []).append(node)
    return found


def test_rows_go_to_later_training_stages_while_the_model_flows_past():
    nodes = by_kind(
        graph_of(chain("general", "more", ("distill", {"value": 1}), "factorize", ("distill", {"value": 2})))
    )
    (general,), (more,), (factorize,), (evaluate,) = (
        nodes[kind] for kind in ("general", "more", "factorize", "evaluate")
    )
    first, second = nodes["distill"]
    assert more.inputs == {}
    assert first.inputs == {"model": general.id, "data": more.id}
    assert factorize.inputs == {"model": first.id}, "it takes no rows"
    assert second.inputs == {"model": factorize.id, "data": more.id}
    assert evaluate.inputs == {"model": second.id}


def test_the_last_rows_count():
    nodes = by_kind(
        graph_of(chain(("more", {"value": 5}), ("distill", {"value": 1}), ("more", {"value": 6}), "distill"))
    )
    (one, other), (first, second) = nodes["more"], nodes["distill"]
    assert other.inputs == {"data": one.id}
    assert (first.inputs["data"], second.inputs["data"]) == (one.id, other.id)
    assert second.inputs["model"] == first.id


def test_the_chain_s_model_is_an_input_only_when_it_is_asked_for():
    nodes = by_kind(
        graph_of(chain("general", ("more", {"value": 1}), "distill"), chain(("more", {"value": 1}), "distill"))
    )
    assert [node.inputs for node in nodes["more"]] == [{"model": nodes["general"][0].id}, {"model": SOURCE}]


def test_equal_rows_of_different_chains_are_one_node():
    graph = graph_of(chain("more", ("distill", {"value": 1})), chain("general", "more", "distill"), seeds=(0, 1))
    assert len(by_kind(graph)["more"]) == 2, "one a seed"
    assert len(by_kind(graph)["distill"]) == 4


def test_fine_tuning_on_more_rows_is_not_the_teacher():
    graph = graph_of(chain("more", "finetune"), chain("finetune"), seeds=(0, 1), seed=5)
    tuned, teacher = by_kind(graph)["finetune"][:-1], by_kind(graph)["finetune"][-1]
    assert [node.seed for node in tuned] == [0, 1]
    assert all("data" in node.inputs and node.inputs["model"] == SOURCE for node in tuned)
    assert teacher.seed == 5
    assert teacher.inputs == {"model": SOURCE}


def test_rows_that_a_teacher_judges_come_after_it():
    nodes = by_kind(graph_of(chain(("more", {"teacher": True}), "distill")))
    assert nodes["more"][0].inputs == {"teacher": nodes["finetune"][0].id}


def test_a_configuration_for_each_task():
    nodes = by_kind(graph_of(chain(("more", {"value": 3}), "distill"), tasks=("sst2", "mnli", "rte")))
    assert {node.task.name: node.config.value for node in nodes["more"]} == {"sst2": 4, "mnli": 4, "rte": 3}


@pytest.mark.parametrize(
    ("kinds", "finetuned", "problem"),
    [
        (["augment", "finetune"], False, None),
        (["augment", "task_distill+", "quantize"], False, None),
        (["pretrain", "augment", "finetune"], False, None),
        (["augment", "finetune"], True, None),
        (["augment", "augment", "finetune"], False, None),
        (["finetune", "augment", "finetune", "quantize"], False, None),
        (["augment", "task_distill"], False, (1, "needs a `student`")),
        (["augment"], False, (1, "`evaluate` cannot follow the pretrained encoder")),
        (["finetune", "augment"], False, (1, "no stage after `augment` trains on its rows")),
        (["finetune", "augment", "quantize"], False, (1, "no stage after `augment` trains on its rows")),
        (["finetune", "quantize", "augment", "finetune"], False, (2, "`augment` cannot follow `quantize`")),
        (["augment", "finetune", "task_distill+"], False, (2, "which only the first stage of a chain can be")),
        (["evaluate", "augment"], True, (0, "ends a chain")),
    ],
)
def test_where_augmentation_may_stand(kinds, finetuned, problem):
    given = [(kind.removesuffix("+"), kind.endswith("+")) for kind in [*kinds, "evaluate"]]
    found = broken_rule(given, finetuned=finetuned, registry=stages())
    if problem is None:
        assert found is None
    else:
        assert found[0] == problem[0]
        assert problem[1] in found[1]


@pytest.fixture
def study_file(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "rows.csv").write_text("text,label\n" + "".join(f"row {n},{'ab'[n % 2]}\n" for n in range(40)))
    (tmp_path / "words.txt").write_text("a 1\n")
    study = {
        "name": "planned",
        "teacher": {"model": "model", "finetuned": True},
        "tasks": [{"name": "rows", "files": {"train": "rows.csv"}}],
        "variants": {"v": [{"more": {"value": 2}}, "distill"]},
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    return tmp_path / "study.yaml"


def opened(study_file):
    return open_project(study_file, Settings(home=study_file.parent / "home", device="cpu"), stages=ALL)


def test_a_file_from_outside_counts_by_content(study_file):
    before = opened(study_file).plan()[0]
    assert set(before.parts["inputs"]) == {"words"}
    (study_file.parent / "words.txt").write_text("a 2\n")
    assert opened(study_file).plan()[0].key != before.key
    (study_file.parent / "words.txt").write_text("a 1\n")
    assert opened(study_file).plan()[0].key == before.key


def test_a_file_that_is_not_there_is_told_before_anything_runs(study_file):
    (study_file.parent / "words.txt").unlink()
    project = opened(study_file)
    with pytest.raises(DataError, match=r"'words.txt' does not exist"):
        project.preparer(download=True).check_external(project.graph)


def test_a_model_from_outside_that_has_to_be_downloaded(study_file, monkeypatch):
    monkeypatch.setattr(
        More, "external", lambda self, config: {"masked_lm": External("model", "some/hub-model", "main")}
    )
    monkeypatch.setattr(
        "flows.planning.resolve_model",
        lambda reference, *rest, **named: None if "hub" in reference else study_file.parent / "model",
    )
    assert opened(study_file).plan()[0].reason == "some/hub-model has to be downloaded first"


def test_the_report_shows_what_was_augmented(study_file):
    project = opened(study_file)
    node = next(iter(project.graph.nodes.values()))
    monkey = node.__class__(**{**vars(node), "kind": "augment"})
    project.graph.nodes[node.id] = monkey
    store = ArtifactStore(project.settings.store_folder)
    folder = store.new_folder()
    quality = {
        "source_rows": 40,
        "rows": 700,
        "drawn": 800,
        "dropped": 20,
        "labelled": 0,
        "judged": 680,
        "share_changed": 0.25,
        "share_same": 0.15,
        "share_dropped": 0.025,
        "label_agreement": 0.9,
        "mean_shift": 0.1,
        "examples": [{"original": f"good {number}", "copy": f"bad {number}"} for number in range(8)],
    }
    (folder / "quality.json").write_text(json.dumps(quality))
    digest, _ = store.put(folder)
    nodes = {node.label: NodeRecord(key="augment-0", digest=digest, cached=False, parts={})}
    section = augmentation_section(project, RunRecord(id="r", study="planned", started="now", nodes=nodes))
    assert section == {
        "Augmented rows": [
            f"{node.label}: 700 rows from 40; 25.0 % of the words of copies changed; 15.0 % of the copies drawn were there "
            "already; 2.5 % dropped because the teacher's output moved too far; the teacher keeps the label of 90.0 % of 680 "
            "copies; its output moves by 0.100 on average",
            *(f"“good {number}” → “bad {number}”" for number in range(3)),
        ]
    }
    assert augmentation_section(project, RunRecord(id="r", study="planned", started="now")) == {}
