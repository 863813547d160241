"""YAML: values by the core schema, the line of each, and files that are refused."""

import math
import pickle
from pathlib import Path

import pytest

from flows.study_errors import Mark, Problem, StudyFileError, field_path, show
from flows.yaml_document import Document, read_document, read_value


def read(folder: Path, text: str) -> Document:
    path = folder / "study.yaml"
    path.write_text(text, encoding="utf-8")
    return read_document(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        ("5.e-5", 5e-5),
        (".5", 0.5),
        ("-1.5e+3", -1500.0),
        ("3", 3),
        ("010", 10),
        ("0x1f", 31),
        ("0o17", 15),
        ("'1e-4'", "1e-4"),
        ("1_000", "1_000"),
        ("no", "no"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("2020-01-01", "2020-01-01"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("e5", "e5"),
        ("1.2.3", "1.2.3"),
        ("[0, 1e-2, a]", [0, 0.01, "a"]),
        ("{a: 1}", {"a": 1}),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("!!str 5", "5"),
        ("!!float 5", 5.0),
    ],
)
def test_scalars_follow_the_core_schema(text: str, value: object) -> None:
    assert read_value(text) == value
    assert type(read_value(text)) is type(value)


def test_every_value_knows_its_line(tmp_path: Path) -> None:
    document = read(tmp_path, "a: 1\nb:\n  c: [x,\n      y]\n  d:\n    - e: 1\n      f: 2\n")
    lines = {("a",): 1, ("b",): 2, ("b", "c"): 3, ("b", "c", 1): 4, ("b", "d", 0): 6, ("b", "d", 0, "f"): 7}
    assert {path: document.mark(path).line for path in lines} == lines
    assert document.mark(("b", "c", 1, "not", "there")).line == 4


def test_keys_are_text(tmp_path: Path) -> None:
    assert read(tmp_path, "{64: a, true: b, null: c, 1e-4: d}").data == {
        "64": "a",
        "true": "b",
        "null": "c",
        "1e-4": "d",
    }


def test_aliases_and_merge_keys_give_independent_copies(tmp_path: Path) -> None:
    document = read(tmp_path, "base: &b {x: 1, y: [1]}\nuse: *b\nmore: {<<: *b, x: 2}\nboth: {<<: [{x: 5}, *b]}\n")
    assert document.data["use"] == {"x": 1, "y": [1]}
    assert document.data["more"] == {"x": 2, "y": [1]}
    assert document.data["both"] == {"x": 5, "y": [1]}
    document.data["use"]["y"].append(2)
    assert document.data["base"]["y"] == [1]


def test_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: x\r\nother: y\r\n")
    assert read_document(path).data == {"name": "x", "other": "y"}


_LAUGHS = "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{chr(97 + i)}: &{chr(97 + i)} [{','.join(['*' + chr(96 + i)] * 10)}]\n" for i in range(1, 9)
)
_MERGED_LAUGHS = "a: &a {x: 1}\n" + "".join(
    f"{chr(97 + i)}: &{chr(97 + i)} {{<<: [{','.join(['*' + chr(96 + i)] * 10)}]}}\n" for i in range(1, 9)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ":1: is empty"),
        ("# only a comment\n", ":1: is empty"),
        ("- a\n", ":1: must be a mapping with `name`, `teacher`, `tasks`, `variants`"),
        ("a: 1\nb: 2\na: 3\n", ":3: a: the key stands twice in this mapping; first in line 1"),
        ("a:\n\t- b\n", ":2: not valid YAML: while scanning for the next token, found character that cannot start any token; indent with spaces, not tabs"),
        ("a: b: c\n", ":1: not valid YAML: mapping values are not allowed in this context"),
        ("a: [1\nb: 2\n", ":2: not valid YAML: while parsing a flow sequence, did not find expected ',' or ']'"),
        ("a: 1\n---\nb: 2\n", ":2: not valid YAML: expected a single document in the stream, but found another document"),
        ("a: *nobody\n", ":1: not valid YAML: found undefined alias"),
        ("a: 1\nb: \x07\n", ":2: not valid YAML: control characters are not allowed"),
        ("? [a]\n: 1\n", ":1: a key must be plain text"),
        ("a: !!python/object/apply:os.system [ls]\n", ":1: tag 'tag:yaml.org,2002:python/object/apply:os.system' is not allowed"),
        ("a: 1\nb: !secret x\n", ":2: tag '!secret' is not allowed"),
        ("a: !!int many\n", ":1: 'many' is not a number or truth value that can be read"),
        (f"a: {'9' * 5000}\n", f":1: '{'9' * 40}' is not a number or truth value that can be read"),
        ("a: &a [*a]\n", ":1: nested deeper than 64 levels"),
        ("a: &a {<<: *a}\n", ":1: nested deeper than 64 levels"),
        ("[" * 900_000, ":1: nested deeper than 64 levels"),
        ("a: " + "{a: " * 100 + "1" + "}" * 100, ":1: nested deeper than 64 levels"),
        ("a: {<<: 3}\n", ":1: `<<` must name a mapping or a list of mappings"),
        (_LAUGHS, ":1: has more than 200,000 values once aliases are expanded"),
        (_MERGED_LAUGHS, ":1: has more than 200,000 values once aliases are expanded"),
        ("x" * 1_000_001, ": is larger than 1,000,000 bytes, which no study needs"),
    ],
)  # fmt: skip
def test_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(StudyFileError) as caught:
        read(tmp_path, text)
    assert str(caught.value).replace(str(tmp_path / "study.yaml"), "") == message


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_bytes(b"a: \xff")
    with pytest.raises(StudyFileError, match=r"study\.yaml: is not UTF-8 text: byte 3 is 0xff"):
        read_document(tmp_path / "study.yaml")
    with pytest.raises(StudyFileError, match=r"studi\.yaml: no such file; did you mean 'study\.yaml'\?"):
        read_document(tmp_path / "studi.yaml")
    with pytest.raises(StudyFileError, match="cannot be read"):
        read_document(tmp_path)


def test_environment_is_not_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hidden")
    assert read(tmp_path, "a: $SECRET ${SECRET} ~\n").data == {"a": "$SECRET ${SECRET} ~"}


def test_the_error_survives_pickling() -> None:
    error = StudyFileError("s.yaml", [Problem(Mark(("b",), 2), "wrong"), Problem(Mark(("a",), 1), "wrong")])
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301  # what Prefect does with a flow's exception
    assert str(copy) == str(error) == "s.yaml:1: a: wrong\ns.yaml:2: b: wrong"


def test_values_and_paths_in_messages() -> None:
    assert show("x" * 100) == "'" + "x" * 58 + "…"
    assert show(None) == "nothing"
    assert show([1, None, True]) == "[1, null, true]"
    assert field_path((0, "a b", "c", 2)) == '[0]["a b"].c[2]'
