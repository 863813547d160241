"""The GLUE tasks: columns, labels, reported splits and metrics (Wang et al. 2018, arXiv:1804.07461)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class GlueTask:
    """One GLUE task as the Hugging Face `glue` data set spells it.

    Attributes:
        text: text columns, one or two.
        labels: label names in order of class index; empty for regression.
        evaluation: name of each reported split -> name of its file or hub split.
        metrics: metric names in the order of the GLUE paper; the first is the headline.
    """

    text: tuple[str, ...]
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    evaluation: tuple[tuple[str, str], ...] = (("", "validation"),)


_MNLI_LABELS = ("entailment", "neutral", "contradiction")
_RTE_LABELS = ("entailment", "not_entailment")

GLUE_TASKS: dict[str, GlueTask] = {
    "cola": GlueTask(("sentence",), ("unacceptable", "acceptable"), ("matthews",)),
    "sst2": GlueTask(("sentence",), ("negative", "positive"), ("accuracy",)),
    "mrpc": GlueTask(("sentence1", "sentence2"), ("not_equivalent", "equivalent"), ("f1", "accuracy")),
    "stsb": GlueTask(("sentence1", "sentence2"), (), ("pearson", "spearman")),
    "qqp": GlueTask(("question1", "question2"), ("not_duplicate", "duplicate"), ("f1", "accuracy")),
    "mnli": GlueTask(
        ("premise", "hypothesis"),
        _MNLI_LABELS,
        ("accuracy",),
        (("", "validation_matched"), ("mismatched", "validation_mismatched")),
    ),
    "qnli": GlueTask(("question", "sentence"), _RTE_LABELS, ("accuracy",)),
    "rte": GlueTask(("sentence1", "sentence2"), _RTE_LABELS, ("accuracy",)),
    "wnli": GlueTask(("sentence1", "sentence2"), ("not_entailment", "entailment"), ("accuracy",)),
}
