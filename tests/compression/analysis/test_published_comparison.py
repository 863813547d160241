"""Printed figures beside measured ones: which belong together, and when they may be compared."""

import json

import pytest

from compression.analysis.cells import Cell
from compression.analysis.published import load_published
from compression.analysis.published_comparison import compare
from compression.analysis.table import table
from compression.architecture.presets import PRESETS
from compression.data.config import TaskConfig

PUBLISHED = load_published()
ABLATION = PUBLISHED.table("tinybert.t3")
TINYBERT = PRESETS["tinybert-4l-312"].shape()
ROWS = {"full": "TinyBERT4", "no-attention": "w/o Attn"}


def measured(tasks, **arguments):
    """Two seeds of two variants with every metric of each task."""
    names = {"mnli": ("accuracy", "accuracy_mismatched"), "mrpc": ("f1", "accuracy"), "cola": ("matthews",)}
    cells = [
        Cell(variant, task, seed, dict.fromkeys(names.get(task, ("accuracy",)), 0.5 + seed / 100))
        for variant in ("full", "no-attention", "other")
        for task in tasks
        for seed in (0, 1)
    ]
    metrics = {task: names[task] for task in tasks if task in names}
    return table(cells, variants=["full", "no-attention", "other"], tasks=tasks, metrics=metrics, **arguments)


def compared(result, tasks, published=ABLATION, *, rows=ROWS, shape=TINYBERT):
    shapes = dict.fromkeys(("full", "no-attention", "other"), shape)
    return compare(result, published, "TinyBERT", rows=rows, tasks=tasks, shapes=shapes)


def glue(*names, **fields):
    return [TaskConfig(name=name, **fields) for name in names]


def test_the_same_shape_split_and_metric_are_comparable():
    result = measured(["mnli", "cola"], baseline="full")
    beside = compared(result, glue("mnli", "cola"))
    assert {name: [figure.printed for figure in row] for name, row in beside.figures.items()} == {
        "full": [82.8, 82.9, 50.8],
        "no-attention": [79.9, 80.7, 41.1],
    }
    assert [figure.delta for figure in beside.figures["full"]] == [None] * 3
    assert [figure.delta for figure in beside.figures["no-attention"]] == pytest.approx([-0.029, -0.022, -0.097])
    assert not any(figure.differs for row in beside.figures.values() for figure in row)
    assert beside.source == "TinyBERT, Table 3, dev"
    assert beside.statement == (
        "Shape, split and metric are the published ones; how the models were trained is not compared."
    )
    assert beside.at("other", 0) is None


@pytest.mark.parametrize(
    ("tasks", "shape", "differs", "statement"),
    [
        (glue("cola", limit_evaluation=100), TINYBERT, ("evaluation rows",), "part of the reported rows of cola"),
        (glue("cola", limit_train=100), TINYBERT, ("training rows",), "part of the training rows of cola"),
        (glue("cola"), PRESETS["bert-tiny"].shape(), ("shape",), "another or an unknown shape of full and no-attention"),
        (glue("cola"), PRESETS["tinybert-4l-312"].shape(vocab_size=30000), ("shape",), "another or an unknown shape"),
        (glue("cola"), None, ("shape",), "another or an unknown shape"),
        ([TaskConfig(name="cola", files={"train": "rows.csv"})], TINYBERT, ("split",), "another split for cola"),
    ],
)  # fmt: skip
def test_whatever_differs_makes_a_trend(tasks, shape, differs, statement):
    beside = compared(measured(["cola"]), tasks, shape=shape)
    assert {figure.differs for row in beside.figures.values() for figure in row} == {differs}
    assert beside.statement.startswith(f"Measured figures are a trend, no reproduction: {statement}")


def test_other_lengths_are_the_same_shape():
    beside = compared(
        measured(["cola"]), glue("cola"), shape=PRESETS["tinybert-4l-312"].shape(max_position_embeddings=128)
    )
    assert not beside.figures["full"][0].differs


def test_a_metric_that_is_not_stated_stands_beside_the_first_one():
    beside = compared(measured(["mrpc"]), glue("mrpc"))
    first, second = beside.figures["full"]
    assert (first.printed, first.differs, second) == (85.8, ("metric",), None)
    assert "a metric that the source does not state for mrpc" in beside.statement


def test_a_stated_metric_stands_beside_its_own_column():
    beside = compared(measured(["mrpc"]), glue("mrpc"), PUBLISHED.table("tinybert.t5"), rows={"full": "TinyBERT6"})
    assert [figure.printed for figure in beside.figures["full"]] == [90.6, 86.3]
    assert beside.figures["full"][0].differs == ("shape",)


def test_the_test_server_is_another_split():
    beside = compared(measured(["cola"]), glue("cola"), PUBLISHED.table("tinybert.t1"), rows={"full": "TinyBERT4"})
    assert beside.figures["full"][0].differs == ("split",)
    assert beside.source == "TinyBERT, Table 1, test"


def test_a_task_under_another_name_is_found_by_what_it_is():
    task = TaskConfig(name="acceptability", glue="cola")
    beside = compared(measured(["acceptability"]), [task])
    assert beside.figures["full"][0] is None, "accuracy is not what is printed"
    result = table([Cell("full", "acceptability", 0, {"matthews": 0.4})], variants=["full"], tasks=["acceptability"])
    assert compared(result, [task]).figures["full"][0].printed == 50.8


def test_figures_that_are_not_printed_or_not_unique_stand_nowhere():
    table6 = PUBLISHED.table("tinybert.t1")
    beside = compared(measured(["cola"]), glue("cola"), table6, rows={"full": "PD6"})
    assert beside.figures == {"full": (None,)}
    assert beside.statement == "It prints nothing that was measured here."


def test_frame_and_json_carry_the_printed_figures():
    from dataclasses import replace

    result = measured(["cola"], baseline="full")
    assert not [name for name in result.to_frame().columns if "published" in name]
    result = replace(result, published=compared(result, glue("cola")))
    frame = result.to_frame()
    assert frame.loc["no-attention", "cola.matthews.published"] == pytest.approx(0.411)
    assert frame.loc["no-attention", "cola.matthews.published_delta"] == pytest.approx(-0.097)
    assert frame.loc["other"].isna()["cola.matthews.published"]
    stored = json.loads(result.to_json())["published"]
    assert stored["table"] == "tinybert.t3"
    assert stored["figures"]["full"][0]["printed"] == 50.8
