"""Configuration of the `finetune` stage."""

from pydantic import Field

from compression.architecture.config import StudentConfig
from compression.training.config import TrainingConfig


class FinetuneConfig(TrainingConfig):
    """Train an encoder on a task's gold labels (Devlin et al. 2018, section 4).

    Example:
        >>> FinetuneConfig(student={"layers": [0, 2, 4]}).student.layers
        (0, 2, 4)
    """

    student: StudentConfig | None = Field(
        None, description="Student to train as the no-distillation baseline; absent, the chain's own model is trained"
    )
