"""What a plan says of a distillation before it runs: the settings of a recipe, and the layers that are compared."""

from typing import Protocol

from compression.architecture.shape import EncoderShape
from compression.distillation.comparison import compare, comparison_rows
from compression.distillation.config import ObjectivesConfig, TaskDistillConfig
from compression.distillation.general_config import GeneralDistillConfig
from compression.distillation.layer_mapping import HeadRule, LayerMapping
from compression.distillation.recipes import GENERAL_RECIPES, RECIPES
from compression.training.config import TrainingConfig


class ComparingConfig(Protocol):
    """The fields of a configuration that say what is compared."""

    @property
    def objectives(self) -> ObjectivesConfig:
        """What is compared, and how much it weighs."""

    @property
    def layer_mapping(self) -> LayerMapping:
        """Teacher layer of each student layer."""

    @property
    def heads(self) -> HeadRule:
        """Rule for unequal numbers of heads."""


def comparison_remarks(
    config: ComparingConfig, student: EncoderShape | None, teacher: EncoderShape | None
) -> tuple[str, ...]:
    """The layers that are compared, as a table of a line a pair.

    Args:
        config: objectives, mapping and rule for heads.
        student: the student's shape; None when it is not known.
        teacher: the teacher's.

    Returns:
        Lines; none without objectives or while a shape is not known.

    Raises:
        UserError: these shapes cannot be compared so.

    Example:
        >>> small = EncoderShape.regular(layers=2, hidden_size=312, heads=12, intermediate_size=1200)
        >>> large = EncoderShape.regular(layers=12, hidden_size=768, heads=12, intermediate_size=3072)
        >>> for line in comparison_remarks(TaskDistillConfig(objectives={"hidden": 1}), small, large):
        ...     print(line)
        compares hidden; student ← teacher, layers counted from 0:
          layer 0 ← layer 5   projection 312 → 768
          layer 1 ← layer 11  projection 312 → 768
    """
    if student is None or teacher is None or not config.objectives.chosen():
        return ()
    made = compare(config.objectives, config.layer_mapping, config.heads, student, teacher)
    rows = comparison_rows(made, student, teacher)
    widths = [max(len(getattr(row, name)) for row in rows) for name in ("student", "teacher")]
    title = f"compares {', '.join(_with_weights(config.objectives))}; student ← teacher, layers counted from 0:"
    lines = (f"  {row.student:<{widths[0]}} ← {row.teacher:<{widths[1]}}  {row.bridge}".rstrip() for row in rows)
    return (title, *lines)


def settings_remarks(config: TaskDistillConfig) -> tuple[str, ...]:
    """The settings that a recipe brings, and those of an intermediate step.

    Args:
        config: the configuration for its task.

    Returns:
        Lines; none for one step without a recipe.

    Example:
        >>> for line in settings_remarks(TaskDistillConfig(recipe="tinybert").for_task("cola")):
        ...     print(line)  # doctest: +ELLIPSIS
        recipe tinybert: Jiao et al. 2019, arXiv:1909.10351, ...
        first the layers: 50 epochs, batches of 32, learning rate 5e-05 constant
        then the outputs: 3 epochs, batches of 32, learning rate 3e-05 linear; T 1, soft 1, hard 0
    """
    lines = [] if config.recipe is None else [f"recipe {config.recipe}: {RECIPES[config.recipe].source}"]
    outputs = f"T {config.temperature:g}, soft {config.soft_weight:g}, hard {config.hard_weight:g}"
    if config.intermediate is not None:
        lines.append(f"first the layers: {_training(config.intermediate_training())}")
        lines.append(f"then the outputs: {_training(config)}; {outputs}")
    elif config.recipe is not None:
        lines.append(f"{_training(config)}; {outputs}")
    if config.teacher_seeds is not None:
        lines.append(f"teachers of the seeds {', '.join(map(str, config.teacher_seeds))}, outputs averaged")
    return tuple(lines)


def general_settings_remarks(config: GeneralDistillConfig) -> tuple[str, ...]:
    """The settings that a recipe of general distillation brings.

    Args:
        config: the configuration.

    Returns:
        Lines; none without a recipe.

    Example:
        >>> config = GeneralDistillConfig(corpus="a.txt", recipe="distilbert", epochs=1)
        >>> print(general_settings_remarks(config)[1])
        1 epochs, batches of 4000, learning rate 0.0005 linear; T 2, soft 5, masked_lm 2
    """
    if config.recipe is None:
        return ()
    weights = {name: getattr(config.objectives, name) for name in ("soft", "masked_lm")}
    heads = "".join(f", {name} {weight:g}" for name, weight in weights.items() if weight)
    outputs = f"; T {config.temperature:g}{heads}" if heads else ""
    return f"recipe {config.recipe}: {GENERAL_RECIPES[config.recipe].source}", f"{_training(config)}{outputs}"


def _with_weights(objectives: ObjectivesConfig) -> list[str]:
    weights = {name: getattr(objectives, name) for name in objectives.chosen()}
    return [name if weight == 1 else f"{weight:g} · {name}" for name, weight in weights.items()]


def _training(config: TrainingConfig) -> str:
    length = f"{config.epochs:g} epochs" if config.steps is None else f"{config.steps} steps"
    return f"{length}, batches of {config.batch_size}, learning rate {config.learning_rate:g} {config.schedule}"
