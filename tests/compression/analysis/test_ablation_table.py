"""The table as a whole, on cells with predictions files."""

import json

import numpy as np
import pandas
import pytest

from compression.analysis.cells import Cell
from compression.analysis.table import table
from compression.errors import UserError

ROWS = 400


def _cell(folder, variant, seed, accuracy, *, task="rte", gold_seed=0, rows=ROWS, split="", **more):
    gold = np.random.default_rng(gold_seed).integers(0, 2, rows)
    rank = np.random.default_rng(99).permutation(rows)  # the same rows are hard for everyone
    chosen = np.where(rank < round(accuracy * rows), gold, 1 - gold)
    logits = np.eye(2)[chosen]
    frame = pandas.DataFrame(
        {"split": split, "id": np.arange(rows), "gold": gold, "logit_0": logits[:, 0], "logit_1": logits[:, 1]}
    )
    path = folder / f"{variant}-{task}-{seed}-{split}.parquet"
    # Evaluation need not keep the order of rows.
    frame.sample(frac=1, random_state=seed or 0).to_parquet(path)
    metric = "accuracy" + (f"_{split}" if split else "")
    return Cell(
        variant, task, seed, {metric: float((chosen == gold).mean())}, predictions=path, examples={split: rows}, **more
    )


def _study(folder, seeds=(0, 1, 2)):
    levels = {"teacher": 0.90, "base": 0.80, "good": 0.86, "same": 0.80, "bad": 0.70}
    return [_cell(folder, name, seed, level + 0.0025 * (seed or 0)) for name, level in levels.items() for seed in seeds]


def _table(cells, **more):
    names = list(dict.fromkeys(cell.variant for cell in cells))
    return table(
        cells,
        **{
            "variants": names,
            "tasks": ["rte"],
            "baseline": "base",
            "teacher": "teacher",
            "bootstrap_samples": 400,
            **more,
        },
    )


def _row(result, variant):
    return next(row for row in result.rows if row.variant == variant)


def test_verdicts_intervals_and_shares(tmp_path):
    result = _table(_study(tmp_path))
    verdicts = {row.variant: row.scores[0].delta and row.scores[0].delta.verdict for row in result.rows}
    assert verdicts == {"teacher": "better", "base": None, "good": "better", "same": "no difference", "bad": "worse"}
    good = _row(result, "good").scores[0]
    assert (good.mean, good.n) == (pytest.approx(0.8625), 3)
    assert good.std == pytest.approx(np.std([0.86, 0.8625, 0.865], ddof=1))
    assert good.delta.value == pytest.approx(0.06)
    assert good.delta.low < 0.06 < good.delta.high
    assert (good.delta.seeds, good.delta.examples, good.delta.noise) == (3, ROWS, ("examples", "seeds"))
    assert good.retained == pytest.approx(100 * 0.8625 / 0.9025)
    assert good.delta.sentence.startswith("good is better than base on rte (accuracy +6.0 points, 95 % interval +")
    assert _row(result, "same").scores[0].delta.sentence.startswith("same predicts the same as base on rte")
    assert [sentence.split(" ")[0] for sentence in result.findings] == ["teacher", "good", "bad", "same"]
    assert result.notes == ()


def test_the_interval_does_not_depend_on_the_other_rows(tmp_path):
    cells = _study(tmp_path)
    few = [cell for cell in cells if cell.variant in ("base", "good")]
    assert _row(_table(cells), "good").scores[0].delta == _row(_table(few, teacher=None), "good").scores[0].delta


def test_one_seed_is_said(tmp_path):
    result = _table(_study(tmp_path, seeds=(4,)))
    assert result.notes[0].startswith("One seed (4): ")
    score = _row(result, "good").scores[0]
    assert score.std is None
    assert score.delta.noise == ("examples",)


