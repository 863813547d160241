"""Tiny encoders, tokenizers and tasks, built in code."""

from pathlib import Path

import numpy as np
import pandas
import torch
from transformers import (
    BertConfig,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertModel,
    BertTokenizer,
)

from compression.architecture.checkpoint import save_checkpoint
from compression.data.config import TaskConfig
from compression.data.encoding import Encoded
from compression.data.load import TaskData

GOOD, BAD, NEUTRAL = ["good", "fine", "great"], ["bad", "poor", "awful"], ["the", "film", "was", "a", "very", "so"]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *GOOD, *BAD, *NEUTRAL]


def tiny_tokenizer() -> BertTokenizer:
    return BertTokenizer(vocab={word: index for index, word in enumerate(WORDS)})


def tiny_config(**changes) -> BertConfig:
    sizes = {
        "vocab_size": len(WORDS),
        "hidden_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 32,
    }
    return BertConfig(**{**sizes, **changes})


def tiny_classifier(seed: int = 0, labels: int = 2, **changes) -> BertForSequenceClassification:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return BertForSequenceClassification(tiny_config(num_labels=labels, **changes)).eval()


def tiny_encoder_folder(folder: Path, seed: int = 0, **changes) -> Path:
    """A pretrained encoder without a head, as published ones are."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        save_checkpoint(BertModel(tiny_config(**changes)), tiny_tokenizer(), folder)
    return folder


def sentences(count: int, seed: int) -> tuple[list[str], np.ndarray]:
    """Sentences of 3 to 14 words, each with one word that gives its class (0 bad, 1 good) away."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, count)
    texts = []
    for label in labels:
        words = list(random.choice(NEUTRAL, random.integers(2, 14)))
        words.insert(int(random.integers(0, len(words) + 1)), str(random.choice([BAD, GOOD][label])))
        texts.append(" ".join(words))
    return texts, labels


def frame(count: int, seed: int, *, regression: bool = False, offset: int = 0) -> pandas.DataFrame:
    texts, labels = sentences(count, seed)
    gold = labels * 2.0 - 1.0 if regression else labels
    return pandas.DataFrame({"id": np.arange(count) + offset, "text": texts, "label": gold})


def tiny_task(train: int = 50, *, regression: bool = False, max_length: int = 24) -> TaskData:
    return TaskData(
        config=TaskConfig(
            name="tiny",
            files={"train": "tiny.csv"},
            problem="regression" if regression else "classification",
            max_length=max_length,
        ),
        labels=() if regression else ("bad", "good"),
        pair=False,
        metrics=("pearson",) if regression else ("accuracy",),
        train=frame(train, 1, regression=regression),
        selection=frame(24, 2, regression=regression),
        evaluation={"": frame(24, 3, regression=regression)},
    )


def tiny_rows(count: int = 50, seed: int = 1) -> Encoded:
    """Training rows of the tiny task, encoded without a tokenizer."""
    texts, labels = sentences(count, seed)
    index = {word: number for number, word in enumerate(WORDS)}
    ids = [np.array([2, *(index[word] for word in text.split()), 3], dtype=np.int32) for text in texts]
    return Encoded(ids, None, labels.astype(np.int64), np.array([len(row) for row in ids], dtype=np.int64))


def questions(count: int, seed: int, *, unanswerable: bool = False) -> pandas.DataFrame:
    """Questions "good" or "bad" about a context that holds one word of each kind, which is the answer.

    With `unanswerable`, every third context lacks the kind that is asked for.
    """
    random = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        asked = int(random.integers(0, 2))
        silent = unanswerable and number % 3 == 0
        answer = str(random.choice([BAD, GOOD][asked]))
        words = [str(word) for word in random.choice(NEUTRAL, random.integers(3, 9))]
        for word in [str(random.choice([GOOD, BAD][asked]))] + ([] if silent else [answer]):
            words.insert(int(random.integers(0, len(words) + 1)), word)
        context = " ".join(words)
        start = -1 if silent else len(" ".join([*words[: words.index(answer)], ""]))
        rows.append(
            {
                "id": number + 1,
                "name": f"q{number + 1}",
                "text": ["bad", "good"][asked],
                "text_pair": context,
                "label": np.array([start, start if silent else start + len(answer)]),
                "answers": () if silent else (answer,),
            }
        )
    return pandas.DataFrame(rows)


def tiny_questions(train: int = 50, *, unanswerable: bool = False, max_length: int = 24) -> TaskData:
    return TaskData(
        config=TaskConfig(
            name="tiny",
            files={"train": "tiny.json"},
            problem="span",
            max_length=max_length,
            span={"stride": 4, "max_answer_length": 2, "unanswerable": unanswerable},
        ),
        labels=(),
        pair=True,
        metrics=("f1", "exact_match"),
        train=questions(train, 1, unanswerable=unanswerable),
        selection=questions(24, 2, unanswerable=unanswerable),
        evaluation={"": questions(24, 3, unanswerable=unanswerable)},
    )


def tiny_span_model(seed: int = 0, **changes) -> BertForQuestionAnswering:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return BertForQuestionAnswering(tiny_config(**changes)).eval()
