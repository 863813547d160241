import pytest

from compression.architecture.labels import label_fields, output_order
from compression.errors import CheckpointError


def test_outputs_are_matched_by_name_whatever_their_order():
    own = {0: "CONTRADICTION", 1: "NEUTRAL", 2: "ENTAILMENT"}
    assert output_order(own, ("entailment", "neutral", "contradiction")) == [2, 1, 0]


@pytest.mark.parametrize(
    ("own", "labels"),
    [({0: "LABEL_0", 1: "LABEL_1"}, ("no", "yes")), ({0: "negative", 1: "positive"}, ("0", "1"))],
)
def test_numbers_for_names_are_positions(own, labels):
    assert output_order(own, labels) == [0, 1]


def test_other_names_or_numbers_of_labels_are_refused():
    with pytest.raises(CheckpointError, match="not the task's"):
        output_order({0: "neg", 1: "pos"}, ("negative", "positive"))
    with pytest.raises(CheckpointError, match="2 outputs"):
        output_order({0: "a", 1: "b"}, ("a", "b", "c"))
    with pytest.raises(CheckpointError, match="the task 1"):
        output_order({0: "a", 1: "b"}, ())


def test_regression_has_one_output():
    assert output_order(label_fields((), "regression")["id2label"], ()) == [0]
