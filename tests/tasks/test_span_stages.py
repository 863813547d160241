"""The stages on questions and on several labels: what they leave, and that it is what a table can be made of."""

import json

import numpy as np
import pandas
import pytest
from tiny_models import questions, sentences, tiny_encoder_folder

from compression.analysis.cells import Cell
from compression.analysis.table import table
from compression.architecture.checkpoint import load_task_model
from compression.data.config import TaskConfig
from compression.evaluation.config import EvaluateConfig
from compression.evaluation.span_metrics import span_scores
from compression.quantization.config import QuantizeConfig
from compression.training.finetune_config import FinetuneConfig
from tasks.stages.base import StageRequest
from tasks.stages.evaluate import Evaluate
from tasks.stages.finetune import Finetune
from tasks.stages.quantize import Quantize

FAST = FinetuneConfig(epochs=1, batch_size=16, learning_rate=5e-3)
MEASURE = EvaluateConfig(latency_length=8, latency_warmup=1, latency_repeats=5)


@pytest.fixture
def encoder(tmp_path):
    return tiny_encoder_folder(tmp_path / "encoder", num_hidden_layers=1)


def run(folder, name, stage, config, model, task):
    for part in ("output", "work"):
        (folder / name / part).mkdir(parents=True)
    request = StageRequest(
        config=config,
        inputs={"model": model},
        output=folder / name / "output",
        work=folder / name / "work",
        task=task,
        roots=(folder,),
    )
    return stage.run(request), request.output


def question_file(folder, *, unanswerable):
    records = []
    for row in questions(120, 7, unanswerable=unanswerable).itertuples():
        starts = [int(row.label[0])] if row.answers else []
        answers = {"text": list(row.answers), "answer_start": starts}
        records.append(
            {"id": row.name, "question": row.text, "context": f"{row.text_pair} {row.id}", "answers": answers}
        )
    (folder / "faq.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    span = {"stride": 4, "max_answer_length": 2, "unanswerable": unanswerable}
    return TaskConfig(name="faq", files={"train": "faq.jsonl"}, problem="span", max_length=24, span=span)


@pytest.mark.parametrize("unanswerable", [False, True])
def test_questions_are_trained_on_quantized_and_measured(tmp_path, encoder, unanswerable):
    task = question_file(tmp_path, unanswerable=unanswerable)
    summary, model = run(tmp_path, "finetuned", Finetune(), FAST, encoder, task)
    assert 0 <= summary["final"]["selection_f1"] <= 1
    assert type(load_task_model(model)).__name__ == "BertForQuestionAnswering"
    _, small = run(tmp_path, "int8", Quantize(), QuantizeConfig(), model, task)
    cells = []
    for name, folder in (("plain", model), ("int8", small)):
        summary, output = run(tmp_path, f"evaluated-{name}", Evaluate(), MEASURE, folder, task)
        predictions = pandas.read_parquet(output / "predictions.parquet")
        assert list(predictions.columns)[:5] == ["split", "id", "name", "gold", "prediction"]
        assert (predictions["name"] == [f"q{number}" for number in predictions["id"]]).all()
        scores = span_scores(
            predictions["prediction"].tolist(), [list(gold) for gold in predictions["gold"]], unanswerable=unanswerable
        )
        assert list(summary["metrics"].values()) == pytest.approx(scores.mean(axis=0))
        assert list(summary["metrics"]) == ["f1", "exact_match"]
        assert ("no_answer_threshold" in summary) == unanswerable
        json.dumps(summary)
        cells.append(Cell(name, "faq", 0, summary["metrics"], predictions=output / "predictions.parquet"))
    result = table(
        cells, variants=["plain", "int8"], tasks=["faq"], metrics={"faq": ["f1", "exact_match"]}, baseline="plain"
    )
    for score in result.rows[1].scores:
        assert score.delta.noise == ("examples",)
        assert score.delta.examples == len(predictions)
    assert result.notes[1:] == ()


def test_several_labels_are_trained_on_and_measured(tmp_path, encoder):
    texts, labels = sentences(120, seed=4)
    rows = [{"text": text, "label": (["good"] if label else []) + ["any"] * (place % 2)} for place, (text, label) in enumerate(zip(texts, labels, strict=True))]  # fmt: skip
    (tmp_path / "moods.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = TaskConfig(name="moods", files={"train": "moods.jsonl"}, problem="multi_label", max_length=24)
    _, model = run(tmp_path, "finetuned", Finetune(), FAST, encoder, task)
    assert load_task_model(model).config.id2label == {0: "any", 1: "good"}
    summary, output = run(tmp_path, "evaluated", Evaluate(), MEASURE, model, task)
    predictions = pandas.read_parquet(output / "predictions.parquet")
    assert list(predictions.columns) == ["split", "id", "gold_0", "gold_1", "logit_0", "logit_1"]
    right = (predictions[["logit_0", "logit_1"]].to_numpy() > 0) == predictions[["gold_0", "gold_1"]].to_numpy()
    assert summary["metrics"]["exact_match"] == pytest.approx(right.all(axis=1).mean())
    cells = [
        Cell(name, "moods", seed, summary["metrics"], predictions=output / "predictions.parquet")
        for name in ("one", "two")
        for seed in (0, 1)
    ]
    shown = table(
        cells, variants=["one", "two"], tasks=["moods"], metrics={"moods": tuple(summary["metrics"])}, baseline="one"
    )
    deltas = [score.delta for score in shown.rows[1].scores]
    assert [(delta.value, delta.low, delta.high) for delta in deltas] == [(0, 0, 0)] * 3
    assert all("predicts the same" in delta.sentence for delta in deltas)


def test_predictions_of_other_questions_are_not_compared(tmp_path):
    for name, accepted in (("a", "1066"), ("b", "1067")):
        frame = pandas.DataFrame(
            {
                "split": "",
                "id": [1, 2],
                "gold": [[accepted], []],
                "prediction": ["1066", ""],
                "f1": [1.0, 1.0],
                "exact_match": [1.0, 1.0],
            }
        )
        frame.to_parquet(tmp_path / f"{name}.parquet")
    cells = [
        Cell(name, "faq", 0, {"f1": 1.0, "exact_match": 1.0}, predictions=tmp_path / f"{name}.parquet") for name in "ab"
    ]
    result = table(cells, variants=["a", "b"], tasks=["faq"], baseline="a")
    assert any("was evaluated on other rows" in note for note in result.notes)
    assert np.isnan(result.to_frame()["faq.f1.delta_low"].astype(float)).all()
