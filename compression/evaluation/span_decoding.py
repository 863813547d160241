"""Answers from start and end logits: the best spans of all windows of a question, and the odds that there is none."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compression.data.config import SpanConfig
from compression.data.span_encoding import NOWHERE, SpanFeatures
from compression.training.span_logits import SpanLogits


@dataclass(frozen=True)
class Candidate:
    """A possible answer.

    Attributes:
        text: as it stands in the context, without white space around.
        score: sum of its start and end logit.
    """

    text: str
    score: float


@dataclass(frozen=True)
class DecodedAnswer:
    """What a model says to one question.

    Attributes:
        candidates: different answers, the best first; none where the context has no word pieces.
        null_score: smallest score of no answer over the windows.
    """

    candidates: tuple[Candidate, ...]
    null_score: float

    @property
    def text(self) -> str:
        """The best answer; empty without any."""
        return self.candidates[0].text if self.candidates else ""

    @property
    def null_odds(self) -> float:
        """Score of no answer minus that of the best one; infinite without any."""
        return self.null_score - self.candidates[0].score if self.candidates else float("inf")


def decode_spans(
    features: SpanFeatures, logits: SpanLogits, contexts: Sequence[str], config: SpanConfig
) -> list[DecodedAnswer]:
    """Read the answers to all questions off a model's outputs (Devlin et al. 2018, arXiv:1810.04805, section 4.3).

    A span scores the sum of its start and end logit; of the `n_best` starts and ends of each window those pairs count
    that lie in the context, in order, and are no longer than `max_answer_length`. No answer scores both logits of the
    first special token, in the window where that is smallest: a question has no answer only where no window has one.

    Args:
        features: the windows.
        logits: the model's outputs for them.
        contexts: the context of each question.
        config: how many starts and ends are considered, and how long an answer may be.

    Returns:
        One a question, in the order of the contexts.
    """
    starts = np.searchsorted(features.rows, np.arange(len(contexts) + 1))
    return [
        _decoded([(features, logits, window) for window in range(starts[row], starts[row + 1])], context, config)
        for row, context in enumerate(contexts)
    ]


def _decoded(
    windows: Sequence[tuple[SpanFeatures, SpanLogits, int]], context: str, config: SpanConfig
) -> DecodedAnswer:
    nulls = []
    spans: list[tuple[float, int, int]] = []
    for features, logits, window in windows:
        scores = logits.window(window).astype(np.float64)
        nulls.append(float(scores[features.no_answer[window]].sum()))
        spans += _best_spans(scores, features.offsets[window], config)
    spans.sort(key=lambda span: (-span[0], span[1:]))
    found: dict[str, float] = {}
    for score, start, end in spans:
        text = context[start:end].strip()
        if text and len(found) < config.n_best:
            found.setdefault(text, score)
    return DecodedAnswer(tuple(Candidate(text, score) for text, score in found.items()), min(nulls, default=0.0))


def _best_spans(
    scores: NDArray[np.float64], offsets: NDArray[np.int32], config: SpanConfig
) -> Iterator[tuple[float, int, int]]:
    """Score, first and one past the last character of the best spans of a window."""
    context = np.flatnonzero(offsets[:, 0] != NOWHERE)
    starts = context[_largest(scores[context, 0], config.n_best)]
    ends = context[_largest(scores[context, 1], config.n_best)]
    lengths = ends[None, :] - starts[:, None] + 1
    first, last = np.nonzero((lengths >= 1) & (lengths <= config.max_answer_length))
    totals = scores[starts[first], 0] + scores[ends[last], 1]
    for place in _largest(totals, config.n_best):
        start, end = starts[first[place]], ends[last[place]]
        yield float(totals[place]), int(offsets[start, 0]), int(offsets[end, 1])


def _largest(values: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """Positions of the largest values, the first of equal ones before the others."""
    return np.argsort(-values, kind="stable")[:count]
