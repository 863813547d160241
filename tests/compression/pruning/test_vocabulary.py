"""Vocabulary pruning: bit-equal on the corpus, nothing newly unknown elsewhere, special tokens where they belong."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AlbertTokenizer, BertTokenizer, PreTrainedTokenizerFast

from compression.architecture.checkpoint import load_tokenizer, save_checkpoint
from compression.architecture.conversion import config_of
from compression.architecture.encoder.modeling_bertpress import (
    BertpressForMaskedLM,
    BertpressForSequenceClassification,
)
from compression.architecture.shape import EncoderShape
from compression.control import Control
from compression.errors import CheckpointError, UserError
from compression.pruning.config import VocabularyPruning
from compression.pruning.vocabulary import without_unused_pieces
from compression.pruning.word_pieces import needed_pieces, reduced

LETTERS = "abc"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SINGLE = [*LETTERS, *(f"##{letter}" for letter in LETTERS)]
WORD = st.text("abcd", min_size=1, max_size=7)  # d is in no vocabulary: words with it are unknown
PIECE = st.text(LETTERS, min_size=2, max_size=4)


def word_piece(pieces) -> BertTokenizer:
    return BertTokenizer(vocab={piece: number for number, piece in enumerate(dict.fromkeys(pieces))})


def unigram(pieces: dict[str, float]) -> AlbertTokenizer:
    special = [("<pad>", 0.0), ("<unk>", 0.0), ("[CLS]", 0.0), ("[SEP]", 0.0), ("[MASK]", 0.0)]
    return AlbertTokenizer(vocab=[*special, *pieces.items()])


def encoder(made, size: int, seed: int = 0):
    shape = EncoderShape.regular(
        layers=1, hidden_size=8, heads=2, intermediate_size=12, vocab_size=size, max_position_embeddings=64
    )
    torch.manual_seed(seed)
    return made(config_of(shape)).eval()


def check(tokenizer, corpus, others, made=BertpressForSequenceClassification):
    """Outputs on the corpus bit for bit; on other texts, as many unknown pieces as before at most."""
    model = encoder(made, len(tokenizer.get_vocab()))
    smaller, own = without_unused_pieces(model, tokenizer, corpus, VocabularyPruning(), Control())
    assert smaller.config.vocab_size == len(own.get_vocab()) == smaller.get_input_embeddings().weight.shape[0]
    assert own.special_tokens_map == tokenizer.special_tokens_map
    assert smaller.config.pad_token_id == own.pad_token_id == smaller.get_input_embeddings().padding_idx
    for text in corpus:
        before, after = tokenizer(text, return_tensors="pt"), own(text, return_tensors="pt")
        assert own.convert_ids_to_tokens(after["input_ids"][0]) == tokenizer.convert_ids_to_tokens(
            before["input_ids"][0]
        )
        with torch.inference_mode():
            expected, found = model(**before).logits, smaller(**after).logits
        if made is BertpressForMaskedLM:
            expected = expected[..., [tokenizer.convert_tokens_to_ids(piece) for piece in own.convert_ids_to_tokens(range(len(own)))]]  # fmt: skip
            torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
        else:
            assert torch.equal(found, expected)
    for text in others:
        unknown = [of(text)["input_ids"].count(of.unk_token_id) for of in (own, tokenizer)]
        assert unknown[0] <= unknown[1]
    return smaller, own


@settings(max_examples=25, deadline=None)
@given(
    pieces=st.sets(PIECE, max_size=6),
    continuing=st.sets(PIECE, max_size=6),
    corpus=st.lists(st.lists(WORD, min_size=1, max_size=3).map(" ".join), min_size=1, max_size=4),
    others=st.lists(WORD, max_size=5),
)
def test_word_pieces(pieces, continuing, corpus, others):
    every = [*SPECIAL, *SINGLE, *sorted(pieces), *(f"##{piece}" for piece in sorted(continuing))]
    _, own = check(word_piece(every), corpus, others)
    assert set(SPECIAL + SINGLE) <= own.get_vocab().keys()


@settings(max_examples=15, deadline=None)
@given(
    pieces=st.dictionaries(PIECE, st.floats(-9, -1), max_size=6),
    corpus=st.lists(WORD, min_size=1, max_size=4),
    others=st.lists(WORD, max_size=4),
)
def test_unigram_pieces(pieces, corpus, others):
    check(unigram({"▁": -4.0, **dict.fromkeys(LETTERS, -5.0), **pieces}), corpus, others)


def test_masked_language_model_keeps_its_tied_head():
    tokenizer = word_piece([*SPECIAL, *SINGLE, "aa", "bb", "##cc", "abc"])
    smaller, own = check(tokenizer, ["aa bbcc"], ["abc"], BertpressForMaskedLM)
    assert "abc" not in own.get_vocab()
    assert smaller.head.decoder.weight is smaller.get_input_embeddings().weight


def test_special_tokens_in_the_middle_and_pieces_that_characters_cannot_spell(tmp_path):
    every = ["unused", "a", "##b", "xyz", "ab", "##ab", "##a", "b", *SPECIAL]
    tokenizer = word_piece(every)
    model = encoder(BertpressForSequenceClassification, len(every))
    model.config.pad_token_id = tokenizer.pad_token_id
    smaller, own = without_unused_pieces(model, tokenizer, ["ab"], VocabularyPruning(), Control())
    # `xyz` and `unused` have characters that are no pieces: without them their words would become unknown.
    assert set(own.get_vocab()) == {"unused", "a", "##b", "xyz", "ab", "##a", "b", *SPECIAL}
    assert smaller.config.pad_token_id == own.pad_token_id == 7
    save_checkpoint(smaller, own, tmp_path)
    back = load_tokenizer(tmp_path)
    assert back("ab", "b")["input_ids"] == own("ab", "b")["input_ids"]
    assert back.get_vocab() == own.get_vocab()


def test_rare_pieces_go_where_more_occurrences_are_asked_for():
    tokenizer = word_piece([*SPECIAL, *SINGLE, "aa", "bb"])
    model = encoder(BertpressForSequenceClassification, 13)
    corpus = ["aa bb", "aa"]
    _, own = without_unused_pieces(model, tokenizer, corpus, VocabularyPruning(least_count=2), Control())
    assert "aa" in own.get_vocab()
    assert own.tokenize("bb") == ["b", "##b"]


def test_what_is_matched_before_a_word_is_given_up_is_kept():
    """`abd` is unknown though `ab` matches; with `a` and `##b` alone it must not be cut otherwise."""
    tokenizer = word_piece([*SPECIAL, "a", "b", "##a", "##b", "ab", "##bd", "d"])
    kept = needed_pieces(tokenizer, ["abd"], 1, Control())
    own = reduced(tokenizer, kept)
    assert own.tokenize("abd") == tokenizer.tokenize("abd") == ["[UNK]"]
    assert "ab" in own.get_vocab()


def test_foreign_tokenizers_are_refused():
    bpe = Tokenizer(models.BPE({"a": 0, "b": 1}, []))
    bpe.pre_tokenizer = pre_tokenizers.Whitespace()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=bpe)
    with pytest.raises(UserError, match="BPE tokenizer cannot be pruned; allowed: WordPiece, Unigram"):
        needed_pieces(wrapped, ["a"], 1, Control())
    tokenizer = word_piece([*SPECIAL, *SINGLE])
    model = encoder(BertpressForSequenceClassification, 7)
    with pytest.raises(CheckpointError, match="has word piece 10, but the model's vocabulary has 7"):
        without_unused_pieces(model, tokenizer, ["a"], VocabularyPruning(), Control())


def test_counts_are_over_whole_texts():
    tokenizer = word_piece([*SPECIAL, *SINGLE, "aa", "bb"])
    kept = needed_pieces(tokenizer, ["a " * 5000 + "bb"], 1, Control())
    assert tokenizer.convert_tokens_to_ids("bb") in kept
    assert tokenizer.convert_tokens_to_ids("aa") not in kept
    assert np.all(np.diff(kept) > 0)
