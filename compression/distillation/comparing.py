"""A student and its teacher made ready to be compared inside, batch by batch."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compression.architecture.conversion import shape_of_model, to_bertpress
from compression.control import Control
from compression.data.encoding import Encoded
from compression.distillation.capture import Captured, capture, frozen_teacher
from compression.distillation.comparison import Comparison, compare
from compression.distillation.config import TaskDistillConfig
from compression.distillation.losses.averaging import Form
from compression.distillation.objectives import objective_losses
from compression.distillation.student_module import StudentModule, give_back, student_module
from compression.distillation.teacher_states import StatesLayout, captured_in, keep_teacher_states
from compression.runtime import Runtime
from compression.training.precision import DTYPES
from compression.training.predict import model_inputs

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Comparing:
    """What a training on objectives needs.

    Attributes:
        module: the student as an encoder of any shape, with its projections: what is trained.
        comparison: what is compared.
        form: the papers' equations, or their released code.
        rows: row numbers -> the teacher's kept states for a batch; nothing where they are computed anew.
        taught: batch -> captured of the teacher.
    """

    module: StudentModule
    comparison: Comparison
    form: Form
    rows: Callable[[NDArray[np.int64]], dict[str, Tensor]]
    taught: Callable[[dict[str, Tensor]], Captured]

    @classmethod
    def prepare(
        cls,
        student: "PreTrainedModel",
        teacher: "PreTrainedModel",
        config: TaskDistillConfig,
        encoded: Encoded,
        *,
        epochs: float,
        pad_token_id: int,
        seed: int,
        runtime: Runtime,
        work: Path,
        control: Control,
        shared: Path | None = None,
    ) -> Self:
        """Convert both models, decide what is compared, and keep the teacher's states where that pays.

        Args:
            student: classifier; left as it is, unless it is an encoder of any shape already.
            teacher: fine-tuned classifier; left as it is.
            config: objectives, mapping, and how much may be kept.
            encoded: the training rows.
            epochs: passes over the rows; states that are used once are not kept.
            pad_token_id: token that fills short sequences.
            seed: seed of the projections.
            runtime: device and precision.
            work: folder for kept states.
            control: where to report progress, and whether to stop.
            shared: folder for kept states in place of `work`, where distillations of other students find them.

        Returns:
            Both, ready.

        Raises:
            Interrupted: a stop was asked for.
            UserError: an architecture that cannot be compared inside, or layers that cannot be paired.
        """
        ours, frozen = to_bertpress(student), frozen_teacher(teacher, DTYPES[runtime.precision], runtime.device)
        shapes = shape_of_model(ours), shape_of_model(frozen)
        comparison = compare(config.objectives, config.layer_mapping, config.heads, *shapes)
        form: Form = "released" if config.reference_code else "paper"
        module = student_module(ours, comparison, shapes[1].hidden_size, seed=seed, form=form)
        layout = StatesLayout.of(comparison.teacher, shapes[1], DTYPES[runtime.precision])
        # The released losses count padding, of which nothing is kept.
        too_large = layout.gigabytes(encoded.lengths) > config.teacher_states_gigabytes
        if epochs <= 1 or too_large or form == "released":

            def anew(batch: dict[str, Tensor]) -> Captured:
                with torch.no_grad():
                    return capture(frozen, batch, comparison.teacher)

            return cls(module, comparison, form, lambda rows: {}, anew)
        kept = keep_teacher_states(
            frozen,
            encoded,
            layout,
            pad_token_id=pad_token_id,
            device=runtime.device,
            folder=work if shared is None else shared,
            alone=shared is None,
            control=control,
        )
        return cls(module, comparison, form, kept.batch, lambda batch: captured_in(batch, comparison.teacher))

    def losses(self, model: Any, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Run the student on a batch and compare it with its teacher.

        Args:
            model: `module`, or what wraps it for training.
            batch: word pieces and mask, and what `rows` gave.

        Returns:
            The student's logits, and the unweighted objectives by name.
        """
        own = model(**model_inputs(model, batch), compared=True)
        mask = batch["attention_mask"]
        return own.captured.logits, objective_losses(self.comparison, own, self.taught(batch), mask, self.form)

    def give_back(self, student: "PreTrainedModel") -> None:
        """Put the trained weights into the model that `prepare` was given.

        Args:
            student: that model.
        """
        give_back(self.module.student, student)
