"""Rows with any number of labels: lists of them, or a column for each."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from compression.data.config import TaskConfig
from compression.data.encoding import labels_of
from compression.data.label_sets import label_sets
from compression.data.load import check_task, fingerprint, load_task
from compression.data.tables import Table
from compression.errors import DataError

EVERY = ("train", "selection", "evaluation")


def task(**fields):
    return TaskConfig(**{"name": "moods", "files": {"train": "train.jsonl"}, "problem": "multi_label", **fields})


def write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def moods(number):
    return [name for place, name in enumerate(("anger", "fear", "joy")) if number >> place & 1]


def test_lists_of_labels(tmp_path):
    write(tmp_path / "train.jsonl", [{"text": f"text {n}", "label": moods(n)} for n in range(60)])
    data = load_task(task(), [tmp_path])
    assert (data.problem, data.labels, data.num_labels) == ("multi_label", ("anger", "fear", "joy"), 3)
    assert data.metrics == ("micro_f1", "macro_f1", "exact_match")
    for row in data.train.itertuples():
        assert row.label.tolist() == [(row.id - 1) >> place & 1 for place in range(3)]
    targets = labels_of(data.train)
    assert (targets.shape, targets.dtype) == ((len(data.train), 3), np.float32)


def test_a_column_for_each_label_gives_the_same_rows(tmp_path):
    write(tmp_path / "train.jsonl", [{"text": f"text {n}", "label": moods(n)} for n in range(60)])
    names = ("anger", "fear", "joy")
    flags = [[n >> place & 1 for place in range(3)] for n in range(60)]
    spellings = (("0", "1"), ("false", "True"))
    lines = [",".join([f"text {n}", *(spellings[n % 2][flag] for flag in row)]) for n, row in enumerate(flags)]
    (tmp_path / "train.csv").write_text("\n".join([",".join(["text", *names]), *lines]))
    columns = task(files={"train": "train.csv"}, label=names)
    assert load_task(columns, [tmp_path]).labels == names
    assert fingerprint(columns, [tmp_path], EVERY) == fingerprint(task(), [tmp_path], EVERY)
    limited = task(limit_train=10)
    assert len(load_task(limited, [tmp_path]).train) == 10


def test_one_flipped_label_changes_the_fingerprint(tmp_path):
    write(tmp_path / "train.jsonl", [{"text": f"text {n}", "label": moods(n)} for n in range(60)])
    before = fingerprint(task(), [tmp_path], EVERY)
    write(tmp_path / "train.jsonl", [{"text": f"text {n}", "label": moods(n + (n == 50))} for n in range(60)])
    assert fingerprint(task(), [tmp_path], EVERY) != before


@given(st.lists(st.sets(st.sampled_from("abcde")), min_size=1, max_size=30))
def test_indicators_are_membership(sets):
    table = Table("a.jsonl", ("label",), {"label": [sorted(labels) for labels in sets]}, range(1, len(sets) + 1))
    indicators, problems = label_sets(table, "label", "abcde")
    assert problems == []
    assert [{label for label, flag in zip("abcde", row, strict=True) if flag} for row in indicators] == sets


def test_problems_are_told_with_row_numbers(tmp_path):
    records = [{"text": f"text {n}", "label": moods(n)} for n in range(30)]
    records[2]["label"], records[4]["label"], records[6]["label"] = "joy", None, ["joy", "fare"]
    write(tmp_path / "train.jsonl", records)
    with pytest.raises(DataError) as raised:
        check_task(task(labels=["anger", "fear", "joy"]), [tmp_path])
    message = str(raised.value)
    assert "no list of labels in column 'label' at rows 3, 5 (given 'joy')" in message
    assert "unknown label 'fare' in column 'label' at row 7; allowed: anger, fear, joy" in message
    (tmp_path / "train.csv").write_text(
        "text,a,b\n" + "\n".join(f"text {n},{n % 2},{n if n == 7 else 1}" for n in range(20))
    )
    with pytest.raises(DataError, match=r"neither 0 nor 1 in column 'b' at row 8 \(line 9\) \(given '7'\)"):
        check_task(task(files={"train": "train.csv"}, label=["a", "b"]), [tmp_path])


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"label": ["a", "b"], "problem": "classification"}, "several label columns are for `problem: multi_label`"),
        ({"label": ["a", "b"], "labels": ["a", "b"]}, "leave out `labels`"),
        ({"label": ["a", "a"]}, "must differ"),
        ({"label": ["a"]}, "at least 2"),
    ],
)
def test_contradictions_are_refused(fields, reason):
    with pytest.raises(ValidationError, match=reason):
        task(**fields)
