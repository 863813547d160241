import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from compression.distillation.layer_mapping import (
    LayerMappingError,
    choose_layers,
    head_groups,
    map_layers,
)

DEPTHS = st.tuples(st.integers(1, 24), st.integers(1, 24)).filter(lambda depths: depths[0] <= depths[1])
GENERAL = ("uniform", "top", "bottom", "first-last")


def teachers(mapping, student, teacher):
    return [pair.teacher for pair in map_layers(mapping, student, teacher)]


@pytest.mark.parametrize("strategy", GENERAL)
@given(DEPTHS)
def test_every_student_layer_has_a_later_teacher_layer_than_the_one_before(strategy, depths):
    count, depth = depths
    pairs = map_layers(strategy, count, depth)
    layers = [pair.teacher for pair in pairs]
    assert [pair.student for pair in pairs] == list(range(count))
    assert layers == sorted(set(layers))
    assert set(layers) <= set(range(depth))
    if strategy != "bottom":
        assert layers[-1] == depth - 1
    if strategy in ("bottom", "first-last") and count > 1:
        assert layers[0] == 0
    if count == depth:
        assert layers == list(range(depth))


@given(st.integers(1, 8), st.integers(1, 6))
def test_uniform_is_tinyberts_where_it_divides(student, block):
    """g(m) = m N / M, layers counted from 1; the released code's i k + k - 1, counted from 0."""
    assert teachers("uniform", student, student * block) == [i * block + block - 1 for i in range(student)]


@given(DEPTHS)
def test_gaps_of_uniform_and_first_last_differ_by_one_at_most(depths):
    count, depth = depths
    for strategy in ("uniform", "first-last"):
        layers = teachers(strategy, count, depth)
        gaps = [after - before for before, after in pairwise(layers)]
        assert max(gaps, default=0) - min(gaps, default=0) <= 1


def test_published_mappings():
    assert teachers("uniform", 4, 12) == [2, 5, 8, 11]  # TinyBERT
    assert teachers("top", 4, 12) == [8, 9, 10, 11]
    assert teachers("bottom", 4, 12) == [0, 1, 2, 3]
    assert teachers("distilbert", 6, 12) == [0, 2, 4, 7, 9, 11]
    assert [pair.teacher + 1 for pair in map_layers("pkd-skip", 6, 12)] == [2, 4, 6, 8, 10]  # counted from 1 there
    assert [pair.teacher + 1 for pair in map_layers("pkd-last", 6, 12)] == [7, 8, 9, 10, 11]
    assert [pair.teacher + 1 for pair in map_layers("pkd-skip", 3, 12)] == [4, 8]
    assert [pair.teacher + 1 for pair in map_layers("pkd-last", 3, 12)] == [10, 11]
    assert [(pair.student, pair.teacher) for pair in map_layers("last", 6, 12)] == [(5, 11)]  # MiniLM
    assert teachers("first-last", 1, 12) == [11]
    assert teachers("uniform", 5, 12) == [2, 4, 7, 9, 11]  # does not divide: rounded up
    assert [(pair.student, pair.teacher) for pair in map_layers("last", 8, 6)] == [(7, 5)]


@given(st.integers(1, 12), st.data())
def test_a_list_is_taken_as_it_is(depth, data):
    layers = data.draw(st.lists(st.none() | st.integers(0, depth - 1), min_size=1, max_size=14))
    assume(any(layer is not None for layer in layers))
    pairs = map_layers(layers, len(layers), depth)
    assert {pair.student: pair.teacher for pair in pairs} == {
        place: layer for place, layer in enumerate(layers) if layer is not None
    }


@pytest.mark.parametrize(
    ("mapping", "depths", "message"),
    [
        ("unifrom", (4, 12), "unknown layer mapping 'unifrom'; allowed: uniform, .*; did you mean 'uniform'"),
        ("uniform", (12, 4), "12 layers, more than the teacher's 4"),
        ("uniform", (0, 4), "no layers"),
        ("distilbert", (6, 24), "takes 6 of 12 layers; here they are 6 of 24"),
        ("pkd-skip", (1, 12), "leaves the last layer out"),
        ([0, 1], (3, 12), "names 2 teacher layers, but the student has 3"),
        ([0, 12, 3], (3, 12), "names layer 12, but the teacher has 12 layers, 0 to 11"),
        ([None, None], (2, 12), "pairs no layers"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(mapping, depths, message):
    with pytest.raises(LayerMappingError, match=message):
        map_layers(mapping, *depths)


@given(st.integers(1, 16), st.integers(1, 6), st.booleans())
def test_groups_even_out_heads(fewer, factor, student_has_more):
    sides = (fewer * factor, fewer) if student_has_more else (fewer, fewer * factor)
    own, taught = head_groups(*sides, "group-mean")
    assert sides[0] // own == sides[1] // taught == fewer
    assert own * (sides[0] // own) == sides[0]
    assert taught * (sides[1] // taught) == sides[1]


@pytest.mark.parametrize(
    ("heads", "rule", "message"),
    [
        ((4, 12), "same", "4 heads in the student's layer, 12 in the teacher's: set `heads: group-mean`"),
        ((5, 12), "group-mean", "5 does not divide 12"),
        ((0, 12), "group-mean", "no attention to compare"),
        ((0, 0), "same", "no attention to compare"),
    ],
)
def test_heads_that_cannot_be_paired_are_refused(heads, rule, message):
    with pytest.raises(LayerMappingError, match=message):
        head_groups(*heads, rule)


def test_strategies_serve_initialisation_too():
    assert choose_layers("uniform", 3, 12) == (3, 7, 11)
    assert choose_layers("first-last", 3, 12) == (0, 6, 11)


def test_no_torch_is_needed():
    code = "import sys, compression.distillation.comparison; print({'torch', 'transformers'} & set(sys.modules))"
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "set()"
