"""A model's answers to questions, scored: for model selection while training, and for the reported splits."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compression.control import Control
from compression.data.config import TaskConfig, has_unanswerable
from compression.data.span_encoding import SpanFeatures
from compression.errors import UserError
from compression.evaluation.span_decoding import DecodedAnswer, decode_spans
from compression.evaluation.span_metrics import SCORES, best_threshold, compute_spans, span_scores
from compression.training.predict import encode_spans_for, predict_spans

if TYPE_CHECKING:
    import pandas
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_HEADLINE = 0  # the column of F1, which the threshold is chosen for


@dataclass(frozen=True)
class AnsweredQuestions:
    """A model's answers to the questions of a split, before it is decided which of them are given none.

    Attributes:
        frame: the questions.
        answers: what the model says to each.
        unanswerable: whether questions may have no answer.
    """

    frame: "pandas.DataFrame"
    answers: list[DecodedAnswer]
    unanswerable: bool

    @property
    def null_odds(self) -> NDArray[np.float64]:
        """(questions,) score of no answer minus that of the best answer."""
        return np.array([answer.null_odds for answer in self.answers])

    def threshold(self) -> float | None:
        """The best threshold for these questions; None where every question has an answer.

        It is to be chosen on the selection split, never on the one that is reported.
        """
        if not self.unanswerable:
            return None
        best = self._scores([answer.text for answer in self.answers])[:, _HEADLINE]
        nothing = self._scores([""] * len(self.answers))[:, _HEADLINE]
        return best_threshold(self.null_odds, best, nothing)

    def texts(self, threshold: float | None) -> list[str]:
        """The answer given to each question.

        Args:
            threshold: odds above which none is given; None always gives one.

        Returns:
            Texts, empty for no answer.
        """
        silent = np.zeros(len(self.answers), bool) if threshold is None else self.null_odds > threshold
        return ["" if none else answer.text for answer, none in zip(self.answers, silent, strict=True)]

    def metrics(self, threshold: float | None) -> dict[str, float]:
        """F1 and exact match.

        Args:
            threshold: see `texts`.

        Returns:
            Metric -> value, 0..1.
        """
        return compute_spans(self._scores(self.texts(threshold)))

    def predictions(self, threshold: float | None) -> "pandas.DataFrame":
        """A row a question, for the artifact of a cell.

        Args:
            threshold: see `texts`.

        Returns:
            Columns id, name (what the source calls the question), gold (accepted answers), prediction (text, empty for
            none), null_odds, n_best (text and score of the best answers), and the question's f1 and exact_match.
        """
        import pandas

        texts = self.texts(threshold)
        columns: dict[str, Any] = {
            "id": self.frame["id"].to_numpy(),
            "name": self.frame["name"].to_numpy(),
            "gold": [list(accepted) for accepted in self.frame["answers"]],
            "prediction": texts,
            "null_odds": self.null_odds,
            "n_best": [
                [{"text": candidate.text, "score": candidate.score} for candidate in answer.candidates]
                for answer in self.answers
            ],
        }
        return pandas.DataFrame(columns | dict(zip(SCORES, self._scores(texts).T, strict=True)))

    def _scores(self, texts: list[str]) -> NDArray[np.float64]:
        return span_scores(texts, self.frame["answers"].tolist(), unanswerable=self.unanswerable)


def answer_questions(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    frame: "pandas.DataFrame",
    task: TaskConfig,
    *,
    features: SpanFeatures | None = None,
    control: Control,
    description: str | None = None,
) -> AnsweredQuestions:
    """Let a model answer the questions of a frame.

    Args:
        model: span model; left in evaluation mode, on the device where it is.
        tokenizer: its tokenizer.
        frame: rows of the task.
        task: a task that predicts spans.
        features: the frame's windows, when they are at hand.
        control: where to report progress, and whether to stop.
        description: name of the phase in progress displays; None reports nothing.

    Returns:
        The answers.

    Raises:
        UserError: outputs that are not finite, or windows that the model cannot take.
        Interrupted: a stop was asked for.
    """
    windows = encode_spans_for(model, frame, tokenizer, task, control) if features is None else features
    logits = predict_spans(
        model, windows.encoded, pad_token_id=tokenizer.pad_token_id, control=control, description=description
    )
    if not np.isfinite(logits.values).all():
        raise UserError("model outputs are not finite: the model has diverged; lower learning_rate")
    answers = decode_spans(windows, logits, frame["text_pair"].tolist(), task.span)
    return AnsweredQuestions(frame, answers, has_unanswerable(task))
