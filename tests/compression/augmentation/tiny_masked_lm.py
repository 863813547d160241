"""A tiny masked LM whose vocabulary has pieces of words, tiny word vectors, and tasks of any texts."""

import numpy as np
import pandas
import torch
from transformers import BertConfig, BertForMaskedLM, BertTokenizer

from compression.augmentation.vectors import WordVectors
from compression.data.config import TaskConfig
from compression.data.load import TaskData
from compression.problems import DEFAULT_METRICS

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]"]
WHOLE = [
    *["good", "bad", "fine", "film", "movie", "book", "story", "actor", "scene", "music", "plot", "cast"],
    *["slow", "quick", "bright", "dark", "happy", "sad", "great", "poor", "long", "short", "loud", "calm"],
    *["the", "a", "was", "is", "and", "so", "very", "not"],
]
PIECES = [*"bcdefghijklmnopqrstuvwxyz", *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"), "##ly", "##ish"]
VOCABULARY = [*SPECIALS, *WHOLE, *PIECES, *"0123456789", *".,!?'-@#", "##1"]
POSITIONS = 48


def tokenizer() -> BertTokenizer:
    return BertTokenizer(vocab={word: number for number, word in enumerate(VOCABULARY)})


def masked_lm(seed: int = 0) -> BertForMaskedLM:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = BertConfig(
            vocab_size=len(VOCABULARY) + 3,  # padded, as some published models are
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=POSITIONS,
            initializer_range=0.5,  # scores far apart, so that rounding decides nothing
        )
        return BertForMaskedLM(config).eval()


def vectors(seed: int = 0, words: int = 200) -> WordVectors:
    random = np.random.default_rng(seed)
    vocabulary = [*WHOLE, "slowly", "darkish", "sadly", "loudly", *(f"word{number}" for number in range(words))]
    return WordVectors(vocabulary, random.standard_normal((len(vocabulary), 12)).astype(np.float32))


def task(texts, pairs=None, *, labels=None, problem="classification", max_length=32) -> TaskData:
    count = len(texts)
    default = np.arange(count) % 2 if problem == "classification" else np.linspace(0, 1, count)
    gold = default if labels is None else labels
    columns = {"text": list(texts)} | ({} if pairs is None else {"text_pair": list(pairs)})
    frame = pandas.DataFrame({"id": np.arange(count) + 1, **columns, "label": list(gold)})
    config = TaskConfig(
        name="tiny",
        files={"train": "tiny.csv"},
        text="text" if pairs is None else ("text", "text_pair"),
        problem=problem,
        max_length=max_length,
    )
    names = () if problem == "regression" else ("no", "yes")
    return TaskData(
        config, names, pairs is not None, DEFAULT_METRICS[problem], frame, frame.iloc[:0], {"": frame.iloc[:0]}
    )
