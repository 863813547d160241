"""Questions with their contexts as word pieces: windows over long contexts, and where each piece stands in the text."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compression.control import Control
from compression.data.config import SpanConfig
from compression.data.encoding import Encoded
from compression.errors import UserError

if TYPE_CHECKING:
    import pandas
    from transformers import PreTrainedTokenizerBase

_TEXTS_A_CALL = 1024
NOWHERE = -1
"""Offset of word pieces that are no part of the context."""

Pieces = tuple[NDArray[np.int32], NDArray[np.int32]]
"""Word pieces of a text (n,), and the characters where each starts and ends (n, 2)."""


@dataclass(frozen=True)
class SpanFeatures:
    """Windows of questions with their contexts: what a model sees. A row has one or more.

    Attributes:
        encoded: the windows; `labels` (windows, 2) are the first and last word piece of the answer, both that of the
            first special token where the window does not hold the whole answer.
        rows: (windows,) int64 position in the frame of the row that a window belongs to, ascending.
        offsets: for each window, the characters of the context where each word piece starts and ends (length, 2) int32;
            `NOWHERE` for the question and special tokens.
        no_answer: (windows,) int64 position of the first special token, on which models say that there is no answer.
    """

    encoded: Encoded
    rows: NDArray[np.int64]
    offsets: list[NDArray[np.int32]]
    no_answer: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)


def encode_spans(
    frame: "pandas.DataFrame",
    tokenizer: "PreTrainedTokenizerBase",
    max_length: int,
    config: SpanConfig,
    *,
    control: Control | None = None,
) -> SpanFeatures:
    """Tokenise questions and contexts (Devlin et al. 2018, arXiv:1810.04805, section 4.2).

    A context that does not fit beside its question is cut into windows that share `config.stride` word pieces, at most
    half of what fits. Contexts are tokenised once, however many questions they have.

    Args:
        frame: rows with `text` (question), `text_pair` (context) and `label` (characters where the answer starts and
            ends, -1 for none).
        tokenizer: a tokeniser that tells where word pieces stand in the text.
        max_length: longest window in word pieces, question and special tokens included.
        config: how to cut.
        control: where to look for a stop request.

    Returns:
        The windows, row by row and from the start of the context to its end.

    Raises:
        UserError: a tokeniser without offsets, or no room for a context.
        Interrupted: a stop was asked for.
    """
    if not tokenizer.is_fast:
        raise UserError(
            f"{type(tokenizer).__name__} does not tell where word pieces stand in a text, which spans need; "
            "use the tokenizer.json of the model"
        )
    control = control or Control()
    template = _Template.of(tokenizer)
    longest_question = min(config.max_question_length, (max_length - template.size) // 2)
    if longest_question < 1:
        raise UserError(f"max_length {max_length} leaves no room for a question and its context")
    questions = _distinct_pieces(frame["text"].tolist(), tokenizer, control)
    contexts = _distinct_pieces(frame["text_pair"].tolist(), tokenizer, control)
    input_ids: list[NDArray[np.int32]] = []
    types: list[NDArray[np.int32]] = []
    offsets: list[NDArray[np.int32]] = []
    rows: list[int] = []
    labels: list[tuple[int, int]] = []
    answers = np.array(frame["label"].tolist(), np.int64).reshape(-1, 2)
    for row, (question, context) in enumerate(zip(questions, contexts, strict=True)):
        asked = question[0][:longest_question]
        room = max_length - template.size - len(asked)
        answer = _answer_pieces(context[1], answers[row])
        for window in _windows(len(context[0]), room, config.stride):
            ids, segments, start = template.filled(asked, context[0][window])
            places = np.full((len(ids), 2), NOWHERE, np.int32)
            places[start : start + len(context[1][window])] = context[1][window]
            input_ids.append(ids)
            types.append(segments)
            offsets.append(places)
            rows.append(row)
            whole = answer is not None and window.start <= answer[0] and answer[1] < window.stop
            moved = start - window.start
            labels.append((answer[0] + moved, answer[1] + moved) if answer and whole else (template.no_answer,) * 2)
    has_types = "token_type_ids" in tokenizer.model_input_names
    encoded = Encoded(
        input_ids=input_ids,
        token_type_ids=types if has_types and any(segments.any() for segments in types) else None,
        labels=np.array(labels, np.int64).reshape(-1, 2),
        lengths=np.fromiter(map(len, input_ids), np.int64, len(input_ids)),
    )
    return SpanFeatures(encoded, np.array(rows, np.int64), offsets, np.full(len(rows), template.no_answer, np.int64))


def _windows(pieces: int, room: int, stride: int) -> Iterator[slice]:
    """Windows over a context: each shares `stride` pieces with the one before, and the last one ends with the text."""
    step = room - min(stride, room // 2)
    start = 0
    while True:
        yield slice(start, start + room)
        if start + room >= pieces:
            return
        start += step


def _answer_pieces(places: NDArray[np.int32], answer: NDArray[np.int64]) -> tuple[int, int] | None:
    """First and last word piece of an answer in its context; None for no answer, or one without any piece."""
    first, last = answer.tolist()
    inside = np.flatnonzero((places[:, 0] < last) & (places[:, 1] > first))
    return (int(inside[0]), int(inside[-1])) if first >= 0 and len(inside) else None


def _distinct_pieces(texts: Sequence[str], tokenizer: "PreTrainedTokenizerBase", control: Control) -> list[Pieces]:
    """Word pieces of every text; equal texts are tokenised once."""
    distinct = list(dict.fromkeys(texts))
    pieces: dict[str, Pieces] = {}
    for start in range(0, len(distinct), _TEXTS_A_CALL):
        control.check()
        part = distinct[start : start + _TEXTS_A_CALL]
        batch = tokenizer(
            part,
            add_special_tokens=False,
            truncation=False,
            padding=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            return_offsets_mapping=True,
            verbose=False,  # transformers would warn of long texts, which are cut into windows
        )
        for text, ids, places in zip(part, batch["input_ids"], batch["offset_mapping"], strict=True):
            pieces[text] = np.asarray(ids, np.int32), np.asarray(places, np.int32).reshape(-1, 2)
    return [pieces[text] for text in texts]


@dataclass(frozen=True)
class _Template:
    """The special tokens that a tokeniser puts before, between and after two texts, and its segment numbers."""

    before: Any
    between: Any
    after: Any
    first_type: int
    second_type: int
    types: Any
    no_answer: int

    @classmethod
    def of(cls, tokenizer: "PreTrainedTokenizerBase") -> "_Template":
        probe = tokenizer("a", "a", return_special_tokens_mask=True, return_token_type_ids=True, truncation=False)
        ids, special = np.asarray(probe["input_ids"], np.int32), np.asarray(probe["special_tokens_mask"])
        types = np.asarray(probe["token_type_ids"], np.int32)
        text = np.flatnonzero(special == 0)
        gap = int(np.argmax(np.diff(text) > 1))  # the last piece of the first text
        first, second = slice(0, text[0]), slice(text[gap] + 1, text[gap + 1])
        third = slice(text[-1] + 1, None)
        no_answer = int(np.argmax(ids == tokenizer.cls_token_id))  # 0 where there is no such token
        return cls(
            before=ids[first],
            between=ids[second],
            after=ids[third],
            first_type=int(types[text[0]]),
            second_type=int(types[text[-1]]),
            types=(types[first], types[second], types[third]),
            no_answer=no_answer,
        )

    @property
    def size(self) -> int:
        """Number of special tokens."""
        return len(self.before) + len(self.between) + len(self.after)

    def filled(
        self, question: NDArray[np.int32], context: NDArray[np.int32]
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], int]:
        """Word pieces and segment numbers of a window, and where its context starts."""
        ids = np.concatenate([self.before, question, self.between, context, self.after])
        before, between, after = self.types
        segments = np.concatenate(
            [
                before,
                np.full(len(question), self.first_type, np.int32),
                between,
                np.full(len(context), self.second_type, np.int32),
                after,
            ]
        )
        return ids, segments, len(self.before) + len(question) + len(self.between)