def test_limited_rows_are_said(tmp_path):
    result = _table(_study(tmp_path), limits={"rte": 400, "cola": 10})
    assert result.notes == ("rte: the study limits evaluation to 400 rows of the reported split.",)


def test_missing_cells_are_named_and_the_rest_is_paired(tmp_path):
    cells = [cell for cell in _study(tmp_path) if not (cell.variant == "good" and cell.seed == 1)]
    cells = [cell for cell in cells if cell.variant != "bad"]
    result = _table(cells, variants=["teacher", "base", "good", "bad"])
    assert "good on rte: seed 1 missing." in result.notes
    assert "bad on rte: no cell was measured." in result.notes
    assert _row(result, "good").scores[0].delta.seeds == 2
    assert _row(result, "bad").scores == (None,)


def test_no_common_seed_is_not_compared(tmp_path):
    cells = [_cell(tmp_path, "base", 0, 0.8), _cell(tmp_path, "good", 1, 0.9)]
    result = _table(cells, teacher=None)
    assert _row(result, "good").scores[0].delta is None
    assert "good and base share no seed on rte: not compared." in result.notes


def test_a_baseline_without_seeds_is_compared_with_every_seed(tmp_path):
    cells = [_cell(tmp_path, "base", None, 0.8), *(_cell(tmp_path, "good", seed, 0.86) for seed in (0, 1))]
    delta = _row(_table(cells, teacher=None), "good").scores[0].delta
    assert (delta.seeds, delta.verdict) == (2, "better")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda cell, folder: {"predictions": None}, "the predictions of good (seed 1) are not at hand"),
        (lambda cell, folder: {"predictions": folder / "gone.parquet"}, "the predictions of good (seed 1) are not at hand"),
        (lambda cell, folder: {"metrics": {"accuracy": 0.5}}, "do not give its recorded accuracy"),
        (lambda cell, folder: {"predictions": _cell(folder, "x", 1, 0.8625, gold_seed=7).predictions}, "good (seed 1) was evaluated on other rows"),
        (lambda cell, folder: {"predictions": _cell(folder, "x", 1, 0.8625, split="mismatched").predictions}, "hold no row of this split"),
    ],
)  # fmt: skip
def test_predictions_that_cannot_be_paired_leave_the_seeds(tmp_path, spoil, reason):
    cells = [
        Cell(**{**vars(cell), **spoil(cell, tmp_path)}) if (cell.variant, cell.seed) == ("good", 1) else cell
        for cell in _study(tmp_path)
    ]
    result = _table(cells)
    assert any(reason in note and "seeds alone" in note for note in result.notes)
    assert _row(result, "good").scores[0].delta.noise == ("seeds",)


def test_one_seed_without_predictions_is_not_tested():
    cells = [Cell("base", "rte", 0, {"accuracy": 0.8}), Cell("good", "rte", 0, {"accuracy": 0.9})]
    delta = _row(_table(cells, teacher=None), "good").scores[0].delta
    assert (delta.verdict, delta.low, delta.significant) == (None, None, False)
    assert "not tested" in delta.sentence


def test_both_reported_splits_of_a_task_are_shown_and_tested_apart(tmp_path):
    cells = []
    for name, level in (("base", 0.8), ("good", 0.9)):
        matched, mismatched = (
            _cell(tmp_path, name, 0, level),
            _cell(tmp_path, name, 0, 0.7, split="mismatched", rows=200),
        )
        both = pandas.concat([pandas.read_parquet(cell.predictions) for cell in (matched, mismatched)])
        path = tmp_path / f"{name}.parquet"
        both.to_parquet(path)
        cells.append(
            Cell(
                name,
                "rte",
                0,
                {**matched.metrics, **mismatched.metrics},
                predictions=path,
                examples={"": ROWS, "mismatched": 200},
            )
        )
    result = _table(cells, teacher=None)
    assert [(column.metric, column.examples) for column in result.columns] == [
        ("accuracy", 400),
        ("accuracy_mismatched", 200),
    ]
    first, second = _row(result, "good").scores
    assert (first.delta.verdict, second.delta.verdict) == ("better", "no difference")
    assert (first.delta.examples, second.delta.examples) == (400, 200)


