from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name, _validate_param, _validate_tag

from tasks import tracking_values

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=20), inner, max_size=3),
    max_leaves=10,
)
_MAPPINGS = st.dictionaries(st.text(max_size=300), _JSON, max_size=5)


@given(_MAPPINGS)
def test_mlflow_takes_every_parameter_as_it_is(nested):
    for name, value in tracking_values.parameters(nested).items():
        checked = _validate_param(name, value)
        assert (checked.key, checked.value) == (name, value)  # not cut


@given(_MAPPINGS)
def test_mlflow_takes_every_tag_as_it_is(given_tags):
    for name, value in tracking_values.tag_texts(given_tags).items():
        assert _validate_tag(name, value).value == value


@given(_MAPPINGS)
def test_mlflow_takes_every_metric_name(nested):
    for name, value in tracking_values.numbers(nested).items():
        _validate_metric_name(name)
        assert isinstance(value, float)


@given(st.text(min_size=300, max_size=400), st.text(min_size=1, max_size=5), st.text(min_size=1, max_size=5))
def test_long_texts_that_differ_at_the_end_stay_apart(start, one_end, other_end):
    one, other = tracking_values.shorten(start + one_end, 100), tracking_values.shorten(start + other_end, 100)
    assert (one == other) == (one_end == other_end)
    assert len(one) == 100


def test_long_names_that_differ_at_the_end_stay_apart():
    names = {tracking_values.valid_name("layer" * 60 + end) for end in ("query", "key")}
    assert len(names) == 2
    assert {len(name) for name in names} == {250}


@given(st.lists(st.text(max_size=200)))
def test_a_note_fits_and_its_lines_stay_whole(lines):
    whole = "\n".join(lines)
    note = tracking_values.note(whole)
    assert len(note) <= 8000
    if note != whole:
        kept = note.rsplit("\n\n", 1)[0]
        assert whole.startswith(kept)
        assert whole[len(kept)] == "\n"


_NAMES = st.text("abc", min_size=1, max_size=3)
_NESTED = st.recursive(
    st.integers() | st.lists(st.integers(), max_size=2), lambda inner: st.dictionaries(_NAMES, inner, max_size=3)
)


@given(st.dictionaries(_NAMES, _NESTED, max_size=3))
def test_flattening_keeps_every_leaf_and_where_it_was(nested):
    rebuilt = {}
    for joined, value in tracking_values.flatten(nested).items():
        *groups, last = joined.split(".")
        level = rebuilt
        for group in groups:
            level = level.setdefault(group, {})
        level[last] = value
    assert rebuilt == nested


class _Requests:
    def __init__(self):
        self.seen = []

    def log_batch(self, run_id, metrics, params, tags):
        self.seen.append((len(metrics), len(params), len(tags)))


def test_requests_keep_within_mlflows_limits():
    client = _Requests()
    metrics = tracking_values.points({f"m{number}": 1.0 for number in range(1700)}, 0)
    params, tags = {f"p{number}": "x" for number in range(250)}, {f"t{number}": "x" for number in range(120)}
    tracking_values.write(client, "run", metrics=metrics, params=params, tags=tags)
    assert client.seen == [(800, 100, 100), (800, 100, 20), (100, 50, 0)]
    tracking_values.write(client, "run")
    assert len(client.seen) == 3
