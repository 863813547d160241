"""TinyBERT's Algorithm 1, word for word and one forward pass a word: what the batched code is compared with.

Jiao et al. 2019, arXiv:1909.10351. Candidates come from the unmodified sentence, as in the released code.
"""

import random
import re
from collections.abc import Collection

import numpy as np
import torch


def words_of(text: str) -> list[str]:
    return re.findall(r"[a-zA-Z0-9]+", text)


def masked_lm_candidates(model, tokenizer, words, place, count, *, two_copies):
    """The `count` most probable whole words at a masked word; None when the word is not one known piece."""
    cut = [tokenizer.tokenize(word) for word in words]
    if len(cut[place]) != 1 or cut[place] == [tokenizer.unk_token]:
        return None
    masked = [piece for pieces in (*cut[:place], ["[MASK]"], *cut[place + 1 :]) for piece in pieces]
    tokens, types = ["[CLS]", *masked, "[SEP]"], [0] * (len(masked) + 2)
    if two_copies:
        plain = [piece for pieces in cut for piece in pieces]
        tokens, types = [*tokens, *plain, "[SEP]"], [*types, *([1] * (len(plain) + 1))]
    ids = tokenizer.convert_tokens_to_ids(tokens)
    with torch.no_grad():
        scores = model(torch.tensor([ids]), token_type_ids=torch.tensor([types])).logits[0, tokens.index("[MASK]")]
    ranked = [tokenizer.convert_ids_to_tokens(int(number)) for number in np.argsort(-scores[: len(tokenizer)].numpy())]
    return [piece for piece in ranked if piece.isalpha()][:count]


def nearest(vectors, word, count):
    """The `count` most similar words by a full sort; None when the word has no vector."""
    vocabulary = list(vectors.words)
    if word.lower() not in vocabulary:
        return None
    own = vocabulary.index(word.lower())
    unit = np.asarray(vectors.matrix, np.float64)
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    similarity = unit @ unit[own]
    similarity[own] = -np.inf
    return [vocabulary[row] for row in np.argsort(-similarity)[:count]]


def candidates(text, model, tokenizer, vectors, count, stop_words: Collection[str], *, two_copies=False):
    """Place of each replaceable word -> its candidates."""
    words = words_of(text)
    found = {}
    for place, word in enumerate(words):
        if not word.isalpha() or word.lower() in stop_words:
            continue
        chosen = masked_lm_candidates(model, tokenizer, words, place, count, two_copies=two_copies)
        chosen = nearest(vectors, word, count) if chosen is None else chosen
        if chosen:
            found[place] = chosen
    return found


def algorithm_1(text, found, copies, threshold, seed):
    """Lines 2 to 19: the words of each copy, equal ones included."""
    generator = random.Random(seed)
    made = []
    for _ in range(copies):
        words = words_of(text)
        for place, chosen in found.items():
            if generator.random() <= threshold:
                words[place] = generator.choice(chosen)
        made.append(words)
    return made
