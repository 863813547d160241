"""The student while it is distilled: the model, what is captured of it, and the projections that are thrown away."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from compression.distillation.capture import Captured, capture
from compression.distillation.comparison import Comparison
from compression.distillation.projections import Projections

if TYPE_CHECKING:
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
    ) -> Any:
        """Run the student.

        Args:
            input_ids: [b, l].
            attention_mask: [b, l].
            token_type_ids: [b, l].
            compared: whether what is compared is captured.

        Returns:
            The student's own output; or `StudentCaptured`, when it is captured.
        """
        batch = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        given = {name: tensor for name, tensor in batch.items() if tensor is not None}
        if not compared:
            return self.student(**given)
        captured = capture(self.student, given, self._comparison.student)
        return StudentCaptured(captured, self._projected(captured.hidden_states))

    def _projected(self, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if self.projections is None:
            return ()
        embedded = 1 if "embedding" in self._comparison.objectives else 0
        layers = states[embedded:] if "hidden" in self._comparison.objectives else ()
        return tuple(map(self.projections.embedding, states[:embedded])) + tuple(map(self.projections.hidden, layers))


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
