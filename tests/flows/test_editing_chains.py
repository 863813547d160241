"""Studies that factorise and share: orders of stages, and what is refused before anything runs."""

import json

import pytest

from compression.errors import UserError
from flows.chain_rules import broken_rule
from flows.project import open_project
from flows.terminal import plan_records
from tasks.settings import Settings
from tasks.stages.registry import stages


@pytest.mark.parametrize(
    ("chain", "problem"),
    [
        (["finetune", "factorize", "finetune", "share", "quantize"], None),
        (["share", "finetune"], None),
        (["share+", "finetune"], None),
        (["factorize", "share", "task_distill"], None),
        (["finetune", "share+"], "`share` is given a student, which only the first stage of a chain can be"),
        (["share"], "`evaluate` cannot follow `share`"),
        (["finetune", "quantize", "factorize"], "`factorize` cannot follow `quantize`"),
    ],
)
def test_orders_of_stages_that_make_sense(chain, problem):
    kinds = [(kind.removesuffix("+"), kind.endswith("+")) for kind in [*chain, "evaluate"]]
    broken = broken_rule(kinds, finetuned=False, registry=stages())
    assert (broken and broken[1].partition(";")[0]) == problem


@pytest.fixture
def project(tmp_path):
    def make(variants: str):
        model = tmp_path / "model"
        model.mkdir(exist_ok=True)
        sizes = {"num_hidden_layers": 4, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 64}
        (model / "config.json").write_text(json.dumps({"model_type": "bert", "vocab_size": 90, **sizes}))
        (model / "model.safetensors").write_bytes(b"")
        (tmp_path / "rows.csv").write_text("text,label\na,x\nb,y\n" * 20)
        study = tmp_path / "study.yaml"
        study.write_text(
            "name: edits\nteacher: {model: model, seed: 0}\ntasks: [{name: rows, files: {train: rows.csv}}]\n"
            f"seeds: [0, 1]\nvariants:\n{variants}"
        )
        return open_project(study, Settings(home=tmp_path / "home"))

    return make


def test_parameters_are_known_before_anything_runs(project):
    made = project(
        "  embedding: [finetune, {factorize: {embedding: {rank: 4}}}]\n"
        "  ffn: [finetune, {share: {mode: ffn, groups: 2}}, finetune]\n"
    )
    counts = {record["label"]: record["parameters"] for record in plan_records(made, made.plan())}
    whole = counts["finetune teacher · rows · seed 0"]
    assert counts["factorize embedding · rows"] == whole - 90 * 16 + 4 * (90 + 16)
    block = 2 * 16 * 64 + 64 + 16 + 2 * 16
    assert counts["share ffn · rows"] == whole - 2 * block
    assert counts["finetune ffn · rows · seed 1"] == whole - 2 * block


def test_a_chain_of_edits_alone_is_one_for_all_seeds_unless_data_or_chance_come_in(project):
    made = project(
        "  edited: [{share: {mode: ffn}}, finetune]\n"
        "  looked: [{share: {initialisation: best}}, finetune]\n"
        "  fresh: [{share: {student: bert-tiny}}, finetune]\n"
    )
    nodes = [node for node in made.graph.nodes.values() if node.kind == "share"]
    assert [(node.variant, node.task is not None, node.seed) for node in nodes] == [
        ("edited", False, None),
        ("looked", True, None),
        ("fresh", False, 0),
        ("fresh", False, 1),
    ]


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ("share: {groups: 3}", "`share`: 3 groups do not divide 4 layers; allowed: 1, 2, 4"),
        ("factorize: {embedding: {rank: 16}}", "`factorize`: embedding: rank 16 gives embedding (16×90) 1,696 weights and it has 1,440; ranks up to 13 make it smaller"),
        ("factorize: {linear: {rank: 2, maps: [attention.7]}}", "`factorize`: maps names 'attention.7', but the encoder has no such linear map; "),
    ],
)  # fmt: skip
def test_what_is_impossible_is_refused_with_its_line(project, stage, message):
    with pytest.raises(UserError) as caught:
        project(f"  fine: [finetune]\n  wrong: [finetune, {{{stage}}}]\n")
    assert f"study.yaml:7: variants.wrong: {message}" in str(caught.value)


def test_another_way_to_choose_the_rank_replaces_the_default(project):
    made = project(
        "  wide: [finetune, {factorize: {embedding: {rank: 12}}}]\n"
        "  narrow: {from: wide, set: {factorize.embedding.ratio: 0.5}}\n"
    )
    chosen = {node.variant: node.config.embedding for node in made.graph.nodes.values() if node.kind == "factorize"}
    assert (chosen["narrow"].rank, chosen["narrow"].ratio) == (None, 0.5)
