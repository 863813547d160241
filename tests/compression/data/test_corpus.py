import json
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from pydantic import ValidationError
from tiny_models import frame

from compression.data.config import TaskConfig
from compression.data.corpus import Corpus, fingerprint, pinned
from compression.data.corpus_config import CorpusConfig
from compression.errors import DataError


def write(folder: Path, **files: str) -> Path:
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_txt", ".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


def documents(config: CorpusConfig, *roots: Path) -> list[str]:
    return [" ".join(document) for document in Corpus(config, roots).documents()]


def test_files_in_order_and_patterns_sorted_each_once(tmp_path):
    write(tmp_path, b_txt="b\n", a_txt="a\n", deep__er__c_txt="c\n")
    assert documents(CorpusConfig(files=("b.txt", "*.txt")), tmp_path) == ["b", "a"]
    assert documents(CorpusConfig(files="**/*.txt"), tmp_path) == ["a", "b", "c"]
    assert documents(CorpusConfig(files=f"{tmp_path}/deep/*/?.txt")) == ["c"]
    other = write(tmp_path / "other", a_txt="other\n")
    assert documents(CorpusConfig(files="*.txt"), other, tmp_path) == ["other"]


def test_files_of_a_package(tmp_path, monkeypatch):
    write(tmp_path, corpuspackage__texts__a_txt="a\n")
    (tmp_path / "corpuspackage" / "__init__.py").write_text("raise ImportError")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("package:corpuspackage/texts/a.txt", "package:corpuspackage/*/a.txt"):
        assert documents(CorpusConfig.model_validate(name)) == ["a"]
    assert "corpuspackage" not in sys.modules


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ("c.txt", "does not exist"),
        ("c*.txt", "matches no file; looked in"),
        ("x/*.txt", "does not exist"),
        ("*/../a.txt", "cannot follow a wild card"),
        ("../*.txt", "leaves"),
        ("package:nowhere_at_all/a.txt", "no package 'nowhere_at_all'"),
    ],
)
def test_files_that_are_not_there(tmp_path, files, message):
    write(tmp_path, a_txt="a\n")
    with pytest.raises(DataError, match=message):
        documents(CorpusConfig(files=files), tmp_path)
    with pytest.raises(DataError, match=message):
        fingerprint(CorpusConfig(files=files), [tmp_path])


def test_fingerprint_is_of_content_not_of_places(tmp_path):
    one = write(tmp_path / "one", a_txt="a\n", b_txt="b\n")
    two = write(tmp_path / "two", x_txt="a\n", y_txt="b\n")
    config = CorpusConfig(files=("*.txt",))
    first = fingerprint(config, [one])
    assert first == fingerprint(config, [two]) == fingerprint(CorpusConfig(files=("a.txt", "b.txt")), [one])
    assert first != fingerprint(CorpusConfig(files=("b.txt", "a.txt")), [one]), "order counts"
    assert first != fingerprint(CorpusConfig(files=("a.txt",)), [one])
    assert first != fingerprint(CorpusConfig(files="*.txt", encoding="latin-1"), [one])
    write(two, y_txt="c\n")
    assert first != fingerprint(config, [two])


def test_fingerprint_finds_empty_files_and_wrong_bytes(tmp_path):
    write(tmp_path, a_txt="")
    with pytest.raises(DataError, match="the file is empty"):
        fingerprint(CorpusConfig(files="a.txt"), [tmp_path])
    (tmp_path / "b.txt").write_bytes(b"ok\n\xff")
    with pytest.raises(DataError, match="line 2: byte 0xff"):
        fingerprint(CorpusConfig(files="b.txt"), [tmp_path])


@pytest.fixture(params=["parquet", "jsonl"])
def dataset(tmp_path, request) -> Path:
    folder = tmp_path / "set"
    folder.mkdir()
    for split, texts in (("train", ["One.\nTwo.", "", "Three."]), ("test", ["Four."])):
        if request.param == "parquet":
            table = pyarrow.table({"n": list(range(len(texts))), "body": texts})
            pyarrow.parquet.write_table(table, folder / f"{split}.parquet")
        else:
            lines = [json.dumps({"n": number, "body": text}) for number, text in enumerate(texts)]
            (folder / f"{split}.jsonl").write_text("\n".join(lines))
    return folder


