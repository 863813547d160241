"""What the stages that train have in common: the model they start from, and the summary they leave."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from compression.architecture.config import StudentConfig
from compression.architecture.shape import EncoderShape
from compression.architecture.student_shape import student_shape
from compression.control import Control
from compression.errors import UserError
from compression.runtime import Runtime
from tasks.stages.base import StageRequest

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from compression.data.load import TaskData
    from compression.training.loop import TrainingResult


class TrainingArguments(TypedDict):
    """What every training is given besides model, data and configuration."""

    seed: int
    runtime: Runtime
    work: Path
    control: Control
    history: Path


def training_arguments(request: StageRequest) -> TrainingArguments:
    """Arguments of a training that come from the request alone.

    Args:
        request: a request of a stage that trains.

    Returns:
        The arguments; the loss curve goes into the stage's output.
    """
    return {
        "seed": request.seed,
        "runtime": request.runtime,
        "work": request.work,
        "control": request.control,
        "history": request.output / "history.jsonl",
    }


def load_data(request: StageRequest) -> "TaskData":
    """The task's rows; those of the `data` stage before, where there is one, in place of its training rows.

    Args:
        request: a request of a stage that needs a task.

    Returns:
        The rows.

    Raises:
        DataError: files are missing or rows are malformed.
        ValueError: the request has no task, which planning does not let happen.
    """
    from compression.data.load import load_task

    if request.task is None:
        raise ValueError("this stage needs a task")
    data, rows = load_task(request.task, request.roots), request.inputs.get("data")
    if rows is None:
        return data
    from compression.augmentation.shards import read_rows

    return dataclasses.replace(data, train=read_rows(rows))


def trained_shape(student: StudentConfig | None, shape: EncoderShape) -> EncoderShape:
    """Shape of the model that a stage trains; see `Stage.reshape`.

    Args:
        student: the student to build, if any.
        shape: shape of the chain's model, or of the pretrained encoder.

    Returns:
        The shape.

    Raises:
        UserError: a layer that the encoder does not have.
    """
    return shape if student is None else student_shape(student, shape)


def starting_model(
    request: StageRequest, student: StudentConfig | None, data: "TaskData"
) -> tuple["PreTrainedModel", Path]:
    """The model that a stage trains: a new student, or the chain's own with a head for the task.

    Args:
        request: inputs, configuration of the training, and seed.
        student: the student to build, if any.
        data: the task.

    Returns:
        The model and the folder that holds its tokenizer.

    Raises:
        UserError: there is a student to build and a model before it in the chain as well, or neither.
    """
    from compression.architecture.checkpoint import load_task_model
    from compression.architecture.student import build_student
    from compression.training.layer_drop import droppable

    folder = starting_folder(request, student)
    if student is None:
        model = load_task_model(folder, labels=data.labels, problem=data.problem, seed=request.seed)
    else:
        model = build_student(student, folder, labels=data.labels, problem=data.problem, seed=request.seed)
    return droppable(model, request.config.layer_drop), folder


def starting_folder(request: StageRequest, student: StudentConfig | None) -> Path:
    """The folder that a stage makes its model of: the chain's own model, or the pretrained encoder for a student.

    Args:
        request: inputs.
        student: the student to build, if any.

    Returns:
        The folder.

    Raises:
        UserError: there is a student to build and a model before it in the chain as well, or neither.
    """
    own = request.inputs.get("model")
    if student is None:
        if own is None:
            raise UserError("nothing to train: no `student`, and no model before this stage in the chain")
        return own
    if own is not None:
        raise UserError("`student` starts a new model, which would discard the one before this stage in the chain")
    return request.inputs["encoder"]


def training_summary(model: "PreTrainedModel", data: "TaskData", result: "TrainingResult") -> dict[str, Any]:
    """Summary of a stage that trained.

    Args:
        model: the trained model.
        data: the task.
        result: what the training came to.

    Returns:
        Parameter count, training summary, and final values for a table or a run page.
    """
    from compression.architecture.checkpoint import count_parameters

    final = {"loss": result.final_loss}
    if result.best_score is not None:
        final[f"selection_{data.metrics[0]}"] = result.best_score
    return {"parameters": count_parameters(model), "training": result.summary(), "final": final}
