"""Windows over contexts against the tokenizer's own, and answers against the texts that they point at."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertTokenizer, DistilBertTokenizer

from compression.control import Control
from compression.data.config import SpanConfig
from compression.data.encoding import collate, encode, kept_pieces
from compression.data.span_encoding import NOWHERE, encode_spans
from compression.errors import Interrupted, UserError

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "who",
    "won",
    "the",
    "old",
    "king",
    "of",
    "##s",
    "at",
    "sea",
    ".",
]
TOKENIZER = BertTokenizer(vocab={word: number for number, word in enumerate(WORDS)})
TEXT = ["the", "Old", "kings", "of", "sea", "unknown", "."]


def frame(questions, contexts, spans):
    labels = [np.array(span) for span in spans]
    return pd.DataFrame({"text": questions, "text_pair": contexts, "label": labels})


words = st.lists(st.sampled_from(TEXT), min_size=1, max_size=40)


@settings(deadline=None)
@given(st.lists(st.tuples(words, words), min_size=1, max_size=4), st.integers(12, 30), st.integers(0, 5))
def test_windows_are_those_of_the_tokenizer(pairs, max_length, stride):
    questions, contexts = [" ".join(question[:4]) for question, _ in pairs], [" ".join(text) for _, text in pairs]
    # Questions are cut so that half of the room is left; here none is so long that it matters.
    config = SpanConfig(stride=stride, max_question_length=4)
    found = encode_spans(frame(questions, contexts, [(-1, -1)] * len(pairs)), TOKENIZER, max_length, config)
    at = 0
    for row, (question, context) in enumerate(zip(questions, contexts, strict=True)):
        asked = TOKENIZER.decode(TOKENIZER(question, add_special_tokens=False)["input_ids"][:4])
        room = max_length - 3 - len(TOKENIZER(asked, add_special_tokens=False)["input_ids"])
        own = TOKENIZER(
            asked,
            context,
            truncation="only_second",
            max_length=max_length,
            stride=min(stride, room // 2),
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        for window, ids in enumerate(own["input_ids"]):
            assert found.rows[at] == row
            assert found.encoded.input_ids[at].tolist() == ids
            assert found.encoded.token_type_ids[at].tolist() == own["token_type_ids"][window]
            places = [
                list(place) if segment == 1 else [NOWHERE, NOWHERE]
                for place, segment in zip(own["offset_mapping"][window], own.sequence_ids(window), strict=True)
            ]
            assert found.offsets[at].tolist() == places
            at += 1
    assert at == len(found)


@settings(deadline=None)
@given(words, st.data())
def test_labels_point_at_the_answer_or_at_the_first_token(text, data):
    context, starts = " ".join(text), np.cumsum([0, *(len(word) + 1 for word in text)])
    first = data.draw(st.integers(0, len(text) - 1))
    last = data.draw(st.integers(first, min(first + 4, len(text) - 1)))
    answer = int(starts[first]), int(starts[last + 1] - 1)
    found = encode_spans(frame(["who won"], [context], [answer]), TOKENIZER, 17, SpanConfig(stride=6))
    held = 0
    for window in range(len(found)):
        start, end = found.encoded.labels[window]
        places = found.offsets[window]
        inside = places[places[:, 0] != NOWHERE]
        if inside[0, 0] <= answer[0] and inside[-1, 1] >= answer[1]:
            assert (places[start, 0], places[end, 1]) == answer
            held += 1
        else:
            assert (start, end) == (0, 0)
    assert held  # windows share 6 pieces of 12, and no answer has more: the words have at most 2 pieces


def test_contexts_shared_by_questions_and_questions_without_answers():
    context = "the old king won at sea."
    rows = frame(["who won", "who", "who"], [context] * 3, [(4, 12), (-1, -1), (24, 24)])
    found = encode_spans(rows, TOKENIZER, 30, SpanConfig())
    assert found.encoded.labels.tolist() == [[5, 6], [0, 0], [0, 0]]
    assert found.rows.tolist() == [0, 1, 2]
    batch = collate(found.encoded, np.array([0, 1]), 0)
    assert batch["labels"].tolist() == [[5, 6], [0, 0]]
    assert batch["labels"].dtype == torch.int64


def test_long_questions_are_cut_and_empty_contexts_have_one_window():
    rows = frame(["who " * 30, "who"], ["the king", ""], [(0, 3), (-1, -1)])
    found = encode_spans(rows, TOKENIZER, 13, SpanConfig(max_question_length=4))
    assert found.encoded.lengths.tolist() == [4 + 2 + 3, 1 + 3]
    cut = encode_spans(rows, TOKENIZER, 13, SpanConfig(max_question_length=64))
    assert cut.encoded.lengths.tolist() == [5 + 2 + 3, 1 + 3]  # half of what the special tokens leave
    with pytest.raises(UserError, match="max_length 4 leaves no room"):
        encode_spans(rows, TOKENIZER, 4, SpanConfig())


def test_a_tokenizer_without_segments_and_a_stop():
    plain = DistilBertTokenizer(vocab={word: number for number, word in enumerate(WORDS)})
    rows = frame(["who"], ["the king"], [(0, 3)])
    found = encode_spans(rows, plain, 13, SpanConfig())
    assert found.encoded.token_type_ids is None
    assert found.encoded.labels.tolist() == [[3, 3]]
    with pytest.raises(Interrupted):
        encode_spans(rows, plain, 13, SpanConfig(), control=Control(should_stop=lambda: True))


@pytest.mark.parametrize("truncation", ["head", "tail", "head+tail"])
@given(length=st.integers(0, 1500), max_length=st.integers(4, 700))
def test_what_is_kept_of_a_long_text(truncation, length, max_length):
    special = np.array([1, *[0] * length, 1])
    kept = kept_pieces(special, max_length, truncation).tolist()
    assert len(kept) == min(length + 2, max_length)
    assert (kept[0], kept[-1]) == (0, length + 1)
    room = max_length - 2
    if length > room:
        head = {"head": room, "tail": 0, "head+tail": int(room * 128 / 510)}[truncation]
        tail = room - head
        assert kept[1:-1] == [*range(1, head + 1), *range(length - tail + 1, length + 1)]


def test_510_pieces_are_kept_as_in_the_paper():
    kept = kept_pieces(np.array([1, *[0] * 600, 1]), 512, "head+tail")
    assert kept.tolist() == [0, *range(1, 129), *range(219, 601), 601]


@pytest.mark.parametrize(
    ("truncation", "length", "expected"),
    [
        ("head", 5, "[CLS] the old king [SEP]"),
        ("tail", 5, "[CLS] at sea . [SEP]"),
        ("head+tail", 6, "[CLS] the at sea . [SEP]"),
    ],
)
def test_texts_are_cut_as_the_task_says(truncation, length, expected):
    rows = pd.DataFrame({"text": ["the old king won at sea.", "the king"], "label": [0, 1]})
    encoded = encode(rows, TOKENIZER, length, truncation=truncation)
    spelt = [" ".join(WORDS[piece] for piece in ids) for ids in encoded.input_ids]
    assert spelt == [expected, "[CLS] the king [SEP]"]
    assert encoded.lengths.tolist() == [length, 4]
