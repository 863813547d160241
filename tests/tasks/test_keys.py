import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compression.training.config import TrainingConfig
from tasks import keys

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)


@given(json_values)
def test_the_canonical_form_is_json_and_a_fixed_point(value):
    canonical = keys.canonical(value)
    assert json.loads(json.dumps(canonical, allow_nan=False)) == canonical
    assert keys.canonical(canonical) == canonical


@given(st.dictionaries(st.text(max_size=5), json_values, min_size=2, max_size=5))
def test_the_order_of_a_mapping_does_not_count(mapping):
    backwards = dict(reversed(list(mapping.items())))
    assert keys.digest(mapping) == keys.digest(backwards)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1e-4, 0.0001),
        (3, 3.0),
        (-0.0, 0.0),
        ((1, 2), [1, 2]),
        (Path("a/./b/../c"), Path("a/c")),
        ({"a", "b"}, {"b", "a"}),
        (TrainingConfig(epochs=3), TrainingConfig(epochs=3.0)),
    ],
)
def test_equal_meanings_have_one_digest(one, other):
    assert keys.digest(one) == keys.digest(other)


@pytest.mark.parametrize(("one", "other"), [(1, "1"), (1, True), (None, "null"), (0.1, 0.1 + 1e-17 + 1e-16), ([], {})])
def test_different_meanings_have_different_digests(one, other):
    assert keys.digest([one]) != keys.digest([other])


@pytest.mark.parametrize("value", [object(), b"bytes", lambda: 0, {1: 2}, type])
def test_what_has_no_stable_meaning_is_refused(value):
    with pytest.raises(TypeError):
        keys.digest({"value": value})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_refused(value):
    with pytest.raises(ValueError, match="cache key"):
        keys.digest(value)


def test_the_digest_is_the_same_in_another_process():
    value = {"set": {"x", "y", "z"}, "float": 0.1, "nested": [{"b": None, "a": (1, 2)}]}
    program = f"from tasks import keys; print(keys.digest({value!r}))"
    results = {
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert results == {keys.digest(value) + "\n"}
