import importlib.util
from pathlib import Path

import numpy as np
import pytest
import tiny_masked_lm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_masked_lm import POSITIONS, VOCABULARY, WHOLE
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AlbertConfig,
    AlbertForMaskedLM,
    BertTokenizer,
    DistilBertConfig,
    DistilBertForMaskedLM,
    ElectraConfig,
    ElectraForMaskedLM,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
)

from compression.augmentation.masked_words import MaskedWordModel
from compression.augmentation.words import ENGLISH_STOP_WORDS, replaceable_words
from compression.control import Control
from compression.errors import CheckpointError, Interrupted, UserError
from compression.runtime import Runtime

TEXTS = [
    "the good film was slow",
    "Good, BAD and darkish: a story of 3 actors!",
    "calm",
    "so is the",
    "the cast was not happy, the actor was sad",
]


def masked(masked_input="sentence", *, model=None, tokenizer=None, **changes):
    return MaskedWordModel(
        model or tiny_masked_lm.masked_lm(),
        tokenizer or tiny_masked_lm.tokenizer(),
        masked_input=masked_input,
        runtime=Runtime(),
        **changes,
    )


@pytest.mark.parametrize("masked_input", ["sentence", "two-copies"])
@pytest.mark.parametrize("count", [1, 7])
def test_the_same_candidates_as_one_forward_pass_a_word(masked_input, count):
    words = masked(masked_input)
    read = words.read(TEXTS, ENGLISH_STOP_WORDS)
    found = words.most_probable(read, count)
    model, tokenizer = tiny_masked_lm.masked_lm(), tiny_masked_lm.tokenizer()
    for text, pieces, entries in zip(TEXTS, read, found, strict=True):
        own = [word.text for word in replaceable_words(text)]
        for number, near in zip(pieces.words, entries, strict=True):
            expected = reference(model, tokenizer, text, own[number], count, two_copies=masked_input == "two-copies")
            assert {words.spellings[entry] for entry in near} == set(expected), text


def reference(model, tokenizer, text, word, count, *, two_copies):
    """One forward pass for the first occurrence of a word."""
    tokens = tokenizer.tokenize(text)
    place = tokens.index(word.lower())
    masked_tokens = ["[CLS]", *tokens[:place], "[MASK]", *tokens[place + 1 :], "[SEP]"]
    types = [0] * len(masked_tokens)
    if two_copies:
        masked_tokens, types = [*masked_tokens, *tokens, "[SEP]"], types + [1] * (len(tokens) + 1)
    ids = torch.tensor([tokenizer.convert_tokens_to_ids(masked_tokens)])
    with torch.no_grad():
        scores = model(ids, token_type_ids=torch.tensor([types])).logits[0, place + 1]
    ranked = [VOCABULARY[number] for number in scores[: len(VOCABULARY)].argsort(descending=True).tolist()]
    return [entry for entry in ranked if entry.isalpha()][:count]


def test_which_words_are_one_piece():
    (read,) = masked().read(["Good films, darkish b2b xyz 😀 book!"], ENGLISH_STOP_WORDS)
    assert [word.text for word in replaceable_words("Good films, darkish b2b xyz 😀 book!")] == [
        *("Good", "films", "darkish", "xyz", "book"),
    ]
    assert read.words == (0, 4)
    assert [VOCABULARY[read.pieces[place]] for place in read.positions] == ["good", "book"]


def test_a_word_that_the_model_does_not_know_is_not_asked_for():
    (read,) = masked().read([f"{'x' * 10_000} שלום good"], ENGLISH_STOP_WORDS)
    assert read.words == (2,)


def test_candidates_are_whole_words():
    words = masked()
    entries = np.concatenate(words.most_probable(words.read(TEXTS, ENGLISH_STOP_WORDS), 1000))
    letters = [entry for entry in VOCABULARY if entry.isalpha()]
    assert entries.shape[1] == len(letters), "no more than the vocabulary has"
    assert {words.spellings[entry] for entry in entries[0]} == set(letters) >= set(WHOLE)


def test_the_word_itself_can_be_left_out():
    words = masked()
    read = words.read(["good film"], ENGLISH_STOP_WORDS)
    count = len([entry for entry in VOCABULARY if entry.isalpha()])
    (found,) = words.most_probable(read, count, exclude_original=True)
    assert found.shape == (2, count - 1)
    assert VOCABULARY.index("good") not in found[0]
    assert VOCABULARY.index("film") not in found[1]
    (kept,) = words.most_probable(read, count)
    assert VOCABULARY.index("good") in kept[0]


