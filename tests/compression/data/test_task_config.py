import pytest
from pydantic import ValidationError

from compression.data.config import TaskConfig

FILES = {"train": "a.csv"}


def test_a_glue_name_is_enough():
    assert TaskConfig.model_validate("mrpc").glue == "mrpc"
    assert TaskConfig.model_validate({"name": "mine", "glue": "mrpc"}).glue == "mrpc"
    assert TaskConfig(name="sst2", files=FILES).glue is None


def test_labels_may_be_integers_and_survive_a_round_trip():
    config = TaskConfig(name="a", files=FILES, labels=[-1, 0, 1], text=["a", "b"])
    assert config.labels == ("-1", "0", "1")
    assert TaskConfig.model_validate_json(config.model_dump_json()) == config
    glue = TaskConfig(name="sst2")
    assert TaskConfig.model_validate(glue.model_dump(mode="json")) == glue
    assert hash(config) != hash(glue)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"files": FILES, "labels": [True, False]}, "must be quoted"),
        ({"files": FILES, "labels": ["a", "a"]}, "listed twice"),
        ({"files": FILES, "labels": ["a"]}, "at least 2"),
        ({"files": FILES, "labels": "ab"}, "valid tuple"),
        ({"files": FILES, "labels": ["a", "b"], "problem": "regression"}, "belongs to classification"),
        ({"files": FILES, "text": ["a", "a"]}, "must differ"),
        ({"files": FILES, "text": "label"}, "must differ"),
        ({"files": {"train": "a.xml"}}, "must end in .csv, .tsv, .jsonl, .parquet, .json"),
        ({"files": {"train": "a.csv", "evaluation": "b"}}, "must end in"),
        ({"files": FILES, "glue": "sst2"}, "either `files` or"),
        ({}, "either `files` or"),
        ({"glue": "sst3"}, "unknown GLUE task 'sst3'; allowed: cola.*; did you mean 'sst2'"),
        ({"glue": "sst2", "problem": "regression", "label": "x"}, "leave out label, problem"),
    ],
)
def test_contradictions_are_refused(fields, reason):
    with pytest.raises(ValidationError, match=reason):
        TaskConfig(name="mine", **fields)
