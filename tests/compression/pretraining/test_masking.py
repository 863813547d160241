import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tiny_models import WORDS, tiny_tokenizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import BertTokenizer, PreTrainedTokenizerFast
from vocabularies import SPECIAL, random_sequences, vocabulary

from compression.errors import UserError
from compression.pretraining.config import MaskingConfig
from compression.pretraining.masking import generator, mask_tokens, smoothed_weights, uniform
from compression.pretraining.vocabulary import Vocabulary

TOKENS = random_sequences(400, 126)
ORDINARY = 400 * 126


def within(count: int, total: int, share: float) -> bool:
    """Whether a binomial count lies within five standard deviations: one false alarm in a million."""
    return abs(count - total * share) <= 5 * math.sqrt(total * share * (1 - share)) + 1e-9


def masked(config: MaskingConfig | None = None, tokens=TOKENS, seed: int = 0, weights=None):
    return mask_tokens(tokens, generator(seed), config or MaskingConfig(), vocabulary(), weights)


@pytest.mark.parametrize(
    ("probability", "mask_share", "random_share"),
    [(0.15, 0.8, 0.1), (0.4, 0.5, 0.2), (0.15, 1.0, 0.0), (0.3, 0.0, 1.0), (0.2, 0, 0)],
)
def test_shares(probability, mask_share, random_share):
    config = MaskingConfig(probability=probability, mask_share=mask_share, random_share=random_share)
    seen, chosen = masked(config)
    count = int(chosen.sum())
    assert within(count, ORDINARY, probability)
    became_mask = int((seen[chosen] == 4).sum())
    assert within(became_mask, count, mask_share)
    others = seen[chosen & (seen != 4)], TOKENS[chosen & (seen != 4)]
    # A random piece is the right one by chance once in 995 draws.
    assert within(int((others[0] != others[1]).sum()), count, random_share * 994 / 995)


def test_random_pieces_are_ordinary_and_of_the_whole_vocabulary():
    seen, chosen = masked(MaskingConfig(probability=0.9, mask_share=0, random_share=1))
    drawn = seen[chosen]
    assert drawn.min() >= SPECIAL
    assert len(np.unique(drawn)) == 1000 - SPECIAL
    counts = np.bincount(drawn, minlength=1000)[SPECIAL:]
    expected = len(drawn) / len(counts)
    chi_squared = ((counts - expected) ** 2 / expected).sum()
    assert chi_squared < len(counts) + 5 * math.sqrt(2 * len(counts))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(0, 999), min_size=1, max_size=80),
    st.integers(0, 2**32 - 1),
    st.floats(0.01, 0.99),
    st.sampled_from(["pieces", "words", "smoothed"]),
)
def test_special_tokens_are_never_touched_and_nothing_else_changes(tokens, seed, probability, way):
    tokens = np.array(tokens)
    config = MaskingConfig(
        probability=probability,
        whole_words=way == "words",
        choice="frequency_smoothed" if way == "smoothed" else "uniform",
    )
    seen, chosen = masked(config, tokens, seed, np.ones(1000))
    assert not chosen[tokens < SPECIAL].any()
    assert (seen[~chosen] == tokens[~chosen]).all()
    assert ((seen[chosen] == 4) | (seen[chosen] >= SPECIAL)).all()
    again = masked(config, tokens, seed, np.ones(1000))
    assert (again[0] == seen).all()
    assert (again[1] == chosen).all()


def test_choices_of_neighbours_are_independent():
    _, chosen = masked(MaskingConfig(probability=0.3))
    pairs = chosen.reshape(400, 128)[:, 1:-1]
    both = int((pairs[:, :-1] & pairs[:, 1:]).sum())
    assert within(both, 400 * 125, 0.09)


def test_a_step_has_masks_of_its_own():
    same = (masked(seed=1)[1] & masked(seed=2)[1]).sum()
    assert within(int(same), ORDINARY, 0.15**2)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(2, 60), min_size=1, max_size=60), st.integers(0, 1000))
def test_whole_words_are_chosen_or_left_whole(tokens, seed):
    tokens = np.array(tokens)
    _, chosen = masked(MaskingConfig(probability=0.5, whole_words=True), tokens, seed)
    word: list[int] = []
    for place, token in enumerate([*tokens.tolist(), 2]):
        begins = token < SPECIAL or token % 4 != 0 or (place > 0 and tokens[place - 1] < SPECIAL)
        if begins and word:
            assert len({bool(chosen[piece]) for piece in word}) == 1
            word = []
        word.append(place)


