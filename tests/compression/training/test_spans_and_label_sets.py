"""Losses against their formulas, and trainings that learn: spans, and several labels at once."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from tiny_models import (
    frame,
    tiny_classifier,
    tiny_config,
    tiny_questions,
    tiny_span_model,
    tiny_task,
    tiny_tokenizer,
)
from transformers import DistilBertConfig, DistilBertForQuestionAnswering

from compression.architecture.conversion import to_bertpress
from compression.control import Control
from compression.data.config import TaskConfig
from compression.data.encoding import collate
from compression.errors import UserError
from compression.evaluation.span_evaluation import answer_questions
from compression.runtime import Runtime
from compression.training import finetune
from compression.training.finetune_config import FinetuneConfig
from compression.training.gold import gold_loss
from compression.training.predict import encode_for, encode_spans_for, predict, predict_spans, task_logits

SMALL = {"num_hidden_layers": 1, "hidden_size": 32}


def train(folder, model, data, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    return finetune.apply(
        model,
        tiny_tokenizer(),
        data,
        FinetuneConfig(**{"epochs": 8, "batch_size": 8, "learning_rate": 5e-3, "dropout": 0.0, **changes}),
        seed=0,
        runtime=Runtime(threads=1),
        work=folder,
        control=Control(),
        history=folder / "history.jsonl",
    )


def test_span_loss_is_the_mean_negative_log_probability_of_start_and_end():
    random = np.random.default_rng(0)
    logits, gold = random.normal(size=(3, 5, 2)).astype(np.float32), np.array([[0, 0], [1, 3], [2, 2]])
    lengths = [5, 4, 3]
    expected = np.mean(
        [
            np.log(np.exp(row[:length, side]).sum()) - row[places[side], side]
            for row, length, places in zip(logits, lengths, gold, strict=True)
            for side in (0, 1)
        ]
    )
    mask = torch.tensor([[1] * length + [0] * (5 - length) for length in lengths])
    found = gold_loss(torch.from_numpy(logits), torch.from_numpy(gold), mask)
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_span_loss_does_not_depend_on_padding():
    data, model = tiny_questions(), tiny_span_model()
    encoded = encode_for(model, data.train, tiny_tokenizer(), data.config, Control())
    losses = []
    shortest, longest = int(np.argmin(encoded.lengths)), int(np.argmax(encoded.lengths))
    for rows in ([shortest], [shortest, longest]):
        batch = collate(encoded, np.array(rows), 0)
        logits = task_logits(model, batch)
        losses.append(gold_loss(logits[:1], batch["labels"][:1], batch["attention_mask"][:1]).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_loss_of_several_labels_is_their_mean_binary_cross_entropy():
    random = np.random.default_rng(1)
    logits, gold = random.normal(size=(4, 3)), random.integers(0, 2, (4, 3)).astype(np.float32)
    probability = 1 / (1 + np.exp(-logits))
    expected = -np.mean(gold * np.log(probability) + (1 - gold) * np.log(1 - probability))
    found = gold_loss(torch.from_numpy(logits), torch.from_numpy(gold))
    assert found.item() == pytest.approx(expected, rel=1e-6)


def span_models():
    distilbert = DistilBertConfig(
        vocab_size=tiny_config().vocab_size, dim=16, n_layers=1, n_heads=2, hidden_dim=32, max_position_embeddings=32
    )
    return [tiny_span_model(), to_bertpress(tiny_span_model()), DistilBertForQuestionAnswering(distilbert).eval()]


@pytest.mark.parametrize("model", span_models(), ids=lambda model: type(model).__name__)
def test_logits_of_windows_are_those_of_one_window_at_a_time(model):
    data = tiny_questions(max_length=12)
    features = encode_spans_for(model, data.train, tiny_tokenizer(), data.config, Control())
    assert len(features) > len(data.train)
    logits = predict_spans(model, features.encoded, pad_token_id=0, control=Control())
    assert len(logits) == len(features)
    for window in range(0, len(features), 9):
        batch = collate(features.encoded, np.array([window]), 0)
        with torch.no_grad():
            alone = task_logits(model, batch)[0].numpy()
        np.testing.assert_allclose(logits.window(window), alone, atol=1e-5)
    padded = logits.padded([0, 1])
    assert padded.shape == (2, max(features.encoded.lengths[:2]), 2)


def test_learns_to_answer_and_keeps_the_best_weights(tmp_path):
    data, model = tiny_questions(300), tiny_span_model(**SMALL)
    result = train(tmp_path, model, data)
    for split, enough in ((data.selection, None), (data.evaluation[""], 0.8)):
        answered = answer_questions(model, tiny_tokenizer(), split, data.config, control=Control())
        metrics = answered.metrics(answered.threshold())
        if enough is None:
            assert metrics["f1"] == pytest.approx(result.best_score, abs=1e-6)
        else:
            assert metrics["f1"] > enough
    records = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert max(record["selection_score"] for record in records if "selection_score" in record) == result.best_score


def test_learns_that_there_is_no_answer(tmp_path):
    data, model = tiny_questions(300, unanswerable=True), tiny_span_model(**SMALL)
    train(tmp_path, model, data, learning_rate=1e-2)
    answered = {
        name: answer_questions(model, tiny_tokenizer(), rows, data.config, control=Control())
        for name, rows in (("selection", data.selection), ("reported", data.evaluation[""]))
    }
    threshold = answered["selection"].threshold()
    reported = answered["reported"]
    assert reported.metrics(threshold)["f1"] > max(0.6, reported.metrics(None)["f1"], reported.metrics(-np.inf)["f1"])
    table = reported.predictions(threshold)
    assert list(table.columns) == ["id", "name", "gold", "prediction", "null_odds", "n_best", "f1", "exact_match"]
    assert ((table["prediction"] == "") == (table["null_odds"] > threshold)).all()
    assert table["f1"].mean() == pytest.approx(reported.metrics(threshold)["f1"])
    for row in table.itertuples():
        assert row.prediction in ("", row.n_best[0]["text"])


def test_a_diverged_model_is_not_scored():
    model = tiny_span_model()
    model.qa_outputs.bias.data[0] = float("nan")
    data = tiny_questions()
    with pytest.raises(UserError, match="not finite"):
        answer_questions(model, tiny_tokenizer(), data.selection, data.config, control=Control())


def two_labels(rows):
    """First label: the sentence is good; second: it says so in a strong word."""
    labels = [
        np.array([label, int(bool({"great", "awful"} & set(text.split())))])
        for text, label in zip(rows["text"], rows["label"], strict=True)
    ]
    return rows.assign(label=labels)


def test_learns_several_labels_at_once(tmp_path):
    data = dataclasses.replace(
        tiny_task(),
        config=TaskConfig(name="tiny", files={"train": "tiny.csv"}, problem="multi_label", max_length=24),
        labels=("good", "strong"),
        metrics=("micro_f1", "macro_f1", "exact_match"),
        train=two_labels(frame(300, 1)),
        selection=two_labels(frame(40, 2)),
        evaluation={"": two_labels(frame(40, 3))},
    )
    model = tiny_classifier(problem_type="multi_label_classification", **SMALL | {"num_hidden_layers": 2})
    result = train(tmp_path, model, data, learning_rate=3e-3)
    encoded = encode_for(model, data.evaluation[""], tiny_tokenizer(), data.config, Control())
    predicted = predict(model, encoded, pad_token_id=0, control=Control()) > 0
    assert (predicted == encoded.labels).all(axis=1).mean() > 0.8
    assert result.best_score > 0.9
