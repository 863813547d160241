import json

import numpy as np
import pytest
import torch
from tiny_models import tiny_classifier, tiny_task, tiny_tokenizer

from compression.control import Control
from compression.errors import Interrupted
from compression.evaluation.metrics import compute
from compression.runtime import Runtime
from compression.training import finetune
from compression.training.finetune_config import FinetuneConfig
from compression.training.predict import encode_for, predict


def run(folder, data, control=None, labels=2, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    model = tiny_classifier(labels=labels)
    result = finetune.apply(
        model,
        tiny_tokenizer(),
        data,
        FinetuneConfig(**{"epochs": 3, "batch_size": 8, "learning_rate": 1e-2, **changes}),
        seed=0,
        runtime=Runtime(),
        work=folder,
        control=control or Control(),
        history=folder / "history.jsonl",
    )
    return model, result


def score(model, data, rows):
    encoded = encode_for(model, rows, tiny_tokenizer(), data.config, Control())
    logits = predict(model, encoded, pad_token_id=0, control=Control())
    return compute([data.metrics[0]], encoded.labels, logits, data.problem)[data.metrics[0]]


@pytest.mark.parametrize("regression", [False, True])
def test_learns_the_task(tmp_path, regression):
    data = tiny_task(150, regression=regression)
    model, result = run(tmp_path, data, labels=1 if regression else 2)
    assert result.best_score == pytest.approx(score(model, data, data.selection), abs=1e-5)
    assert score(model, data, data.evaluation[""]) > 0.9


def test_weights_are_chosen_by_the_selection_split_alone(tmp_path):
    data = tiny_task(50)
    _, result = run(tmp_path / "a", data, epochs=2)
    data.evaluation[""]["label"] = 1 - data.evaluation[""]["label"]
    _, same = run(tmp_path / "b", data, epochs=2)
    assert (tmp_path / "a" / "history.jsonl").read_bytes() == (tmp_path / "b" / "history.jsonl").read_bytes()
    assert result.best_step == same.best_step


def test_without_measurements_the_last_weights_are_kept(tmp_path):
    _, result = run(tmp_path, tiny_task(20), epochs=1, evaluations_per_epoch=0)
    assert (result.best_score, result.best_step) == (None, result.steps)


def test_resumes(tmp_path):
    looks = iter(range(1000))
    with pytest.raises(Interrupted):
        run(tmp_path / "a", tiny_task(), Control(should_stop=lambda: next(looks) == 12))
    stopped, _ = run(tmp_path / "a", tiny_task())
    undisturbed, _ = run(tmp_path / "b", tiny_task())
    for name, tensor in undisturbed.state_dict().items():
        assert torch.equal(tensor, stopped.state_dict()[name]), name


def test_attention_is_restored_and_history_is_json(tmp_path):
    model, _ = run(tmp_path, tiny_task(20), epochs=1)
    assert model.config._attn_implementation == tiny_classifier().config._attn_implementation
    records = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert np.all(np.diff([record["step"] for record in records]) >= 0)
