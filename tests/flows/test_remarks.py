"""What plans say of distillation, and refuse, before anything runs."""

import io
import json

import pytest
from rich.console import Console
from tiny_models import tiny_encoder_folder

from compression.errors import UserError
from flows.project import open_project
from flows.terminal import plan_records, show_plan
from tasks.settings import Settings

RECIPE = "{recipe: tinybert, student: {layers: uniform, count: 2}}"


@pytest.fixture
def project(tmp_path):
    tiny_encoder_folder(tmp_path / "model", num_hidden_layers=4)
    (tmp_path / "rows.csv").write_text("text,label\ngood,x\nbad,y\n" * 20)

    def make(variants: str, tasks: str = "[{name: rows, files: {train: rows.csv}}]"):
        study = tmp_path / "study.yaml"
        study.write_text(
            f"name: remarks\nteacher: {{model: model}}\ntasks: {tasks}\nseeds: [0, 1]\nvariants:\n{variants}"
        )
        return open_project(study, Settings(home=tmp_path / "home", device="cpu", precision="fp32"))

    return make


def printed(project):
    console = Console(record=True, width=160, file=io.StringIO())
    show_plan(console, project, project.plan())
    return console.export_text()


def test_the_plan_shows_recipe_and_mapping_once_for_all_seeds(project):
    made = project(f"  tinybert: [{{task_distill: {RECIPE}}}]\n  plain: [{{task_distill: {{student: bert-tiny}}}}]\n")
    text = printed(made)
    assert text.count("task_distill tinybert · rows\n") == 1
    for line in (
        "  recipe tinybert: Jiao et al. 2019, arXiv:1909.10351",
        "  first the layers: 20 epochs, batches of 32, learning rate 5e-05 constant",
        "  then the outputs: 3 epochs, batches of 32, learning rate 3e-05 linear; T 1, soft 1, hard 0",
        "  compares embedding, hidden, attention; student ← teacher, layers counted from 0:",
        "    embeddings ← embeddings",
        "    layer 0    ← layer 1",
        "    layer 1    ← layer 3",
    ):
        assert line in text
    assert "task_distill plain · rows\n" not in text
    records = plan_records(made, made.plan())
    assert json.loads(json.dumps(records)) == records
    assert {len(record["remarks"]) for record in records if record["stage"] == "task_distill"} == {0, 7}


def test_layers_that_cannot_be_paired_are_refused_with_the_line(project):
    with pytest.raises(UserError) as caught:
        project(
            "  fine: [{task_distill: {student: bert-tiny, objectives: {hidden: 1}}}]\n"
            "  wrong: [{task_distill: {student: bert-mini, objectives: {attention: 1}}}]\n"
            "  deep: [{task_distill: {student: bert-mini, objectives: {cls: 1}, layer_mapping: [0, 4, null, null]}}]\n"
        )
    first, second = str(caught.value).splitlines()
    assert first.endswith(
        "study.yaml:7: variants.wrong: `task_distill`: 4 heads in the student's layer, 2 in the teacher's: "
        "set `heads: group-mean`, or leave the objectives on attention out"
    )
    assert second.endswith(
        "study.yaml:8: variants.deep: `task_distill`: layer mapping [0, 4, null, null] names layer 4, but the teacher "
        "has 4 layers, 0 to 3"
    )


def test_recipes_settle_by_task(project):
    made = project(f"  tinybert: [{{task_distill: {RECIPE}}}]\n", tasks="[cola, mnli]")
    epochs = {
        (node.task.name, node.config.intermediate.epochs)
        for node in made.graph.nodes.values()
        if node.kind == "task_distill"
    }
    assert epochs == {("cola", 50), ("mnli", 10)}


GENERAL = "{recipe: tinybert, corpus: texts.txt, student: {layers: uniform, count: 2}}"


def test_general_distillation_is_one_stage_for_all_tasks_and_shows_its_layers(project, tmp_path):
    (tmp_path / "texts.txt").write_text("good\nbad\n" * 50)
    tasks = "[{name: rows, files: {train: rows.csv}}, {name: others, files: {train: rows.csv}}]"
    made = project(f"  tinybert: [{{general_distill: {GENERAL}}}, finetune]\n", tasks)
    nodes = [node for node in made.graph.nodes.values() if node.kind == "general_distill"]
    assert [(node.seed, node.task) for node in nodes] == [(0, None), (1, None)]
    assert made.shapes[nodes[0].id].layers == 2
    text = printed(made)
    assert "general_distill tinybert\n  recipe tinybert: Jiao et al." in text
    assert "  3 epochs, batches of 256, learning rate 0.0001 linear" in text
    assert "    layer 1    ← layer 3" in text


def test_a_student_after_pretraining_learns_from_the_model_before_it(project, tmp_path):
    (tmp_path / "texts.txt").write_text("good\nbad\n" * 50)
    chain = "[{pretrain: {corpus: texts.txt, train: heads}}, {general_distill: {corpus: texts.txt, recipe: distilbert, student: {layers: [0, 3]}}}, finetune]"
    made = project(f"  distilbert: {chain}\n")
    (distilled, *_) = [node for node in made.graph.nodes.values() if node.kind == "general_distill"]
    assert made.graph.nodes[distilled.inputs["model"]].kind == "pretrain"
    assert made.remarks[distilled.id][-1].split() == ["layer", "1", "←", "layer", "3"]
    with pytest.raises(UserError, match="`finetune` is given a student, which only the first stage of a chain can be"):
        project(
            chain.replace("[{pretrain", "  wrong: [{pretrain").replace(
                "finetune]", "{finetune: {student: bert-tiny}}]\n"
            )
        )


def test_general_distillation_that_cannot_pair_heads_is_refused(project, tmp_path):
    (tmp_path / "texts.txt").write_text("good\nbad\n" * 50)
    with pytest.raises(UserError, match="`general_distill`: 4 heads in the student's layer, 2 in the teacher's"):
        project("  wrong: [{general_distill: {corpus: texts.txt, recipe: tinybert, student: bert-mini}}, finetune]\n")