@pytest.mark.parametrize("tokens", [1, 40, 100_000])
def test_the_size_of_batches_changes_nothing(tokens):
    texts = [*TEXTS, "slow slow slow", "the good film was slow", "good " * 40]
    expected = masked().most_probable(masked().read(texts, ENGLISH_STOP_WORDS), 5)
    words = masked(tokens_a_batch=tokens)
    for one, other in zip(words.most_probable(words.read(texts, ENGLISH_STOP_WORDS), 5), expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_equal_questions_are_asked_once(monkeypatch):
    words = masked()
    asked = []
    answers = words._answers
    monkeypatch.setattr(
        words, "_answers", lambda questions, *rest: asked.append(len(questions)) or answers(questions, *rest)
    )
    found = words.most_probable(words.read(["good film", "Good FILM", "good film!", "good film"], set()), 3)
    assert asked == [4]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[3])


@pytest.mark.parametrize("masked_input", ["sentence", "two-copies"])
def test_a_text_longer_than_the_model_is_seen_around_the_mask(masked_input):
    words = masked(masked_input)
    text = " ".join(np.random.default_rng(0).choice(WHOLE[:20], 600))
    read = words.read([text], set())
    assert len(read[0].words) == 600
    (found,) = words.most_probable(read, 4)
    room = POSITIONS - 2 if masked_input == "sentence" else (POSITIONS - 3) // 2
    tokens = text.split()
    for place in (0, 5, 300, 599):
        start = min(max(0, place - room // 2), 600 - room)
        window = [*tokens[start:place], "[MASK]", *tokens[place + 1 : start + room]]
        expected = windowed(window, tokens[start : start + room], two_copies=masked_input == "two-copies")
        assert {words.spellings[entry] for entry in found[place]} == set(expected)


def windowed(window, plain, *, two_copies):
    tokens = ["[CLS]", *window, "[SEP]"]
    types = [0] * len(tokens)
    if two_copies:
        tokens, types = [*tokens, *plain, "[SEP]"], types + [1] * (len(plain) + 1)
    ids = torch.tensor([tiny_masked_lm.tokenizer().convert_tokens_to_ids(tokens)])
    with torch.no_grad():
        logits = tiny_masked_lm.masked_lm()(ids, token_type_ids=torch.tensor([types])).logits
    ranked = logits[0, tokens.index("[MASK]"), : len(VOCABULARY)].argsort(descending=True).tolist()
    return [VOCABULARY[number] for number in ranked if VOCABULARY[number].isalpha()][:4]


SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.mark.parametrize(
    "model",
    [
        lambda size: DistilBertForMaskedLM(
            DistilBertConfig(vocab_size=size, dim=16, n_layers=1, n_heads=2, hidden_dim=32)
        ),
        lambda size: RobertaForMaskedLM(RobertaConfig(vocab_size=size, pad_token_id=0, **SIZES)),
        lambda size: AlbertForMaskedLM(AlbertConfig(vocab_size=size, embedding_size=8, **SIZES)),
        lambda size: ElectraForMaskedLM(ElectraConfig(vocab_size=size, embedding_size=8, **SIZES)),
    ],
    ids=["distilbert", "roberta", "albert", "electra"],
)
def test_other_architectures(model):
    torch.manual_seed(0)
    made = model(len(VOCABULARY)).eval()
    words = masked(model=made)
    read = words.read(["the good film was slow"], ENGLISH_STOP_WORDS)
    (found,) = words.most_probable(read, 5)
    ids = [tiny_masked_lm.tokenizer().cls_token_id, *read[0].pieces.tolist(), tiny_masked_lm.tokenizer().sep_token_id]
    for place, near in zip(read[0].positions, found, strict=True):
        asked = list(ids)
        asked[place + 1] = VOCABULARY.index("[MASK]")
        with torch.no_grad():
            scores = made(torch.tensor([asked])).logits[0, place + 1]
        ranked = [number for number in scores.argsort(descending=True).tolist() if VOCABULARY[number].isalpha()]
        assert set(near.tolist()) == set(ranked[:5])


def byte_pair_tokenizer():
    """Byte pairs as of RoBERTa: a word after a space is another piece than one at the start."""
    words = [word for word in WHOLE for _ in range(3)]
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=800,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator([" ".join(words), *WHOLE], trainer)
    raw.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    names = {"bos": "<s>", "cls": "<s>", "sep": "</s>", "eos": "</s>", "unk": "<unk>", "pad": "<pad>", "mask": "<mask>"}
    return PreTrainedTokenizerFast(tokenizer_object=raw, **{f"{name}_token": text for name, text in names.items()})


@pytest.mark.parametrize(("masked_input", "specials"), [("sentence", [0, 2]), ("two-copies", [0, 2, 2, 2])])
def test_byte_pairs(masked_input, specials):
    tokenizer = byte_pair_tokenizer()
    torch.manual_seed(0)
    config = RobertaConfig(vocab_size=len(tokenizer), pad_token_id=1, type_vocab_size=1, initializer_range=0.5, **SIZES)
    model = RobertaForMaskedLM(config).eval()
    words = masked(masked_input, model=model, tokenizer=tokenizer)
    assert {words.spellings[number] for number in np.flatnonzero(words.is_word)} >= set(WHOLE)
    assert not words.is_word[tokenizer.convert_tokens_to_ids("film")], "a piece that only begins a text"
    assert words.is_word[tokenizer.convert_tokens_to_ids("Ġfilm")]
    text = "good film, é née xyz sad"
    (read,) = words.read([text], set())
    singles = [replaceable_words(text, set())[number].text for number in read.words]
    assert singles == ["good", "film", "sad"], "é is two pieces at one offset"
    (found,) = words.most_probable([read], 5)
    for place, near in zip(read.positions, found, strict=True):
        plain = read.pieces.tolist()
        asked = [*plain[:place], tokenizer.mask_token_id, *plain[place + 1 :]]
        ids = [0, *asked, 2] if masked_input == "sentence" else [0, *asked, 2, 2, *plain, 2]
        assert [number for number in ids if number in (0, 2)] == specials
        with torch.no_grad():
            scores = model(torch.tensor([ids])).logits[0, place + 1]
        ranked = [number for number in scores.argsort(descending=True).tolist() if words.is_word[number]]
        assert set(near.tolist()) == set(ranked[:5])


@pytest.mark.skipif(importlib.util.find_spec("cognition") is None, reason="the packaged masked LM is not installed")
def test_the_packaged_masked_lm():
    from compression.architecture.checkpoint import load_tokenizer
    from compression.architecture.masked_lm import load_masked_lm

    folder = Path(importlib.util.find_spec("cognition").submodule_search_locations[0]) / "model"
    words = masked(model=load_masked_lm(folder, fresh_head=False), tokenizer=load_tokenizer(folder))
    read = words.read(["The movie was great."], ENGLISH_STOP_WORDS)
    (found,) = words.most_probable(read, 15)
    assert found.shape == (2, 15)
    assert all(words.spellings[entry].isalpha() for entry in found.ravel())
    assert 20_000 < words.is_word.sum() < 30_000


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(max_size=60), max_size=5))
def test_any_text(texts):
    words = masked()
    read = words.read(texts, ENGLISH_STOP_WORDS)
    assert len(read) == len(texts)
    for text, found in zip(read, words.most_probable(read, 3), strict=True):
        assert found.shape == (len(text.words), 3)


def test_models_that_do_not_serve():
    bare = BertTokenizer(vocab={word: number for number, word in enumerate(VOCABULARY)})
    bare.mask_token = None
    with pytest.raises(UserError, match="no mask token"):
        masked(tokenizer=bare)
    large = {word: number for number, word in enumerate([*VOCABULARY, *(f"more{n}" for n in range(10))])}
    with pytest.raises(CheckpointError, match="does not belong to the masked LM"):
        masked(tokenizer=BertTokenizer(vocab=large))
    broken = tiny_masked_lm.masked_lm()
    broken.bert.embeddings.word_embeddings.weight.data.fill_(torch.nan)
    words = masked(model=broken)
    with pytest.raises(CheckpointError, match="not finite"):
        words.most_probable(words.read(["good"], set()), 1)


def test_stops_on_request():
    words = masked()
    with pytest.raises(Interrupted):
        words.most_probable(words.read(["good"], set()), 1, control=Control(should_stop=lambda: True))
