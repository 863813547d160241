"""A checkpoint's evaluation against predictions made here, one row at a time."""

import dataclasses

import numpy as np
import pytest
import torch
from tiny_models import frame, tiny_classifier, tiny_task, tiny_tokenizer

from compression.architecture.checkpoint import save_checkpoint
from compression.errors import CheckpointError, UserError
from compression.evaluation.config import EvaluateConfig
from compression.evaluation.evaluate import apply, load_any
from compression.quantization.int8_modules import Int8Linear
from compression.quantization.quantize import quantize
from compression.runtime import Runtime

QUICK = EvaluateConfig(latency_length=8, latency_warmup=1, latency_repeats=5)


def saved(folder, model=None, labels=("bad", "good")):
    model = model or tiny_classifier(labels=max(1, len(labels)))
    if labels:
        model.config.id2label = dict(enumerate(labels))
        model.config.label2id = {name: index for index, name in enumerate(labels)}
    save_checkpoint(model, tiny_tokenizer(), folder)
    return folder


def one_by_one(model, texts):
    tokenizer = tiny_tokenizer()
    with torch.inference_mode():
        return np.concatenate([model(**tokenizer(text, return_tensors="pt")).logits.numpy() for text in texts])


def measured(folder, data, config=QUICK):
    return apply(folder, data, config, runtime=Runtime(threads=1))


def test_predictions_are_the_models_own_and_scores_are_theirs(tmp_path):
    data = tiny_task()
    folder = saved(tmp_path)
    found = measured(folder, data)
    rows = data.evaluation[""]
    expected = one_by_one(load_any(folder), rows["text"])
    table = found.predictions
    assert list(table.columns) == ["split", "id", "gold", "logit_0", "logit_1"]
    assert table["id"].tolist() == rows["id"].tolist()
    assert table["gold"].tolist() == rows["label"].tolist()
    np.testing.assert_allclose(table[["logit_0", "logit_1"]].to_numpy(), expected, rtol=1e-4, atol=1e-5)
    assert found.metrics == {"accuracy": pytest.approx((expected.argmax(1) == rows["label"]).mean())}
    assert found.examples == {"": 24}


def test_costs_are_those_of_the_folder(tmp_path):
    found = measured(saved(tmp_path), tiny_task())
    assert found.efficiency["parameters"] == sum(weight.numel() for weight in tiny_classifier().parameters())
    assert found.efficiency["bytes"] > 4 * found.efficiency["parameters"]
    timing = found.efficiency["latency_ms"]
    assert (timing["repeats"], timing["threads"], timing["length"]) == (5, 1, 8)
    assert found.environment["kernel"] is None


def test_a_second_reported_split_has_metrics_of_its_own(tmp_path):
    data = tiny_task()
    data = dataclasses.replace(data, evaluation={**data.evaluation, "mismatched": frame(10, 9)})
    found = measured(saved(tmp_path), data)
    assert list(found.metrics) == ["accuracy", "accuracy_mismatched"]
    assert found.examples == {"": 24, "mismatched": 10}
    assert found.predictions["split"].tolist() == [""] * 24 + ["mismatched"] * 10


def test_a_model_that_numbers_the_classes_differently_is_read_by_name(tmp_path):
    usual = measured(saved(tmp_path / "usual"), tiny_task())
    swapped = tiny_classifier()
    with torch.no_grad():
        for parameter in swapped.classifier.parameters():
            parameter.copy_(parameter.flip(0))
    found = measured(saved(tmp_path / "swapped", swapped, labels=("good", "bad")), tiny_task())
    assert found.metrics == usual.metrics
    np.testing.assert_allclose(found.predictions["logit_1"], usual.predictions["logit_1"], rtol=1e-4, atol=1e-6)


def test_a_model_of_another_task_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="labels"):
        measured(saved(tmp_path, labels=("yes", "no")), tiny_task())


def test_regression_is_scored_by_correlation(tmp_path):
    data = tiny_task(regression=True)
    found = measured(saved(tmp_path, labels=()), data)
    rows = data.evaluation[""]
    expected = one_by_one(load_any(tmp_path), rows["text"])[:, 0]
    assert found.metrics["pearson"] == pytest.approx(np.corrcoef(rows["label"], expected)[0, 1], abs=1e-4)
    assert "logit_0" in found.predictions


def test_a_quantized_model_is_measured_in_its_own_format(tmp_path):
    plain = measured(saved(tmp_path / "fp32"), tiny_task())
    folder = saved(tmp_path / "int8", quantize(tiny_classifier()))
    assert any(isinstance(module, Int8Linear) for module in load_any(folder).modules())
    found = measured(folder, tiny_task())
    assert found.efficiency["parameters"] == plain.efficiency["parameters"]
    assert found.environment["kernel"]
    columns = ["logit_0", "logit_1"]
    np.testing.assert_allclose(found.predictions[columns], plain.predictions[columns], atol=0.05)


def test_a_diverged_model_is_not_scored(tmp_path):
    model = tiny_classifier()
    model.classifier.bias.data[0] = float("nan")
    with pytest.raises(UserError, match="24 of 24 model outputs are not finite"):
        measured(saved(tmp_path, model), tiny_task())


def test_a_latency_longer_than_the_model_is_refused_before_anything_is_computed(tmp_path):
    with pytest.raises(UserError, match="latency_length is 40, but the model has only 32 positions"):
        measured(saved(tmp_path), tiny_task(), EvaluateConfig(latency_length=40))
