"""What a task may predict, and the metrics that are measured where a task names none of its own."""

from typing import Literal

Problem = Literal["classification", "regression", "multi_label", "span"]
"""One class of several; a number; any number of labels at once; the answer to a question as a span of its context."""

DEFAULT_METRICS: dict[Problem, tuple[str, ...]] = {
    "classification": ("accuracy", "macro_f1"),
    "regression": ("pearson", "spearman"),
    "multi_label": ("micro_f1", "macro_f1", "exact_match"),
    "span": ("f1", "exact_match"),
}
"""Metric names of each problem, the headline first."""
