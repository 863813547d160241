import csv
import json

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compression.data.tables import read_table
from compression.errors import DataError

# What all four formats can carry: no lone surrogates; and for TSV no tab, line break or leading quote.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


def write(path, content, encoding="utf-8"):
    path.write_bytes(content.encode(encoding))
    return path


@given(values=st.lists(TEXT, min_size=1, max_size=8))
def test_csv_jsonl_and_parquet_give_back_what_was_written(tmp_path_factory, values):
    folder = tmp_path_factory.mktemp("tables")
    with (folder / "a.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerows([["text", "other"], *([value, "x"] for value in values)])
    write(folder / "a.jsonl", "\n".join(json.dumps({"text": value}, ensure_ascii=False) for value in values))
    pyarrow.parquet.write_table(pyarrow.table({"text": values, "other": values}), folder / "a.parquet")
    for ending in ("csv", "jsonl", "parquet"):
        table = read_table(folder / f"a.{ending}", ["text", "absent"])
        assert table.columns == {"text": values}
        assert list(table.ids) == list(range(1, len(values) + 1))


def test_csv_rows_know_their_lines(tmp_path):
    path = write(tmp_path / "a.csv", 'text,label\r\n"two\r\nlines",1\r\n\r\nplain,0\r\n"a\rcarriage",1\r\nlast,0\r\n')
    table = read_table(path, ["text", "label"])
    assert table.columns["text"] == ["two\r\nlines", "plain", "a\rcarriage", "last"]
    assert table.lines == [2, 5, 6, 8]
    assert table.where([0, 3]) == "rows 1, 4 (lines 2, 8)"


def test_only_the_first_places_are_listed(tmp_path):
    table = read_table(write(tmp_path / "a.csv", "text\n" + "x\n" * 9), ["text"])
    assert table.where(list(range(9))) == "rows 1, 2, 3, 4, 5 (lines 2, 3, 4, 5, 6) and 4 more"


def test_words_that_pandas_takes_for_missing_values_stay_text(tmp_path):
    path = write(tmp_path / "a.csv", "text\nNA\nnull\nnan\nNone\n")
    assert read_table(path, ["text"]).columns["text"] == ["NA", "null", "nan", "None"]


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    assert read_table(write(tmp_path / "a.csv", "text\ngood\n", "utf-8-sig"), ["text"]).columns == {"text": ["good"]}


def test_latin_1(tmp_path):
    path = write(tmp_path / "a.csv", "text\ncafé\x85\n", "latin-1")
    assert read_table(path, ["text"], "latin-1").columns["text"] == ["café\x85"]


def test_tsv_takes_quotes_as_text(tmp_path):
    path = write(tmp_path / "a.tsv", 'text\tlabel\n"Gold" rises\t1\n"whole"\t0\nsaid "no\t1\n')
    table = read_table(path, ["text", "label"])
    assert table.columns["text"] == ['"Gold" rises', '"whole"', 'said "no']
    assert table.where([2]) == "row 3 (line 4)"


def test_jsonl_ids_are_lines_and_blank_lines_count(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"text": "a\\u0085b", "label": 1}\n\n{"label": true}\r\n')
    table = read_table(path, ["text", "label"])
    assert list(table.ids) == [1, 3]
    assert table.columns == {"text": ["a\x85b", None], "label": [1, True]}


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", "", "file is empty"),
        ("a.tsv", "\n", "file is empty"),
        ("a.csv", "text,label\ngood,1\nwell, well,1\n", r"row 2 \(line 3\): 3 fields where the header has 2"),
        ("a.tsv", "text\tlabel\ngood 1\n", r"row 1 \(line 2\): 1 fields where the header has 2"),
        ("a.csv", 'text,label\ngood,1\n"bad,0\nugly,0\n', "starts on line 3: .*quote left open"),
        ("a.csv", 'text,label\n"bad" film,0\n', "starts on line 2"),
        ("a.csv", "text,text\ngood,1\n", "'text' appears twice"),
        ("a.tsv", 'text\tlabel\n"said ""no"""\t1\n', "quotes have no meaning in TSV"),
        ("a.jsonl", '{"text": "a"}\n{"text": \n["a"]\n', r"line 2 is not JSON .*; line 3 is list"),
        ("a.parquet", "text,label\n", "cannot be read as Parquet"),
        ("a.xlsx", "", "unknown kind of file"),
    ],
)
def test_malformed_files_say_where(tmp_path, name, content, reason):
    with pytest.raises(DataError, match=reason) as raised:
        read_table(write(tmp_path / name, content), ["text", "label"])
    assert str(tmp_path / name) in str(raised.value)


def test_a_wrong_encoding_names_line_and_byte(tmp_path):
    path = write(tmp_path / "a.csv", "text\ngood\ncafé\n", "latin-1")
    with pytest.raises(DataError, match=r"line 3: byte 0xe9 is not utf-8; set `files.encoding`"):
        read_table(path, ["text"])
    with pytest.raises(DataError, match="unknown encoding 'latin-x'"):
        read_table(path, ["text"], "latin-x")


def test_a_folder_is_no_table(tmp_path):
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(DataError, match="is a folder"):
        read_table(tmp_path / "a.csv", ["text"])
