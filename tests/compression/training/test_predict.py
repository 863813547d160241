import numpy as np
import pytest
import torch
from tiny_models import frame, tiny_classifier, tiny_rows, tiny_task, tiny_tokenizer
from transformers import DistilBertConfig, DistilBertForSequenceClassification, RobertaConfig

from compression.control import Control
from compression.errors import CheckpointError, Interrupted
from compression.training.gold import gold_loss
from compression.training.predict import check_fits, encode_for, model_inputs, predict


def test_batches_of_any_size_give_each_row_its_own_logits(monkeypatch):
    model, rows = tiny_classifier(), tiny_rows(30)
    with torch.no_grad():
        expected = [model(torch.from_numpy(ids.astype(np.int64))[None]).logits[0].numpy() for ids in rows.input_ids]
    for tokens in (1, 40, 10_000):
        monkeypatch.setitem(predict.__globals__["TOKENS_A_BATCH"], "cpu", tokens)
        np.testing.assert_allclose(predict(model, rows, pad_token_id=0, control=Control()), expected, atol=1e-6)


def test_dropout_is_off_and_no_rows_are_fine():
    model = tiny_classifier(hidden_dropout_prob=0.5).train()
    first, second = (predict(model, tiny_rows(), pad_token_id=0, control=Control()) for _ in range(2))
    assert np.array_equal(first, second)
    assert predict(model, tiny_rows(0), pad_token_id=0, control=Control()).shape == (0, 2)


def test_stops_between_batches():
    with pytest.raises(Interrupted):
        predict(tiny_classifier(), tiny_rows(), pad_token_id=0, control=Control(should_stop=lambda: True))


def test_rows_longer_than_the_model_has_positions_are_refused_before_training():
    model = tiny_classifier(max_position_embeddings=8)
    with pytest.raises(CheckpointError, match=r"only 8 positions.*max_length \(now 24\) to at most 8"):
        encode_for(model, frame(20, 0), tiny_tokenizer(), tiny_task().config, Control())
    assert (
        max(encode_for(model, frame(20, 0), tiny_tokenizer(), tiny_task(max_length=8).config, Control()).lengths) == 8
    )


def test_roberta_has_fewer_positions_than_its_table():
    class Fake:
        config = RobertaConfig(vocab_size=99, max_position_embeddings=10, pad_token_id=1)

    rows = tiny_rows(40)
    with pytest.raises(CheckpointError, match="only 8 positions"):
        check_fits(Fake(), rows, 24)


def test_another_models_tokenizer_is_refused():
    with pytest.raises(CheckpointError, match="the model's vocabulary has 9"):
        encode_for(tiny_classifier(vocab_size=9), frame(20, 0), tiny_tokenizer(), tiny_task().config, Control())


def test_each_model_gets_the_inputs_that_it_knows():
    config = DistilBertConfig(vocab_size=20, dim=16, n_layers=1, n_heads=2, hidden_dim=32)
    batch = {name: torch.zeros(1) for name in ("input_ids", "attention_mask", "token_type_ids", "labels")}
    student = DistilBertForSequenceClassification(config)
    assert set(model_inputs(student, batch)) == {"input_ids", "attention_mask"}
    assert set(model_inputs(tiny_classifier(), batch)) == {"input_ids", "attention_mask", "token_type_ids"}


def test_gold_loss_of_classes_is_the_mean_negative_log_probability():
    logits = np.random.default_rng(0).normal(size=(5, 3))
    labels = np.array([0, 2, 1, 1, 0])
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = -np.log(probabilities[np.arange(5), labels]).mean()
    assert gold_loss(torch.from_numpy(logits), torch.from_numpy(labels)).item() == pytest.approx(expected)


def test_gold_loss_of_numbers_compares_rows_with_themselves():
    outputs, values = np.arange(4.0), np.array([1.0, 1.0, 4.0, 2.0])
    loss = gold_loss(torch.from_numpy(outputs)[:, None], torch.from_numpy(values))
    assert loss.item() == pytest.approx(((outputs - values) ** 2).mean())
