"""Published settings of distillation, by name and task."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """Settings that a paper, or its released code, used.

    Attributes:
        source: where they are printed.
        fields: fields of the stage's configuration.
        by_task: GLUE task -> fields that are different for it.
    """

    source: str
    fields: Mapping[str, Any]
    by_task: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def _intermediate_epochs(**epochs: float) -> dict[str, dict[str, Any]]:
    return {task: {"intermediate": {"epochs": count}} for task, count in epochs.items()}


_TINYBERT: dict[str, Any] = {
    "objectives": {"embedding": 1.0, "hidden": 1.0, "attention": 1.0},
    "layer_mapping": "uniform",
    "intermediate": {"epochs": 20.0, "learning_rate": 5e-5, "batch_size": 32, "schedule": "constant"},
    "epochs": 3.0,
    "learning_rate": 3e-5,
    "batch_size": 32,
    "temperature": 1.0,
    "soft_weight": 1.0,
    "hard_weight": 0.0,
}

RECIPES: dict[str, Recipe] = {
    "tinybert": Recipe(
        "Jiao et al. 2019, arXiv:1909.10351, section 4.2; of its grids for the prediction step, what the README takes",
        _TINYBERT,
        _intermediate_epochs(cola=50, mnli=10, qqp=10, qnli=10),
    ),
    "distilbert": Recipe(
        "Sanh et al. 2019, arXiv:1910.01108, section 4.1, DistilBERT (D); temperature and weights of its released code",
        {"temperature": 2.0, "soft_weight": 0.5, "hard_weight": 0.5},
    ),
    "tinybert-code": Recipe(
        "the defaults by task that TinyBERT's released task_distill.py declares but never reads, and its losses",
        {**_TINYBERT, "reference_code": True, "intermediate": {**_TINYBERT["intermediate"], "epochs": 10.0}},
        _intermediate_epochs(cola=50, mnli=5, mrpc=20, sst2=10, stsb=20, qqp=5, qnli=10, rte=20),
    ),
}


GENERAL_RECIPES: dict[str, Recipe] = {
    "distilbert": Recipe(
        "Sanh et al. 2019, arXiv:1910.01108, section 3; weights, masking and optimiser of its released command",
        {
            "objectives": {"soft": 5.0, "masked_lm": 2.0, "cosine": 1.0},
            "layer_mapping": "last",
            "temperature": 2.0,
            "reference_code": True,
            "masking": {"choice": "frequency_smoothed", "smoothing": 0.7},
            "max_length": 512,
            "epochs": 3.0,
            "batch_size": 4000,
            "accumulation_steps": 800,
            "learning_rate": 5e-4,
            "adam_beta2": 0.98,
            "adam_epsilon": 1e-6,
            "weight_decay": 0.0,
            "warmup_ratio": 0.05,
            "max_grad_norm": 5.0,
        },
    ),
    "tinybert": Recipe(
        "Jiao et al. 2019, arXiv:1909.10351, section 4.2: layers alone, otherwise as BERT-base was trained",
        {
            "objectives": {"embedding": 1.0, "hidden": 1.0, "attention": 1.0},
            "layer_mapping": "uniform",
            "max_length": 128,
            "epochs": 3.0,
            "batch_size": 256,
            "learning_rate": 1e-4,
        },
    ),
    "minilm": Recipe(
        "Wang et al. 2020, arXiv:2002.10957, section 4: last layer's attention and value relations",
        {
            "objectives": {"attention_distribution": 1.0, "value_relation": 1.0},
            "layer_mapping": "last",
            "max_length": 512,
            "batch_size": 1024,
            "accumulation_steps": 32,
            "steps": 400_000,
            "learning_rate": 5e-4,
            "warmup_ratio": 0.01,
        },
    ),
}


def recipe_fields(name: str, task: str | None) -> dict[str, Any]:
    """Fields of a recipe for a task.

    Args:
        name: name of a recipe.
        task: GLUE name of the task; None for another task.

    Returns:
        The fields; none for a name that is no recipe.

    Example:
        >>> recipe_fields("tinybert", "qqp")["intermediate"]["epochs"]
        10
    """
    recipe = RECIPES.get(name)
    return {} if recipe is None else merged(recipe.fields, recipe.by_task.get(task or "", {}))


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge mappings, the second over the first, mapping into mapping.

    Args:
        base: what is overridden.
        over: what is kept as it is.

    Returns:
        The merged mapping.

    Example:
        >>> merged({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}})
        {'a': {'b': 1, 'c': 3}}
    """
    result = dict(base)
    for name, value in over.items():
        before = result.get(name)
        result[name] = merged(before, value) if isinstance(before, Mapping) and isinstance(value, Mapping) else value
    return result
