"""The `task_distill` stage: training a student on the teacher's outputs."""

from pathlib import Path
from typing import Any, ClassVar

from compression.architecture.shape import EncoderShape
from compression.data.config import TaskConfig
from compression.distillation.config import TaskDistillConfig
from compression.distillation.remarks import comparison_remarks, settings_remarks
from tasks import keys
from tasks.source_fingerprint import module_hashes
from tasks.stages.base import Product, Stage, StageRequest
from tasks.stages.shared_folder import shared_folder
from tasks.stages.training import load_data, starting_model, trained_shape, training_arguments, training_summary

_TEACHER = ("compression.distillation.teacher_states", "compression.distillation.teacher_outputs")
_LIBRARIES = ("torch", "transformers")


class TaskDistill(Stage):
    """Trains the chain's model, or a new student, on the teacher's outputs for a task and on the gold labels."""

    kind = "task_distill"
    config_model = TaskDistillConfig
    accepts: ClassVar[frozenset[Product]] = frozenset({"encoder", "classifier"})
    produces = "classifier"
    splits = ("train", "selection")
    uses_seed = True
    needs_student = True
    takes_rows = True
    resource = "training"

    def roles(self, config: TaskDistillConfig) -> tuple[str, ...]:
        """The teacher or teachers, and the pretrained encoder when a student is made from it."""
        seeds = config.teacher_seeds
        teachers = ("teacher",) if seeds is None else tuple(f"teacher@{seed}" for seed in seeds)
        return (*teachers, "encoder") if config.student is not None else teachers

    def for_task(self, config: TaskDistillConfig, task: TaskConfig) -> TaskDistillConfig:
        """With the settings of its recipe for the task; see `Stage.for_task`."""
        return config.for_task(task.glue)

    def remarks(
        self, config: TaskDistillConfig, shape: EncoderShape | None, teacher: EncoderShape | None
    ) -> tuple[str, ...]:
        """Settings of a recipe, and the layers that are compared; see `Stage.remarks`."""
        return (*settings_remarks(config), *comparison_remarks(config, shape, teacher))

    def reshape(self, config: TaskDistillConfig, shape: EncoderShape) -> EncoderShape:
        """The student's shape, where there is one; see `Stage.reshape`."""
        return trained_shape(config.student, shape)

    def run(self, request: StageRequest) -> dict[str, Any]:
        """Distil and save the classifier; see `Stage.run`."""
        from compression.architecture.checkpoint import load_task_model, load_tokenizer, save_checkpoint
        from compression.distillation import task
        from compression.distillation.same_tokenizer import check_same_tokenizer

        data = load_data(request)
        student, folder = starting_model(request, request.config.student, data)
        tokenizer = load_tokenizer(folder)
        teachers = [folder for role, folder in request.inputs.items() if role.startswith("teacher")]
        for each in teachers:
            check_same_tokenizer(tokenizer, load_tokenizer(each))
        result = task.apply(
            student,
            [load_task_model(each) for each in teachers],
            tokenizer,
            data,
            request.config,
            **training_arguments(request),
            shared=_teacher_folder(request),
        )
        save_checkpoint(student, tokenizer, request.output)
        return training_summary(student, data, result)


def _teacher_folder(request: StageRequest) -> Path:
    """Where the teacher's outputs are kept for all students; files in it are named by teacher, rows and precision."""
    libraries = {name: keys.library_version(name) for name in _LIBRARIES}
    return shared_folder(
        request, "teacher", {"code": [module_hashes(module) for module in _TEACHER], "environment": libraries}
    )
