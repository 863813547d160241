"""Questions and answers from every source, and what is said of malformed ones."""

import json

import datasets
import pyarrow
import pyarrow.parquet
import pytest
from pydantic import ValidationError

from compression.data.config import TaskConfig
from compression.data.load import check_task, fingerprint, load_task
from compression.errors import DataError

CONTEXT = "The Normans came in 1066. They won at Hastings in {number}."


def question(number, *, answered=True):
    context = CONTEXT.format(number=number)
    answer = {"text": "1066", "answer_start": context.index("1066")}
    other = {"text": "in 1066", "answer_start": context.index("in 1066")}
    return {
        "id": f"q{number}",
        "title": "normans",
        "context": context,
        "question": f"When did they come, {number}?",
        "answers": [answer, other] if answered else [],
    }


def as_on_the_hub(rows):
    return [
        {**row, "answers": {name: [answer[name] for answer in row["answers"]] for name in ("text", "answer_start")}}
        for row in rows
    ]


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        answers = pyarrow.struct(
            [("text", pyarrow.list_(pyarrow.string())), ("answer_start", pyarrow.list_(pyarrow.int64()))]
        )
        columns = {name: [row[name] for row in as_on_the_hub(rows)] for name in rows[0]}
        columns["answers"] = pyarrow.array(columns["answers"], answers)
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in as_on_the_hub(rows)))
    else:
        qas = [{name: row[name] for name in ("id", "question", "answers")} for row in rows]
        paragraphs = [{"context": row["context"], "qas": [asked]} for row, asked in zip(rows, qas, strict=True)]
        path.write_text(json.dumps({"version": "1.1", "data": [{"title": "normans", "paragraphs": paragraphs}]}))
    return path


def task(ending="json", **fields):
    return TaskConfig(**{"name": "faq", "files": {"train": f"train.{ending}"}, "problem": "span", **fields})


@pytest.mark.parametrize("ending", ["json", "jsonl", "parquet"])
def test_every_form_gives_the_same_questions(tmp_path, ending):
    write(tmp_path / f"train.{ending}", [question(number) for number in range(40)])
    write(tmp_path / "other" / "train.json", [question(number) for number in range(40)])
    data = load_task(task(ending), [tmp_path])
    assert (data.problem, data.pair, data.labels, data.num_labels) == ("span", True, (), 2)
    assert data.metrics == ("f1", "exact_match")
    assert (len(data.train), len(data.selection), len(data.evaluation[""])) == (32, 4, 4)
    for row in data.train.itertuples():
        number = row.id - 1
        assert row.name == f"q{number}"
        assert (row.text, row.text_pair) == (f"When did they come, {number}?", CONTEXT.format(number=number))
        assert row.answers == ("1066", "in 1066")
        start, end = row.label
        assert row.text_pair[start:end] == "1066"
    every = ("train", "selection", "evaluation")
    other = task(files={"train": "other/train.json"})
    assert fingerprint(task(ending), [tmp_path], every) == fingerprint(other, [tmp_path], every)


def test_squad_by_name_from_a_folder_and_from_the_hub(tmp_path, monkeypatch):
    content = {"train": [question(n) for n in range(30)], "validation": [question(n) for n in range(90, 99)]}
    for split, rows in content.items():
        write(tmp_path / "squad" / f"{split}.parquet", rows)
    asked = []

    def serve(name, *, split):
        asked.append((name, tuple(split)))
        return [datasets.Dataset.from_list(as_on_the_hub(content[part])) for part in split]

    monkeypatch.setattr(datasets, "load_dataset", serve)
    config = TaskConfig.model_validate("squad")
    data = load_task(config, [tmp_path])
    assert (config.max_length, data.problem) == (384, "span")
    assert (len(data.train), len(data.selection), len(data.evaluation[""])) == (27, 3, 9)
    assert fingerprint(config, [tmp_path], ["train"]) == fingerprint(config, [], ["train"])
    assert asked == [("rajpurkar/squad", ("train", "validation"))]


