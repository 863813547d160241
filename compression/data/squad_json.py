"""Reads files in SQuAD's own JSON format: articles of paragraphs of questions."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compression.data.squad import ANSWERS, CONTEXT, QUESTION
from compression.data.tables import SHOWN, Table, and_more, decode
from compression.errors import DataError

QUESTION_ID = "id"
_COLUMNS = (QUESTION_ID, QUESTION, CONTEXT, ANSWERS)


def read_squad_json(path: Path, encoding: str = "utf-8") -> Table:
    """Read the questions of a file, one a row, with the columns of SQuAD on the hub.

    Args:
        path: the file, `{"data": [{"paragraphs": [{"context": …, "qas": [{"question": …, "answers": […]}]}]}]}`.
        encoding: its text encoding.

    Returns:
        Columns id, question, context and answers; rows are numbered in the order of the file.

    Raises:
        DataError: the file is no JSON, or built otherwise; names the places.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "faq.json"
        >>> question = {"id": "q1", "question": "When?", "answers": [{"text": "1066", "answer_start": 3}]}
        >>> _ = path.write_text(json.dumps({"data": [{"paragraphs": [{"context": "In 1066.", "qas": [question]}]}]}))
        >>> read_squad_json(path).columns["context"]
        ['In 1066.']
    """
    if path.is_dir():
        raise DataError(f"{path}: is a folder, not a file")
    try:
        document = json.loads(decode(path, encoding))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: not JSON: {error.msg} on line {error.lineno}, column {error.colno}") from None
    problems: list[str] = []
    records = list(_records(document, problems))
    if problems:
        raise DataError(f"{path}: not as SQuAD's files are: {'; '.join(problems[:SHOWN])}{and_more(len(problems))}")
    columns = {name: [record.get(name) for record in records] for name in _COLUMNS}
    return Table(str(path), _COLUMNS, columns, range(1, len(records) + 1))


def _records(document: Any, problems: list[str]) -> Iterator[dict[str, Any]]:
    for article, place in _items(document, "data", "", problems):
        for paragraph, within in _items(article, "paragraphs", place, problems):
            for question, where in _items(paragraph, "qas", within, problems):
                if not isinstance(question, dict):
                    problems.append(f"{where} is no object")
                    continue
                # A question that is marked as impossible may leave its answers out.
                answers = question.get(ANSWERS, [] if question.get("is_impossible") is True else None)
                yield {**question, CONTEXT: paragraph.get(CONTEXT), ANSWERS: answers}


def _items(owner: Any, name: str, place: str, problems: list[str]) -> Iterator[tuple[Any, str]]:
    """The members of a list in an object, each with its place; notes what is no such object."""
    items = owner.get(name) if isinstance(owner, dict) else None
    if not isinstance(items, list):
        problems.append(f"{place or 'the file'} has no list {name!r}")
        return
    for index, item in enumerate(items):
        yield item, f"{place}{'.' if place else ''}{name}[{index}]"