def test_whole_words_keep_the_share_of_pieces():
    _, chosen = masked(MaskingConfig(whole_words=True))
    starts = (TOKENS % 4 != 0) | (TOKENS < SPECIAL)
    lengths = np.diff(np.flatnonzero(np.append(starts, True)))
    spread = math.sqrt((lengths.astype(float) ** 2).sum() * 0.15 * 0.85)
    assert abs(chosen.sum() - ORDINARY * 0.15) < 5 * spread


def test_frequency_smoothed_choice_takes_the_exact_share_of_the_batch():
    config = MaskingConfig(choice="frequency_smoothed", probability=0.15)
    for length in (1, 2, 7, 100):
        tokens = random_sequences(3, length)
        _, chosen = masked(config, tokens, 0, np.ones(1000))
        assert chosen.sum() == min(3 * length, math.ceil(0.15 * len(tokens)))
    with pytest.raises(ValueError, match="needs weights"):
        masked(config)


def test_frequency_smoothed_choice_draws_by_weight():
    """The first draw without replacement takes each piece with its share of the weights."""
    tokens = np.array([2, 5, 6, 7, 3])
    weights = smoothed_weights(np.bincount([5] * 1 + [6] * 10 + [7] * 100, minlength=1000), 0.7)
    config = MaskingConfig(choice="frequency_smoothed", probability=0.2)
    drawn = np.zeros(5)
    for seed in range(4000):
        drawn += mask_tokens(tokens, generator(seed), config, vocabulary(), weights)[1]
    shares = np.array([1, 10**-0.7, 100**-0.7])
    for count, share in zip(drawn[1:4], shares / shares.sum(), strict=True):
        assert within(int(count), 4000, share)
    assert drawn[[0, 4]].sum() == 0


def test_smoothed_weights_are_those_of_the_released_code():
    counts = np.array([0, 1, 7, 1000])
    assert smoothed_weights(counts, 0.7) == pytest.approx(np.maximum(counts, 1) ** -0.7)


def test_uniform_numbers():
    drawn = uniform(generator(3, 1), 100_000)
    assert 0 <= drawn.min() < drawn.max() < 1
    assert np.histogram(drawn, 10, (0, 1))[0] == pytest.approx(10_000, abs=500)
    assert (uniform(generator(3, 2), 10) != drawn[:10]).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mask_share": 0.8, "random_share": 0.3}, "add up to 1.1"),
        ({"whole_words": True, "choice": "frequency_smoothed"}, "use one of them"),
        ({"probability": 0}, "greater than 0"),
    ],
)
def test_contradictions(fields, message):
    with pytest.raises(ValidationError, match=message):
        MaskingConfig(**fields)


def test_vocabulary_of_word_pieces():
    words = [*WORDS, "##ly", "##s", "."]
    found = Vocabulary.of(BertTokenizer(vocab={word: number for number, word in enumerate(words)}))
    assert (found.pad, found.cls, found.sep, found.mask) == (0, 2, 3, 4)
    assert np.flatnonzero(found.is_special).tolist() == [0, 1, 2, 3, 4]
    assert [words[number] for number in np.flatnonzero(~found.starts_word)] == ["##ly", "##s"]
    assert [words[number] for number in np.flatnonzero(found.ends_sentence)] == ["."]


def fast_tokenizer(pieces: list[str], pre_tokenizer) -> PreTrainedTokenizerFast:
    special = ["<pad>", "<unk>", "<s>", "</s>", "<mask>"]
    backend = Tokenizer(models.Unigram([(piece, -1.0) for piece in [*special, *pieces]], unk_id=1))
    backend.pre_tokenizer = pre_tokenizer
    backend.decoder = decoders.Metaspace()
    names = {
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "cls_token": "<s>",
        "sep_token": "</s>",
        "mask_token": "<mask>",
    }
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


@pytest.mark.parametrize("mark", ["▁", "Ġ"])
def test_vocabulary_of_marked_word_starts(mark):
    pieces = [f"{mark}the", f"{mark}film", "s", ".", f"{mark}."]
    found = Vocabulary.of(fast_tokenizer(pieces, pre_tokenizers.Metaspace()))
    assert found.starts_word.tolist()[5:] == [True, True, False, False, True]
    assert found.ends_sentence.tolist()[5:] == [False, False, False, True, True]


def test_a_tokenizer_without_a_mask_token_is_refused():
    tokenizer = tiny_tokenizer()
    tokenizer.mask_token = None
    with pytest.raises(UserError, match="needs a mask token"):
        Vocabulary.of(tokenizer)