def test_questions_of_one_context_are_never_on_both_sides(tmp_path):
    rows = [{**question(number // 5), "question": f"Question {number}?"} for number in range(100)]
    write(tmp_path / "train.json", rows)
    data = load_task(task(), [tmp_path])
    contexts = [set(frame["text_pair"]) for frame in (data.train, data.selection, data.evaluation[""])]
    assert sum(map(len, contexts)) == len(set.union(*contexts)) == 20


def test_a_question_without_an_answer_is_allowed_where_the_task_says_so(tmp_path):
    rows = [question(number, answered=number % 3 > 0) for number in range(30)]
    write(tmp_path / "train.json", rows)
    with pytest.raises(
        DataError, match=r"no answer in column 'answers' at rows 1, 4, 7, 10, 13 and 5 more.*unanswerable"
    ):
        check_task(task(), [tmp_path])
    config = task(span={"unanswerable": True})
    data = load_task(config, [tmp_path])
    silent = data.train[data.train["answers"].map(len) == 0]
    assert len(silent)
    assert all(row.label.tolist() == [-1, -1] for row in silent.itertuples())
    # The reported split is measured with a threshold that is chosen on the selection split, and so depends on both.
    fewer = task(span={"unanswerable": True}, limit_selection=1)
    assert fingerprint(config, [tmp_path], ["evaluation"]) != fingerprint(fewer, [tmp_path], ["evaluation"])


def test_every_problem_is_told_at_once_with_row_numbers(tmp_path):
    rows = [question(number) for number in range(20)]
    rows[2]["answers"][0]["answer_start"] += 1
    rows[4]["answers"][1]["text"] = "in 1067"
    rows[6]["answers"] = [{"text": "1066"}]
    rows[8]["context"] = ""
    rows[9]["question"] = None
    write(tmp_path / "train.json", rows)
    with pytest.raises(DataError) as raised:
        check_task(task(), [tmp_path])
    message = str(raised.value)
    assert "4 problems" in message
    assert "empty text in column 'question' at row 10" in message
    assert "empty text in column 'context' at row 9" in message
    assert "no answers in column 'answers' at row 7; each needs a text and a place" in message
    assert "not where column 'answers' says at rows 3, 5, 9 ('1066' at character 21, where there is '066.')" in message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not JSON: .* on line 1, column 2"),
        ("[]", "the file has no list 'data'"),
        ('{"data": [{}]}', r"data\[0\] has no list 'paragraphs'"),
        ('{"data": [{"paragraphs": [{"context": "a"}]}]}', r"data\[0\].paragraphs\[0\] has no list 'qas'"),
        ('{"data": [{"paragraphs": [{"context": "a", "qas": [1]}]}]}', r"paragraphs\[0\].qas\[0\] is no object"),
    ],
)
def test_files_that_are_not_squads_are_refused(tmp_path, content, said):
    (tmp_path / "train.json").write_text(content)
    with pytest.raises(DataError, match=said):
        check_task(task(), [tmp_path])


def test_impossible_questions_of_version_2_may_leave_their_answers_out(tmp_path):
    rows = [question(number) for number in range(20)]
    write(tmp_path / "train.json", rows)
    document = json.loads((tmp_path / "train.json").read_text())
    for paragraph in document["data"][0]["paragraphs"][:10]:
        asked = paragraph["qas"][0]
        asked["plausible_answers"], asked["is_impossible"] = asked.pop("answers"), True
    (tmp_path / "train.json").write_text(json.dumps(document))
    data = load_task(task(span={"unanswerable": True}), [tmp_path])
    frames = (data.train, data.selection, data.evaluation[""])
    assert sum((frame["answers"].map(len) == 0).sum() for frame in frames) == 10


FILES = {"train": "train.json"}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"files": {"train": "a.csv"}, "problem": "span"}, "answers do not fit into a .csv file"),
        ({"files": FILES, "problem": "span", "text": "question"}, "two text columns"),
        ({"files": FILES, "problem": "span", "labels": ["a", "b"]}, "leave it out for span"),
        ({"files": FILES, "problem": "span", "truncation": "tail"}, "for a task with one text"),
        ({"files": FILES}, "a .json file is read as SQuAD's, for `problem: span`"),
        ({"files": {"train": "a.csv"}, "span": {"stride": 5}}, "`span` is for a task that predicts spans"),
        ({"squad": "squad_v2", "span": {"unanswerable": True}}, "leave out span.unanswerable"),
        ({"squad": "squad", "problem": "span"}, "leave out problem"),
        ({"squad": "squad3"}, "unknown version of SQuAD 'squad3'.*did you mean 'squad'"),
        ({"squad": "squad", "glue": "sst2"}, "either `files` or the name of a published task"),
    ],
)
def test_contradictions_are_refused(fields, reason):
    with pytest.raises(ValidationError, match=reason):
        TaskConfig(name="mine", **fields)


def test_a_span_task_survives_a_round_trip():
    for config in (TaskConfig.model_validate("squad_v2"), task(span={"stride": 5}, max_length=64)):
        assert TaskConfig.model_validate_json(config.model_dump_json()) == config
        assert hash(config) is not None
