import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compression.architecture.shape import EncoderShape
from compression.distillation.comparison import Wanted, compare, comparison_rows
from compression.distillation.config import ObjectivesConfig
from compression.distillation.layer_mapping import LayerMappingError

NAMES = tuple(ObjectivesConfig.model_fields)


def shape(layers, heads=12, width=768):
    return EncoderShape.regular(layers=layers, hidden_size=width, heads=heads, intermediate_size=4)


def test_tinyberts_comparison():
    made = compare(
        ObjectivesConfig(embedding=1, hidden=1, attention=1), "uniform", "same", shape(4, 12, 312), shape(12)
    )
    assert made.student == Wanted((0, 1, 2, 3, 4), (), (0, 1, 2, 3), ())
    assert made.teacher == Wanted((0, 3, 6, 9, 12), (), (2, 5, 8, 11), ())


def test_minilms_comparison():
    weights = ObjectivesConfig(attention_distribution=1, value_relation=1)
    made = compare(weights, "last", "same", shape(6, 12, 384), shape(12))
    assert made.student == Wanted((), (), (5,), (5,))
    assert made.teacher == Wanted((), (), (11,), (11,))


def test_patient_distillation_and_relations_need_the_first_word_piece_alone():
    made = compare(ObjectivesConfig(cls=1), "pkd-skip", "same", shape(6), shape(12))
    assert made.student == Wanted((), (1, 2, 3, 4, 5))
    assert made.teacher == Wanted((), (2, 4, 6, 8, 10))
    made = compare(ObjectivesConfig(relation_angle=1), "uniform", "same", shape(6), shape(12))
    assert (made.student, made.teacher) == (Wanted((), (6,)), Wanted((), (12,)))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(NAMES), min_size=1, unique=True), st.integers(1, 4), st.integers(1, 3))
def test_both_sides_give_tensors_of_the_same_number(names, layers, factor):
    made = compare(
        ObjectivesConfig(**dict.fromkeys(names, 1)), "uniform", "same", shape(layers), shape(layers * factor)
    )
    for kind in ("hidden_states", "first_states", "scores", "values"):
        assert len(getattr(made.student, kind)) == len(getattr(made.teacher, kind))
    assert set(made.objectives) == set(names)
    assert made.groups == ((1, 1),) * layers


def test_without_objectives_the_mapping_does_not_matter():
    made = compare(ObjectivesConfig(), "distilbert", "same", shape(5, 4), shape(7, 3))
    assert (made.pairs, made.student, made.teacher) == ((), Wanted(), Wanted())


@pytest.mark.parametrize("name", ["cosine", "cls"])
def test_vectors_of_different_width_cannot_be_compared_directly(name):
    with pytest.raises(LayerMappingError, match=f"`{name}` needs equal widths; the student has 312, the teacher 768"):
        compare(ObjectivesConfig(**{name: 1}), "last", "same", shape(4, 12, 312), shape(12))


def test_heads_count_only_where_they_are_compared():
    small, large = shape(4, 4, 312), shape(12)
    assert compare(ObjectivesConfig(hidden=1), "uniform", "same", small, large).groups == ((1, 1),) * 4
    for name in ("attention", "attention_distribution", "value_relation"):
        with pytest.raises(LayerMappingError, match="4 heads in the student's layer, 12 in the teacher's"):
            compare(ObjectivesConfig(**{name: 1}), "uniform", "same", small, large)
        assert compare(ObjectivesConfig(**{name: 1}), "uniform", "group-mean", small, large).groups == ((1, 3),) * 4


def test_the_table_says_how_shapes_are_bridged():
    small, large = shape(2, 4, 312), shape(4)
    made = compare(ObjectivesConfig(embedding=1, hidden=1, attention=1), "uniform", "group-mean", small, large)
    assert [(row.student, row.teacher, row.bridge) for row in comparison_rows(made, small, large)] == [
        ("embeddings", "embeddings", "projection 312 → 768"),
        ("layer 0", "layer 1", "projection 312 → 768, mean of 3 of the teacher's heads"),
        ("layer 1", "layer 3", "projection 312 → 768, mean of 3 of the teacher's heads"),
    ]
    made = compare(ObjectivesConfig(attention=1), "last", "group-mean", large, shape(6, 4, 768))
    assert [row.bridge for row in comparison_rows(made, large, shape(6, 4, 768))] == [
        "mean of 3 of the student's heads"
    ]
