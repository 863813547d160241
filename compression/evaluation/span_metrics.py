"""Exact match and F1 of answers, by the definitions of SQuAD's two official evaluation scripts.

Texts are compared after normalisation: lower case, without ASCII punctuation, the articles a, an and the, and with
single spaces. F1 is that of the two bags of words. Of several accepted answers the best counts. Version 2 has questions
without an answer, for which saying nothing is right and anything else is wrong (Rajpurkar et al. 2016, section 6.1 of
arXiv:1606.05250; 2018, arXiv:1806.03822).
"""

import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from compression.errors import UserError
from compression.problems import DEFAULT_METRICS

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
SCORES = DEFAULT_METRICS["span"]
"""Names of the scores of a question, in the order of the columns of `span_scores`."""


def normalized(text: str) -> str:
    """A text as it is compared.

    Args:
        text: an answer.

    Returns:
        Lower-case words with single spaces.

    Example:
        >>> normalized("The  Battle of Hastings, (1066)"), normalized("a")
        ('battle of hastings 1066', '')
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def span_scores(
    predictions: Sequence[str], answers: Sequence[Sequence[str]], *, unanswerable: bool
) -> NDArray[np.float64]:
    """Score every question.

    Args:
        predictions: the answer given to each question; empty for none.
        answers: the accepted answers of each question; none where there is no answer.
        unanswerable: whether the rules of version 2 hold. Under those of version 1 a question without accepted answers
            scores 0, as does a prediction without words, unless an accepted answer has none either (exact match 1).

    Returns:
        (questions, 2) F1 and exact match, 0..1.

    Raises:
        ValueError: the numbers of predictions and questions differ.

    Example:
        >>> span_scores(["the year 1066"], [["1066", "in 1066"]], unanswerable=False).round(2).tolist()
        [[0.67, 0.0]]
        >>> span_scores(["", "1066"], [[], []], unanswerable=True).tolist()
        [[1.0, 1.0], [0.0, 0.0]]
    """
    pairs = zip(predictions, answers, strict=True)
    scores = [_best(normalized(given), list(map(normalized, accepted)), unanswerable) for given, accepted in pairs]
    return np.array(scores, np.float64).reshape(-1, len(SCORES))


def _best(given: str, accepted: list[str], unanswerable: bool) -> tuple[float, float]:
    if unanswerable:
        accepted = [answer for answer in accepted if answer] or [""]
    overlaps = [_overlap(given.split(), answer.split(), unanswerable) for answer in accepted]
    return max(overlaps, default=0.0), float(given in accepted)


def _overlap(given: list[str], accepted: list[str], unanswerable: bool) -> float:
    """F1 of two bags of words."""
    if unanswerable and not (given and accepted):
        return float(given == accepted)
    common = sum((Counter(given) & Counter(accepted)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(given), common / len(accepted)
    return 2 * precision * recall / (precision + recall)


def compute_spans(scores: NDArray[np.float64]) -> dict[str, float]:
    """The metrics of a split.

    Args:
        scores: (questions, 2) of `span_scores`.

    Returns:
        `f1` and `exact_match`, means over the questions, 0..1.

    Raises:
        UserError: no questions.

    Example:
        >>> compute_spans(np.array([[1.0, 1.0], [0.5, 0.0]]))
        {'f1': 0.75, 'exact_match': 0.5}
    """
    if not len(scores):
        raise UserError("there are no questions to score")
    return {name: float(value) for name, value in zip(SCORES, scores.mean(axis=0), strict=True)}


def best_threshold(null_odds: NDArray[np.float64], answered: NDArray[np.float64], empty: NDArray[np.float64]) -> float:
    """The threshold on the odds of no answer that scores best; a question whose odds are higher is given no answer.

    As version 2's script searches it, but questions of equal odds are taken together.

    Args:
        null_odds: (questions,) score of no answer minus that of the best answer.
        answered: (questions,) score of the best answer.
        empty: (questions,) score of giving no answer.

    Returns:
        One of the odds, the smallest of equally good ones; minus infinity where giving no answer at all is best.

    Example:
        >>> best_threshold(np.array([-2.0, 1.0, 3.0]), np.array([1.0, 0.5, 0.0]), np.array([0.0, 0.0, 1.0]))
        1.0
    """
    order = np.argsort(null_odds, kind="stable")
    gains = np.concatenate([[0.0], np.cumsum((answered - empty)[order])])
    odds = np.concatenate([[-np.inf], null_odds[order]])
    last = np.append(odds[1:] != odds[:-1], True)  # of equal odds, all are answered or none
    candidates = np.flatnonzero(last & (odds < np.inf))
    return float(odds[candidates[np.argmax(gains[candidates])]])
