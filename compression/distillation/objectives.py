"""Values of the objectives on what was captured of student and teacher."""

import torch
from torch import Tensor

from compression.distillation.capture import Captured
from compression.distillation.comparison import Comparison
from compression.distillation.config import ObjectivesConfig
from compression.distillation.heads import average_groups
from compression.distillation.losses.attention_distribution_divergence import attention_distribution_divergence
from compression.distillation.losses.attention_score_mean_squared_error import attention_score_mean_squared_error
from compression.distillation.losses.averaging import Average, Form
from compression.distillation.losses.embedding_mean_squared_error import embedding_mean_squared_error
from compression.distillation.losses.hidden_cosine import hidden_cosine
from compression.distillation.losses.hidden_mean_squared_error import hidden_mean_squared_error
from compression.distillation.losses.patient_cls import patient_cls
from compression.distillation.losses.relational_angle import relational_angle
from compression.distillation.losses.relational_distance import relational_distance
from compression.distillation.losses.value_relation_divergence import value_relation_divergence
from compression.distillation.student_module import StudentCaptured


def objective_losses(
    comparison: Comparison, student: StudentCaptured, teacher: Captured, attention_mask: Tensor, form: Form = "paper"
) -> dict[str, Tensor]:
    """Compute every objective of a comparison.

    Args:
        comparison: what is compared.
        student: captured of the student, projected where that is needed.
        teacher: captured of the teacher.
        attention_mask: [b, l], 1 for real word pieces and 0 for padding.
        form: `released` for the papers' released code.

    Returns:
        Objective -> unweighted scalar: the sum over the pairs of layers (TinyBERT, arXiv:1909.10351, eq. 6).
    """
    sides = _Sides(comparison, student, teacher, attention_mask, form)
    return {name: getattr(sides, name)() for name in comparison.objectives}


def weighted(parts: dict[str, Tensor], weights: ObjectivesConfig) -> Tensor:
    """Weighted sum of objectives.

    Args:
        parts: objective -> unweighted scalar; not empty.
        weights: their weights.

    Returns:
        Scalar.
    """
    return torch.stack([getattr(weights, name) * value for name, value in parts.items()]).sum()


class _Sides:
    """Both models' tensors, pair by pair; one method an objective, by its name."""

    def __init__(
        self, comparison: Comparison, student: StudentCaptured, teacher: Captured, mask: Tensor, form: Form
    ) -> None:
        self.student, self.teacher, self.mask, self.form = student, teacher, mask, form
        self.groups = comparison.groups
        self.first_layer = 1 if "embedding" in comparison.objectives else 0

    def sum_over_pairs(self, values: list[Tensor]) -> Tensor:
        return torch.stack(values).sum()

    def embedding(self) -> Tensor:
        own, taught = self.student.projected[0], self.teacher.hidden_states[0]
        return embedding_mean_squared_error(own, taught, self.mask, form=self.form)

    def hidden(self) -> Tensor:
        own, taught = self.student.projected[self.first_layer :], self.teacher.hidden_states[self.first_layer :]
        return self.sum_over_pairs(
            [hidden_mean_squared_error(*pair, self.mask, form=self.form) for pair in zip(own, taught, strict=True)]
        )

    def cosine(self) -> Tensor:
        average: Average = "tokens" if self.form == "released" else "examples"
        own, taught = (side.hidden_states[self.first_layer :] for side in (self.student.captured, self.teacher))
        return self.sum_over_pairs([hidden_cosine(*pair, self.mask, average) for pair in zip(own, taught, strict=True)])

    def attention(self) -> Tensor:
        return self.sum_over_pairs(
            [attention_score_mean_squared_error(*pair, self.mask, form=self.form) for pair in self._scores()]
        )

    def attention_distribution(self) -> Tensor:
        return self.sum_over_pairs([attention_distribution_divergence(*pair, self.mask) for pair in self._scores()])

    def value_relation(self) -> Tensor:
        both = zip(self.student.captured.values, self.teacher.values, self.groups, strict=True)
        return self.sum_over_pairs(
            [value_relation_divergence(own, taught, self.mask, groups=groups) for own, taught, groups in both]
        )

    def cls(self) -> Tensor:
        own, taught = (torch.stack(side.first_states, dim=1) for side in (self.student.captured, self.teacher))
        return patient_cls(own, taught, self.form)

    def relation_distance(self) -> Tensor:
        return relational_distance(self.student.captured.first_states[-1], self.teacher.first_states[-1])

    def relation_angle(self) -> Tensor:
        return relational_angle(self.student.captured.first_states[-1], self.teacher.first_states[-1])

    def _scores(self) -> list[tuple[Tensor, Tensor]]:
        both = zip(self.student.captured.scores, self.teacher.scores, self.groups, strict=True)
        return [(average_groups(own, sizes[0]), average_groups(taught, sizes[1])) for own, taught, sizes in both]
