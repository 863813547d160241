"""Shapes followed through a study before anything runs: counted, and refused where a stage is impossible."""

import json

import pytest
from fake_stages import STAGES, FakeStage

from compression.architecture.counts import parameters_by_part
from compression.architecture.shape import shape_of
from compression.errors import UserError
from flows.project import open_project
from flows.shapes import source_shape
from flows.spec import TeacherConfig
from flows.terminal import plan_records
from tasks.settings import Settings

BERT = {
    "model_type": "bert",
    "num_hidden_layers": 3,
    "hidden_size": 16,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "vocab_size": 11,
}


class Shrink(FakeStage):
    """Takes `value` heads from every layer."""

    kind, produces = "shrink", "same"

    def reshape(self, config, shape):
        heads = tuple(count - config.value for count in shape.attention_heads)
        if min(heads) < 0:
            raise UserError(f"cannot take {config.value} heads from {min(shape.attention_heads)}")
        return shape.edited(attention_heads=heads)


KNOWN = {**STAGES, "shrink": Shrink()}


@pytest.fixture
def project(tmp_path):
    def make(variants: str, config=BERT):
        model = tmp_path / "model"
        model.mkdir(exist_ok=True)
        (model / "config.json").write_text(json.dumps(config))
        (model / "model.safetensors").write_bytes(b"")
        (tmp_path / "rows.csv").write_text("text,label\na,x\nb,y\n" * 20)
        study = tmp_path / "study.yaml"
        study.write_text(
            "name: shapes\nteacher: {model: model, seed: 0}\ntasks: [{name: rows, files: {train: rows.csv}}]\n"
            f"variants:\n{variants}"
        )
        return open_project(study, Settings(home=tmp_path / "home"), stages=KNOWN)

    return make


def test_shapes_follow_the_chain_and_are_counted_in_the_plan(project):
    made = project("  small: [finetune, {shrink: {value: 1}}, {shrink: {value: 2}}]\n")
    heads = [made.shapes[node.id].attention_heads for node in made.graph.nodes.values()]
    assert heads == [(4,) * 3, (3,) * 3, (1,) * 3, (1,) * 3]
    whole = sum(parameters_by_part(shape_of(BERT)).values())
    head = 4 * 16 * 4 + 3 * 4  # query, key, value and output weights of a head of 4, and its three biases
    counts = [record["parameters"] for record in plan_records(made, made.plan())]
    assert counts == [whole, whole - 3 * head, whole - 9 * head, None]


def test_an_impossible_stage_is_refused_with_its_line_and_what_follows_is_left_out(project):
    with pytest.raises(UserError) as caught:
        project("  fine: [finetune, shrink]\n  wrong: [finetune, {shrink: {value: 5}}, shrink]\n")
    assert str(caught.value).endswith("study.yaml:6: variants.wrong: `shrink`: cannot take 5 heads from 4")
    assert str(caught.value).count("\n") == 0


def test_the_shape_of_another_architecture_is_needed_only_where_it_is_edited(project):
    roberta = BERT | {"model_type": "roberta"}
    assert project("  tuned: [finetune]\n", roberta).shapes == {}
    with pytest.raises(
        UserError, match=r"study\.yaml:5: variants\.small: `shrink`: a 'roberta' model cannot be edited"
    ):
        project("  small: [finetune, shrink]\n", roberta)


def test_a_damaged_configuration_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"config\.json cannot be read"):
        source_shape(TeacherConfig(model=str(tmp_path)), ())
