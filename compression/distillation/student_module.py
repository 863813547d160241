"""The student while it is distilled: the model, what is captured of it, and the projections that are thrown away."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from compression.architecture.conversion import to_plain
from compression.distillation.capture import Captured, capture
from compression.distillation.comparison import Comparison
from compression.distillation.losses.averaging import Form
from compression.distillation.projections import Projections

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from compression.architecture.encoder.modeling_bertpress import BertpressPreTrainedModel


@dataclass(frozen=True)
class StudentCaptured:
    """What was captured of a student.

    Attributes:
        captured: as the student gave it.
        projected: [b, l, d] its hidden states in the teacher's width, the embeddings' first where they are compared;
            none when nothing is compared through projections.
    """

    captured: Captured
    projected: tuple[Tensor, ...] = ()


class StudentModule(nn.Module):
    """A student with its projections, trained as one and called as one.

    Projecting inside the forward pass puts it under autocast, and under whatever wraps the module for several
    processes. Called as any classifier it is the student.

    Args:
        student: an encoder of any shape with a head; trained in place.
        comparison: what is compared.
        projections: maps to the teacher's width; None when no objective needs them.
    """

    def __init__(
        self, student: "BertpressPreTrainedModel", comparison: Comparison, projections: Projections | None
    ) -> None:
        super().__init__()
        self.student = student
        self.projections = projections
        self._comparison = comparison

    @property
    def config(self) -> Any:
        """The student's configuration."""
        return self.student.config

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        compared: bool = False,
        predict_positions: Tensor | None = None,
    ) -> Any:
        """Run the student.

        Args:
            input_ids: [b, l].
            attention_mask: [b, l].
            token_type_ids: [b, l].
            compared: whether what is compared is captured.
            predict_positions: see `capture`.

        Returns:
            The student's own output; or `StudentCaptured`, when it is captured.
        """
        batch = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        given = {name: tensor for name, tensor in batch.items() if tensor is not None}
        if not compared:
            return self.student(**given)
        captured = capture(self.student, given, self._comparison.student, predict_positions)
        return StudentCaptured(captured, self._projected(captured.hidden_states))

    def _projected(self, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if self.projections is None:
            return ()
        embedded = 1 if "embedding" in self._comparison.objectives else 0
        layers = states[embedded:] if "hidden" in self._comparison.objectives else ()
        return tuple(map(self.projections.embedding, states[:embedded])) + tuple(map(self.projections.hidden, layers))


def student_module(
    student: "BertpressPreTrainedModel",
    comparison: Comparison,
    teacher_width: int,
    *,
    seed: int,
    form: Form,
) -> StudentModule:
    """Wrap a student, with projections where an objective compares through them.

    Args:
        student: an encoder of any shape.
        comparison: what is compared.
        teacher_width: width of the teacher's hidden states.
        seed: seed of the projections.
        form: `released` for the projection of TinyBERT's released code.

    Returns:
        The module.
    """
    if not needs_projections(comparison):
        return StudentModule(student, comparison, None)
    return StudentModule(
        student, comparison, Projections(student.config.hidden_size, teacher_width, seed=seed, form=form)
    )


def give_back(trained: "BertpressPreTrainedModel", student: "PreTrainedModel") -> None:
    """Put the weights of a trained encoder of any shape into the plain model that it was made of.

    Args:
        trained: the trained encoder.
        student: the plain model, or the encoder itself; in evaluation mode afterwards. A pooler that the encoder has no
            use for, as beside a masked-LM head, stays as it is.
    """
    if trained is not student:
        report = student.load_state_dict(to_plain(trained).state_dict(), strict=False)
        lost = [name for name in report.missing_keys if ".pooler." not in f".{name}"] + report.unexpected_keys
        if lost:
            raise RuntimeError(f"the trained encoder has no {lost[0]}")
    student.eval()


def needs_projections(comparison: Comparison) -> bool:
    """Whether an objective compares through projections.

    Args:
        comparison: what is compared.

    Returns:
        Whether embeddings or hidden states are compared.

    Example:
        >>> from compression.distillation.comparison import Wanted
        >>> needs_projections(Comparison(("attention",), (), (), Wanted(), Wanted()))
        False
    """
    return bool({"embedding", "hidden"}.intersection(comparison.objectives))