def test_costs_are_compared_with_the_teacher():
    def cost(name, size, milliseconds, parameters=10):
        timing = {"median": milliseconds, "q1": 0.98 * milliseconds, "q3": 1.02 * milliseconds}
        return Cell(name, "rte", 0, {"accuracy": 0.8}, {"parameters": parameters, "bytes": size, "latency_ms": timing})

    result = _table([cost("teacher", 400, 20.0), cost("base", 100, 5.0), cost("same", 400, 19.5)])
    small, same = _row(result, "base").efficiency, _row(result, "same").efficiency
    assert (small.compression, small.speedup.verdict, same.speedup.verdict) == (4.0, "faster", "no difference")
    assert small.speedup.value == pytest.approx(4.0)
    assert _row(result, "teacher").efficiency.speedup is None


def test_the_largest_head_counts():
    cells = [
        Cell("base", task, 0, {"accuracy": 0.8}, {"parameters": count, "bytes": 4 * count})
        for task, count in (("rte", 100), ("sst2", 103))
    ]
    assert _row(_table(cells, tasks=["rte", "sst2"], teacher=None), "base").efficiency.parameters == 103


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"baseline": "nobody"}, "baseline 'nobody' is no variant of the table; its variants: teacher, base"),
        ({"teacher": "nobody"}, "teacher 'nobody' is no variant"),
        ({"metrics": {"rte": ["f1"]}}, "task 'rte' has no metric 'f1'; it has accuracy"),
    ],
)
def test_names_of_nothing_are_refused(tmp_path, arguments, message):
    with pytest.raises(UserError, match=message):
        _table(_study(tmp_path, seeds=(0,)), **arguments)


def test_a_study_of_which_nothing_is_measured_gives_an_empty_table():
    result = table([], variants=["a", "b"], tasks=["rte"], baseline="a", teacher="b")
    assert [row.scores for row in result.rows] == [(), ()]
    assert list(result.to_frame().index) == ["a", "b"]
    assert "a on rte: no cell was measured." in result.notes


def test_a_diverged_cell_does_not_spoil_the_table(tmp_path):
    cells = [
        Cell(**{**vars(cell), "metrics": {"accuracy": float("nan")}})
        if (cell.variant, cell.seed) == ("good", 2)
        else cell
        for cell in _study(tmp_path)
    ]
    result = _table(cells)
    assert _row(result, "good").scores[0].n == 2
    assert "good on rte (seed 2): no usable accuracy, left out." in result.notes
    json.loads(result.to_json())


def test_frame_and_json_hold_unrounded_values(tmp_path):
    result = _table(_study(tmp_path))
    frame = result.to_frame()
    good = _row(result, "good").scores[0]
    assert frame.loc["good", "rte.accuracy.mean"] == good.mean
    assert frame.loc["good", "rte.accuracy.delta_low"] == good.delta.low
    assert frame.loc["good", "rte.accuracy.verdict"] == "better"
    assert frame["rte.accuracy.n"].tolist() == [3] * 5
    plain = json.loads(result.to_json())
    assert plain["rows"][2]["scores"][0]["delta"]["low"] == good.delta.low
    assert plain["rows"][2]["cells"][0]["metrics"] == {"accuracy": 0.86}
    assert plain["findings"] == list(result.findings)


def test_json_of_numpy_values():
    cells = [Cell("a", "rte", np.int64(1), {"accuracy": np.float64(0.5)}, {"parameters": np.int64(7)})]
    plain = json.loads(table(cells, variants=["a"], tasks=["rte"]).to_json())
    assert plain["rows"][0]["cells"][0]["efficiency"] == {"parameters": 7}
