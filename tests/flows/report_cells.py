"""Cells of an invented study with the spread, sizes and speeds of a real one."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas

from compression.analysis.cells import Cell


@dataclass(frozen=True)
class Invented:
    accuracy: dict[str, float]
    parameters: int
    bytes: int
    milliseconds: float


TASKS = {"tweets": (2400, 3), "rte": (277, 2)}
VARIANTS = {
    "teacher": Invented({"tweets": 0.842, "rte": 0.701}, 22_714_371, 90_868_376, 5.9),
    "finetuned-3l": Invented({"tweets": 0.801, "rte": 0.638}, 17_388_291, 69_564_112, 3.1),
    "distilled-3l": Invented({"tweets": 0.826, "rte": 0.655}, 17_388_291, 69_564_112, 3.1),
    "distilled-3l-int8": Invented({"tweets": 0.825, "rte": 0.652}, 17_388_291, 18_012_640, 1.9),
    "distilled-6l-int8": Invented({"tweets": 0.836, "rte": 0.690}, 22_714_371, 23_402_118, 3.15),
    "truncated-2l": Invented({"tweets": 0.786, "rte": 0.561}, 15_612_931, 62_463_000, 3.3),
}


def invent(folder: Path, *, seeds: tuple[int | None, ...] = (0, 1, 2), variants=VARIANTS, tasks=TASKS) -> list[Cell]:
    """Cells with predictions files; what a task is hard on is shared by all variants, as in life."""
    return [
        _cell(folder, name, spec, task, seed, index)
        for index, (name, spec) in enumerate(variants.items())
        for task in tasks
        for seed in seeds
    ]


def _cell(folder: Path, name: str, spec: Invented, task: str, seed: int | None, index: int) -> Cell:
    rows, classes = TASKS[task]
    shared = np.random.default_rng(len(task))
    gold, difficulty = shared.integers(0, classes, rows), shared.normal(size=rows)
    own = np.random.default_rng([index, seed or 0, len(task)])
    difficulty = difficulty + 0.45 * own.normal(size=rows)
    rate = spec.accuracy[task] + own.normal() * 0.25 / rows**0.5
    right = difficulty <= np.quantile(difficulty, rate)
    chosen = np.where(right, gold, (gold + 1) % classes)
    logits = np.eye(classes)[chosen] * 3 + own.normal(size=(rows, classes)) * 0.1
    frame = pandas.DataFrame({"split": "", "id": np.arange(rows), "gold": gold})
    for column in range(classes):
        frame[f"logit_{column}"] = logits[:, column]
    path = folder / f"{index}-{task}-{seed}.parquet"
    frame.to_parquet(path)
    passes = spec.milliseconds * (1 + 0.01 * own.normal()) * own.lognormal(0, 0.03, size=100)
    q1, median, q3, p95 = np.quantile(passes, [0.25, 0.5, 0.75, 0.95])
    return Cell(
        variant=name,
        task=task,
        seed=seed,
        metrics={"accuracy": float((chosen == gold).mean())},
        efficiency={
            "parameters": spec.parameters,
            "bytes": spec.bytes,
            "latency_ms": {
                "median": median, "q1": q1, "q3": q3, "p95": p95, "samples": passes.tolist(), "length": 32, "threads": 1,
            },
        },
        predictions=path,
        examples={"": rows},
        cached=index == 0,
        links={"MLflow": f"http://127.0.0.1:5000/#/experiments/1/runs/{index}{len(task)}{seed}"},
    )  # fmt: skip
