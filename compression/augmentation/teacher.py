"""A teacher that judges augmented rows: what it predicts, how far a copy moves its prediction, which label it gives."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from compression.architecture.checkpoint import load_classifier, load_tokenizer
from compression.architecture.labels import output_order
from compression.control import Control
from compression.data.load import TaskData
from compression.problems import Problem
from compression.runtime import Runtime
from compression.training.precision import DTYPES
from compression.training.predict import encode_for, predict

if TYPE_CHECKING:
    import pandas


class Judge:
    """A fine-tuned teacher of a task.

    Args:
        folder: its checkpoint.
        data: the task.
        runtime: device and precision.
        control: whether to stop.

    Attributes:
        problem: what the task predicts.

    Raises:
        CheckpointError: the folder cannot be loaded, or its labels are not the task's.
    """

    def __init__(self, folder: Path, data: TaskData, *, runtime: Runtime, control: Control) -> None:
        self._model = load_classifier(folder).to(device=runtime.device, dtype=DTYPES[runtime.precision])
        self._tokenizer = load_tokenizer(folder)
        self._order = output_order(self._model.config.id2label, data.labels)
        self.problem = data.problem
        self._task = data.config
        self._control = control

    def outputs(self, frame: "pandas.DataFrame") -> NDArray[np.float64]:
        """What the teacher says of some rows.

        Args:
            frame: rows of the task.

        Returns:
            (rows, labels) probabilities, of classes or of each of several labels; or (rows, 1) predicted values.
        """
        encoded = encode_for(self._model, frame, self._tokenizer, self._task, self._control)
        logits = predict(self._model, encoded, pad_token_id=self._tokenizer.pad_token_id, control=self._control)
        ordered = logits[:, self._order].astype(np.float64)
        if self.problem == "regression":
            return ordered
        return np.asarray(softmax(ordered, axis=1) if self.problem == "classification" else expit(ordered))

    def labels(self, outputs: NDArray[np.float64]) -> NDArray[Any]:
        """Labels that the teacher gives.

        Args:
            outputs: what `outputs` returned.

        Returns:
            (rows,) class indices or predicted values, or (rows, labels) 0 and 1 of a task with several labels.
        """
        if self.problem == "regression":
            return outputs[:, 0]
        if self.problem == "multi_label":
            return (outputs >= 0.5).astype(np.float64)
        classes: NDArray[np.int64] = outputs.argmax(axis=1)
        return classes


def shift(before: NDArray[np.float64], after: NDArray[np.float64], problem: Problem) -> NDArray[np.float64]:
    r"""How far a change of the text moves the teacher's output.

    .. math:: d = \frac{1}{2} \sum_c |p_c - q_c|

    is the total variation distance of class probabilities. Of several labels it is the largest change of a label's
    probability, of a number the absolute difference.

    Args:
        before: outputs for the originals, (rows, labels).
        after: outputs for the changed texts, likewise.
        problem: what is predicted.

    Returns:
        (rows,) distances.

    Example:
        >>> shift(np.array([[0.9, 0.1]]), np.array([[0.5, 0.5]]), "classification").tolist()
        [0.4]
    """
    change = np.abs(before - after)
    distance: NDArray[np.float64] = change.sum(axis=1) / 2 if problem == "classification" else change.max(axis=1)
    return distance
