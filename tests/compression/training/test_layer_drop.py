"""LayerDrop: the share of layers that steps leave out, and its place in a training."""

import numpy as np
import pytest
import torch
from tiny_models import tiny_classifier, tiny_rows, tiny_task, tiny_tokenizer
from transformers import BertForSequenceClassification

from compression.architecture.encoder.modeling_bertpress import BertpressForSequenceClassification
from compression.control import Control
from compression.data.encoding import collate
from compression.errors import Interrupted, UserError
from compression.runtime import Runtime
from compression.training import finetune
from compression.training.finetune_config import FinetuneConfig
from compression.training.layer_drop import droppable, layer_drop


def run(folder, model, control=None, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-2, "layer_drop": 0.5, **changes}
    finetune.apply(
        model,
        tiny_tokenizer(),
        tiny_task(40),
        FinetuneConfig(**settings),
        seed=0,
        runtime=Runtime(),
        work=folder,
        control=control or Control(),
        history=folder / "history.jsonl",
    )
    return model


def test_layers_are_left_out_as_often_as_asked_for_in_training_alone():
    model = droppable(tiny_classifier(num_hidden_layers=6), 0.3)
    seen = []
    for number, block in enumerate(model.encoder.attention):
        block.register_forward_hook(lambda *_, number=number: seen.append(number))
    batch = {name: value for name, value in collate(tiny_rows(2), np.arange(2), 0).items() if name != "labels"}
    torch.manual_seed(0)
    with torch.no_grad(), layer_drop(model, 0.3):
        model.train()
        for _ in range(200):
            model(**batch)
        counts = np.bincount(seen, minlength=6)
        assert np.abs(counts / 200 - 0.7).max() < 0.12
        seen.clear()
        model.eval()
        model(**batch)
        assert seen == list(range(6))
    model.train()
    seen.clear()
    with torch.no_grad():
        model(**batch)
    assert seen == list(range(6))


def test_a_training_with_layer_drop_goes_on_as_if_nothing_had_happened(tmp_path):
    undisturbed = run(tmp_path / "a", droppable(tiny_classifier(), 0.5))
    looks = iter(range(1000))
    with pytest.raises(Interrupted):
        run(tmp_path / "b", droppable(tiny_classifier(), 0.5), Control(should_stop=lambda: next(looks) == 6))
    resumed = run(tmp_path / "b", droppable(tiny_classifier(), 0.5))
    assert undisturbed.encoder.layer_drop == 0
    other = run(tmp_path / "c", droppable(tiny_classifier(), 0.5), layer_drop=0)
    for name, tensor in undisturbed.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    assert not torch.equal(undisturbed.classifier.weight, other.classifier.weight)


def test_a_plain_model_becomes_ours_only_where_layers_are_dropped():
    plain = tiny_classifier()
    assert droppable(plain, 0) is plain
    ours = droppable(plain, 0.1)
    assert isinstance(ours, BertpressForSequenceClassification)
    assert isinstance(plain, BertForSequenceClassification)
    with pytest.raises(UserError, match=r"layer_drop 0\.2 needs an encoder of any shape"), layer_drop(plain, 0.2):
        pass
