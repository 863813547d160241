"""A teacher that judges augmented rows: what it predicts, how far a copy moves its prediction, which label it gives."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from compression.architecture.checkpoint import load_classifier, load_tokenizer
from compression.architecture.labels import output_order
from compression.control import Control
from compression.data.load import TaskData
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

    Raises:
        CheckpointError: the folder cannot be loaded, or its labels are not the task's.
    """

    def __init__(self, folder: Path, data: TaskData, *, runtime: Runtime, control: Control) -> None:
        self._model = load_classifier(folder).to(device=runtime.device, dtype=DTYPES[runtime.precision])
        self._tokenizer = load_tokenizer(folder)
        self._order = output_order(self._model.config.id2label, data.labels)
        self._regression = data.problem == "regression"
        self._task = data.config
        self._control = control

    def outputs(self, frame: "pandas.DataFrame") -> NDArray[np.float64]:
        """What the teacher says of some rows.

        Args:
            frame: rows of the task.

        Returns:
            (rows, classes) probabilities, or (rows, 1) predicted values of a regression task.
        """
        encoded = encode_for(self._model, frame, self._tokenizer, self._task, self._control)
        logits = predict(self._model, encoded, pad_token_id=self._tokenizer.pad_token_id, control=self._control)
        ordered = logits[:, self._order].astype(np.float64)
        return ordered if self._regression else np.asarray(softmax(ordered, axis=1))

    def labels(self, outputs: NDArray[np.float64]) -> NDArray[np.float64] | NDArray[np.int64]:
        """Labels that the teacher gives.

        Args:
            outputs: what `outputs` returned.

        Returns:
            (rows,) class indices, or predicted values.
        """
        return outputs[:, 0] if self._regression else outputs.argmax(axis=1)


def shift(before: NDArray[np.float64], after: NDArray[np.float64]) -> NDArray[np.float64]:
    r"""How far a change of the text moves the teacher's output.

    .. math:: d = \frac{1}{2} \sum_c |p_c - q_c|

    the total variation distance of the class probabilities; for a single output the absolute difference.

    Args:
        before: (rows, classes) probabilities of the originals, or (rows, 1) values.
        after: the same of the changed texts.

    Returns:
        (rows,) distances.

    Example:
        >>> shift(np.array([[0.9, 0.1]]), np.array([[0.5, 0.5]])).tolist()
        [0.4]
    """
    difference: NDArray[np.float64] = np.abs(before - after).sum(axis=1)
    return difference if before.shape[1] == 1 else difference / 2
