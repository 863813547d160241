import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from compression.data.corpus_files import read_documents
from compression.errors import DataError


def read(path: Path, content: str | bytes | None = None, *, text="text", encoding="utf-8", boundary="line"):
    if isinstance(content, str):
        path.write_text(content, encoding=encoding)
    elif content is not None:
        path.write_bytes(content)
    return list(read_documents(path, text=text, encoding=encoding, boundary=boundary))


@pytest.mark.parametrize(
    ("boundary", "expected"),
    [
        ("line", [["One."], ["Two."], ["Three."]]),
        ("blank_line", [["One.", "Two."], ["Three."]]),
        ("file", [["One.", "Two.", "Three."]]),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_what_ends_a_document(tmp_path, boundary, expected, newline):
    content = "\ufeffOne.\n  Two. \n\n \nThree.".replace("\n", newline)
    assert read(tmp_path / "a.txt", content, boundary=boundary) == expected


def test_other_encodings_and_endings(tmp_path):
    assert read(tmp_path / "wiki.train.tokens", "Café\n", encoding="latin-1") == [["Café"]]
    assert read(tmp_path / "a.raw", "Café\n", encoding="utf-16") == [["Café"]]
    assert read(tmp_path / "a.txt", "\n \n") == []


def test_jsonl_texts_at_any_depth(tmp_path):
    records = [
        {"text": "One.\nTwo."},
        {"turns": [[{"text": "Hi"}], [{"text": ["a", None, "b"]}]]},
        {"text": None},
        "bare",
    ]
    lines = "\n\n".join(json.dumps(record) for record in records)
    assert read(tmp_path / "a.jsonl", lines) == [["One.", "Two."], ["Hi", "a", "b"], ["bare"]]


@pytest.mark.parametrize("wrap", [lambda records: records, lambda records: dict(enumerate(records))])
def test_json_elements_are_documents(tmp_path, wrap):
    records = [{"messages": [{"text": "a"}, {"text": "b"}]}, {"messages": [{"text": "c"}]}]
    assert read(tmp_path / "a.json", json.dumps(wrap(records), indent=1)) == [["a", "b"], ["c"]]


def test_tables(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"body": ["a\nb", None, "c"]}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet", text="body") == [["a", "b"], ["c"]]
    pyarrow.parquet.write_table(pyarrow.table({"body": [["a", "b"], []]}), tmp_path / "b.parquet")
    assert read(tmp_path / "b.parquet", text="body") == [["a", "b"]]
    assert read(tmp_path / "a.csv", 'n,body\n1,"x, y"\n2,\n', text="body") == [["x, y"]]
    assert read(tmp_path / "a.tsv", "n\tbody\n1\tx\n", text="body") == [["x"]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"fine\nfine\ncaf\xe9\n", r"a\.txt: line 3: byte 0xe9 is not utf-8.*latin-1"),
        ("a.jsonl", '{"text": "a"}\n{"text"\n', r"a\.jsonl: line 2 is not JSON"),
        ("a.jsonl", '{"text": "a"}\n{"txet": "a", "n": {"m": 1}}\n', r"line 2 has no field 'text'; its fields: m, n, txet.*did you mean 'txet'"),
        ("a.jsonl", '{"text": 5}\n', r"line 1: field 'text' holds int"),
        ("a.json", '{"a": {"text": "x"},\n "b": }', r"a\.json: line 2: not JSON"),
        ("a.json", "5", r"holds int where a list or mapping"),
        ("a.json", '{"a": {"txt": "x"}}', r"element 'a' has no field 'text'"),
        ("a.csv", "n,txt\n1,x\n", r"no column 'text'; its columns: n, txt.*did you mean 'txt'"),
        ("a.parquet", b"PAR1 not really", r"cannot be read as Parquet"),
    ],
)  # fmt: skip
def test_errors_name_file_and_line(tmp_path, name, content, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path / name, content)


def test_more_errors(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(DataError, match="unknown encoding 'utf-9'"):
        list(read_documents(tmp_path / "a.txt", text="text", encoding="utf-9", boundary="line"))
    pyarrow.parquet.write_table(pyarrow.table({"n": [1], "text": [1]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="no column 'body'; its columns: n, text"):
        read(tmp_path / "a.parquet", text="body")
    with pytest.raises(DataError, match="column 'text' holds int64"):
        read(tmp_path / "a.parquet")
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(DataError, match="is a folder"):
        read(tmp_path / "folder.txt")


def test_a_bad_byte_far_into_the_file_is_found_on_its_line(tmp_path):
    lines = [b"x" * 100] * 30_000  # three blocks of the decoder
    lines[25_000] = b"caf\xe9 " + b"y" * 95
    with pytest.raises(DataError, match="line 25001: byte 0xe9"):
        read(tmp_path / "a.txt", b"\n".join(lines))
    # A character that two blocks share.
    content = b"a" * ((1 << 20) - 1) + "é".encode() + b"\n\xff"
    with pytest.raises(DataError, match="line 2: byte 0xff"):
        read(tmp_path / "b.txt", content)