def test_data_sets_are_streamed(dataset, tmp_path, monkeypatch):
    import datasets

    seen = {}
    load = datasets.load_dataset

    def noted(*arguments, **options):
        seen.update(options)
        return load(*arguments, **options)

    monkeypatch.setattr(datasets, "load_dataset", noted)
    assert documents(CorpusConfig(dataset="set", text="body"), tmp_path) == ["One. Two.", "Three."]
    assert documents(CorpusConfig(dataset=str(dataset), text="body", split="test")) == ["Four."]
    assert seen["streaming"] is True


def test_data_set_errors(dataset, tmp_path):
    for changes, message in (
        ({"text": "boddy"}, "no column 'boddy'; its columns: n, body; did you mean 'body'"),
        ({"text": "n"}, "column 'n' holds int"),
        ({"text": "body", "split": "trein"}, "Bad split: trein"),
        ({"text": "body", "config": "other"}, "'other' not found"),
    ):
        with pytest.raises(DataError, match=message):
            documents(CorpusConfig(dataset="set", **changes), tmp_path)
    with pytest.raises(DataError, match="'nobody/nothing train' cannot be loaded"):
        documents(CorpusConfig(dataset="nobody/nothing"), tmp_path)


def test_fingerprint_of_data_sets(dataset, tmp_path, monkeypatch):
    config = CorpusConfig(dataset="set", text="body")
    first = fingerprint(config, [tmp_path])
    assert first != fingerprint(config.model_copy(update={"split": "test"}), [tmp_path])
    file = next(dataset.glob("train.*"))
    file.write_bytes(file.read_bytes() + b" ")
    assert first != fingerprint(config, [tmp_path])
    hub = CorpusConfig(dataset="some/set")
    assert pinned(hub, [tmp_path], online=False) is None
    assert pinned(config, [tmp_path], online=False) is config
    commits = {None: "a" * 40, "v1": "b" * 40}

    class Hub:
        def dataset_info(self, name, revision):
            assert name == "some/set"
            return type("Info", (), {"sha": commits[revision]})

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    asked = fingerprint(hub, [tmp_path])
    assert pinned(hub, [tmp_path]).revision == "a" * 40
    assert asked != fingerprint(hub.model_copy(update={"revision": "v1"}), [tmp_path])
    # A commit says everything by itself: the hub is not asked.
    monkeypatch.setattr("huggingface_hub.HfApi", None)
    known = hub.model_copy(update={"revision": "a" * 40})
    assert asked == fingerprint(known, [tmp_path])
    assert pinned(known, [tmp_path], online=False) == known


def test_task_rows_are_the_training_rows_alone(tmp_path):
    rows = frame(60, 1)
    rows[["text", "label"]].to_csv(tmp_path / "films.csv", index=False)
    task = TaskConfig(name="films", files={"train": "films.csv"})
    from compression.data.load import load_task

    data = load_task(task, [tmp_path])
    corpus = Corpus(CorpusConfig(task_rows=True), (tmp_path,), task)
    assert [" ".join(document) for document in corpus.documents()] == data.train["text"].tolist()
    assert fingerprint(corpus.config, [tmp_path]) is None
    assert len(corpus.identity()) == 64


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "exactly one of dataset, files, task_rows"),
        ({"files": ["a.txt"], "task_rows": True}, "given files, task_rows"),
        ({"files": ["a.doc"]}, "unknown kind of file 'a.doc'"),
        ({"files": ["a.txt"], "revision": "main"}, "`revision` belongs to a data set"),
        ({"files": []}, "at least 1"),
    ],
)
def test_contradictions(given, message):
    with pytest.raises(ValidationError, match=message):
        CorpusConfig.model_validate(given)
