import datasets
import pyarrow
import pyarrow.parquet
import pytest

from compression.data.config import TaskConfig
from compression.data.glue import GLUE_TASKS
from compression.data.load import _load, check_task, fingerprint, load_task
from compression.errors import DataError


def rows(task, count, start=0):
    """Columns of a GLUE task as the hub has them."""
    glue = GLUE_TASKS[task]
    classes = len(glue.labels)
    numbers = range(start, start + count)
    columns = {column: [f"{column} {number}" for number in numbers] for column in glue.text}
    columns["label"] = [number % classes if classes else number % 21 / 4 for number in numbers]
    return {**columns, "idx": list(numbers)}


def splits(task):
    return {"train": rows(task, 60), **{name: rows(task, 12, 100) for _, name in GLUE_TASKS[task].evaluation}}


def write(root, task, content):
    folder = root / "glue" / task
    folder.mkdir(parents=True, exist_ok=True)
    for name, columns in content.items():
        pyarrow.parquet.write_table(pyarrow.table(columns), folder / f"{name}.parquet")


@pytest.fixture
def no_hub(monkeypatch):
    def refuse(*given, **named):
        raise ConnectionError("no route to the hub\nand a second line")

    monkeypatch.setattr(datasets, "load_dataset", refuse)


@pytest.mark.parametrize("task", GLUE_TASKS)
def test_every_task_from_a_local_folder(tmp_path, no_hub, task):
    write(tmp_path, task, splits(task))
    data = load_task(TaskConfig(name=task), [tmp_path / "absent", tmp_path])
    glue = GLUE_TASKS[task]
    assert data.labels == glue.labels
    assert data.metrics == glue.metrics
    assert data.pair == (len(glue.text) == 2)
    assert data.problem == ("regression" if task == "stsb" else "classification")
    # Selection comes out of train; the reported split is whole.
    assert (len(data.train), len(data.selection)) == (54, 6)
    assert {key: len(frame) for key, frame in data.evaluation.items()} == {key: 12 for key, _ in glue.evaluation}
    assert data.train.text.tolist() == [f"{glue.text[0]} {number - 1}" for number in data.train.id]
    if data.pair:
        assert data.train.text_pair.tolist() == [f"{glue.text[1]} {number - 1}" for number in data.train.id]


def test_mnli_reports_matched_and_mismatched(tmp_path, no_hub):
    content = splits("mnli")
    content["validation_mismatched"] = rows("mnli", 5, 500)
    write(tmp_path, "mnli", content)
    data = load_task(TaskConfig(name="mnli"), [tmp_path])
    assert data.evaluation["mismatched"].text.tolist() == [f"premise {number}" for number in range(500, 505)]
    assert data.evaluation[""].text.tolist() == [f"premise {number}" for number in range(100, 112)]
    assert load_task(TaskConfig(name="nli", glue="mnli"), [tmp_path]).labels == data.labels


def test_the_hub_gives_the_same_as_a_folder(tmp_path, monkeypatch):
    asked = []

    def serve(name, task, *, split):
        asked.append((name, task, tuple(split)))
        return [datasets.Dataset.from_dict(splits(task)[part]) for part in split]

    monkeypatch.setattr(datasets, "load_dataset", serve)
    write(tmp_path, "mnli", splits("mnli"))
    config = TaskConfig(name="mnli")
    every = ("train", "selection", "evaluation")
    assert fingerprint(config, [], every) == fingerprint(config, [tmp_path], every)
    assert asked == [("nyu-mll/glue", "mnli", ("train", "validation_matched", "validation_mismatched"))]
    _load.cache_clear()


def test_an_unreachable_hub_names_both_places(tmp_path, no_hub):
    with pytest.raises(DataError) as raised:
        load_task(TaskConfig(name="rte"), [tmp_path])
    message = str(raised.value)
    assert str(tmp_path / "glue" / "rte") in message
    assert "'nyu-mll/glue' cannot be loaded (ConnectionError: no route to the hub)" in message
    assert "put train.parquet, validation.parquet into glue/rte/" in message


def test_a_folder_that_lacks_a_split_is_not_completed_from_the_hub(tmp_path, no_hub):
    write(tmp_path, "sst2", {"train": rows("sst2", 20)})
    with pytest.raises(DataError, match=r"validation.parquet' does not exist"):
        check_task(TaskConfig(name="sst2"), [tmp_path])


@pytest.mark.parametrize(
    ("task", "label", "reason"),
    [
        ("sst2", -1, r"no label \(nothing, or -1\) in column 'label' at row 3"),
        ("sst2", None, r"no label \(nothing, or -1\) in column 'label' at row 3"),
        ("sst2", 2, "unknown label '2' in column 'label' at row 3; allowed: 0, 1"),
        ("stsb", -1.0, "no finite number of at least 0 in column 'label' at row 3"),
    ],
)
def test_rows_without_a_label_are_refused(tmp_path, no_hub, task, label, reason):
    content = splits(task)
    content["validation"]["label"][2] = label
    write(tmp_path, task, content)
    with pytest.raises(DataError, match=reason):
        check_task(TaskConfig(name=task), [tmp_path])


def test_empty_questions_of_the_published_set_are_kept_but_missing_ones_refused(tmp_path, no_hub):
    content = splits("qqp")
    content["validation"]["question2"][0] = ""
    write(tmp_path, "qqp", content)
    assert load_task(TaskConfig(name="qqp"), [tmp_path]).evaluation[""].text_pair[0] == ""
    content["validation"]["question2"][0] = None
    write(tmp_path, "qqp", content)
    with pytest.raises(DataError, match="empty text in column 'question2' at row 1"):
        check_task(TaskConfig(name="qqp"), [tmp_path])


def test_missing_columns_are_named(tmp_path, no_hub):
    write(tmp_path, "cola", {"train": {"text": ["a"], "label": [1]}, "validation": rows("cola", 3)})
    with pytest.raises(DataError, match=r"no column 'sentence' \(field `glue`\); the file has text, label"):
        check_task(TaskConfig(name="cola"), [tmp_path])
