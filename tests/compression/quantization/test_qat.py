"""Training with rounding: its forward pass against numpy, its straight-through gradients, and what is exported."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError
from test_int8_static import surroundings
from test_schemes import logits, saved, uneven
from tiny_models import frame, tiny_classifier, tiny_task, tiny_tokenizer
from torch import nn
from torch.nn import functional

from compression.control import Control
from compression.errors import Interrupted, UserError
from compression.quantization import load_quantized
from compression.quantization.config import QuantizeConfig
from compression.quantization.fake_quantization import FakeInt8Embedding, FakeInt8Linear, RealPieces, fake_quantize
from compression.quantization.int8_static import ActivationCode, Int8StaticLinear
from compression.quantization.qat import _rounding
from compression.quantization.quantize import apply, described_by

FAST = {"epochs": 1, "batch_size": 8, "learning_rate": 5e-3}


def qat(**changes):
    return QuantizeConfig(scheme="int8-qat", qat={**FAST, **changes})


def by_hand(values, threshold, lowest=-127):
    step = np.asarray(threshold, np.float32) / np.float32(127)
    return np.clip(np.round(np.asarray(values, np.float32) / np.where(step > 0, step, 1)), lowest, 127) * step


@settings(deadline=None)
@given(
    hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=st.floats(-50, 50, width=32)),
    st.floats(0, 40, width=32),
)
def test_rounding_is_q8berts(values, threshold):
    found = fake_quantize(torch.from_numpy(values), torch.tensor(threshold))
    expected = by_hand(values, threshold) if threshold > 1e-35 else np.zeros_like(values)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6, atol=1e-30)


def test_gradients_pass_straight_through_also_where_numbers_are_clipped():
    layer = nn.Linear(6, 3)
    fake = FakeInt8Linear(layer, RealPieces(), per_channel=True, decay=0.9)
    fake.activation_limit.fill_(0.5)
    fake.eval()
    activation = (torch.randn(4, 6) * 3).requires_grad_()
    upstream = torch.randn(4, 3)
    fake(activation).backward(upstream)
    assert (activation.detach().abs() > 0.5).any()
    # The product's own gradients, at the rounded operands; rounding adds no factor, neither inside the range nor outside.
    x = torch.from_numpy(by_hand(activation.detach().numpy(), 0.5, lowest=-128))
    weight = layer.weight.detach().numpy()
    w = torch.from_numpy(by_hand(weight, np.abs(weight).max(axis=1, keepdims=True)))
    torch.testing.assert_close(activation.grad, upstream @ w)
    torch.testing.assert_close(layer.weight.grad, upstream.T @ x)
    torch.testing.assert_close(layer.bias.grad, upstream.sum(0))


def test_gradients_of_a_table_reach_the_rows_that_were_looked_up():
    table = nn.Embedding(5, 4)
    FakeInt8Embedding(table, per_channel=True)(torch.tensor([1, 1, 3])).sum().backward()
    assert table.weight.grad.sum(1).tolist() == [0, 8, 0, 4, 0]


@pytest.mark.parametrize("per_channel", [True, False])
def test_a_table_rounds_rows_as_its_export_does(per_channel):
    table = nn.Embedding(5, 4)
    weight = table.weight.detach().numpy()
    threshold = np.abs(weight).max(axis=1, keepdims=True) if per_channel else np.abs(weight).max()
    found = FakeInt8Embedding(table, per_channel=per_channel)(torch.arange(5))
    np.testing.assert_allclose(found.detach().numpy(), by_hand(weight, threshold), rtol=1e-6)


def test_the_range_starts_at_the_first_batch_and_follows_without_padding():
    real = RealPieces()
    layer = FakeInt8Linear(nn.Linear(2, 2), real, per_channel=True, decay=0.75)
    real.mask = torch.tensor([[True, False]])
    batches = [torch.tensor([[[1.0, -4.0], [99.0, 0.0]]]), torch.tensor([[[8.0, 0.0], [-99.0, 0.0]]])]
    for activation, expected in zip(batches, (4.0, 0.75 * 4 + 0.25 * 8), strict=True):
        layer.train()(activation)
        assert layer.activation_limit.item() == expected
    layer.eval()(torch.full((1, 2, 2), 500.0))
    assert layer.activation_limit.item() == expected


@pytest.mark.parametrize("per_channel", [True, False])
def test_the_export_computes_what_was_trained(per_channel):
    layer = nn.Linear(24, 7)
    fake = FakeInt8Linear(layer, RealPieces(), per_channel=per_channel, decay=0.9)
    fake.activation_limit.fill_(1.5)
    made = Int8StaticLinear.from_float(layer, ActivationCode.symmetric(1.5), per_channel=per_channel)
    activation = torch.randn(3, 5, 24)
    torch.testing.assert_close(fake.eval()(activation), made(activation), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [tiny_classifier, uneven])
def test_training_gives_a_folder_that_computes_what_the_trained_model_did(tmp_path, make):
    config, model, given = qat(), make(), surroundings(tmp_path)
    seen = {}

    class Watching(type(given.control.progress)):
        def finish(self):  # the trained model, before it is exported
            seen["logits"] = logits(model.eval())

    watched = dataclasses.replace(given, control=Control(Watching()))
    made = apply(model, config, watched)
    assert made.training.steps == 7
    assert made.training.best_score is not None
    folder = saved(tmp_path / "int8", made.model)
    assert torch.equal(logits(load_quantized(folder)), logits(made.model))
    assert (logits(made.model) - seen["logits"]).norm() < 0.05 * seen["logits"].norm() + 0.02


def test_training_with_rounding_learns_what_it_exports(tmp_path):
    config = qat(epochs=6, learning_rate=1e-2, dropout=0.0)
    data = tiny_task(train=100)
    made = apply(tiny_classifier(num_hidden_layers=1), config, surroundings(tmp_path, data))
    tokens = tiny_tokenizer()(data.evaluation[""]["text"].tolist(), padding=True, return_tensors="pt")
    with torch.inference_mode():
        found = made.model(**tokens).logits.argmax(1).numpy()
    assert (found == data.evaluation[""]["label"]).mean() > 0.9


def test_layers_come_back_with_the_same_parameters():
    model, config = tiny_classifier(), QuantizeConfig(scheme="int8-qat", exclude=["pooler.*"])
    before, modules = dict(model.named_parameters()), dict(model.named_modules())
    with _rounding(model, described_by(config), config) as linear:
        assert len(linear) == 18
        assert dict(model.named_parameters()).keys() == before.keys()
        assert type(model.bert.pooler.dense) is nn.Linear
    assert all(after is before[name] for name, after in model.named_parameters())
    assert all(after is modules[name] for name, after in model.named_modules())


def test_the_model_before_is_the_teacher_where_it_has_a_weight(tmp_path):
    config = qat(soft_weight=1.0, hard_weight=0.0, temperature=2.0, learning_rate=1e-9, keep="last")
    plain, data = tiny_classifier(num_hidden_layers=1), tiny_task()
    made = apply(plain, config, surroundings(tmp_path, data))
    # Training hardly moves: the loss is the cross-entropy of the teacher's outputs with nearly the same outputs.
    tokens = tiny_tokenizer()(data.train["text"].tolist(), padding=True, return_tensors="pt")
    with torch.inference_mode():
        probabilities = functional.softmax(tiny_classifier(num_hidden_layers=1)(**tokens).logits / 2, dim=1)
    entropy = -(probabilities * probabilities.log()).sum(1).mean().item()
    assert made.training.final_loss == pytest.approx(4 * entropy, rel=0.02)


def test_the_seed_decides_and_an_interruption_leaves_no_trace(tmp_path):
    def trained(name, seed=0, control=None):
        given = surroundings(tmp_path / name, seed=seed)
        given.work.mkdir(parents=True, exist_ok=True)
        model = apply(
            tiny_classifier(num_hidden_layers=1), qat(), dataclasses.replace(given, control=control or Control())
        ).model
        return model.state_dict()

    looks = iter(range(1000))
    first = trained("one")
    with pytest.raises(Interrupted):
        trained("stopped", control=Control(should_stop=lambda: next(looks) == 7))
    again = trained("stopped")
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["classifier.weight"], trained("other", seed=1)["classifier.weight"])


def test_the_reported_split_is_never_looked_at(tmp_path):
    poison = frame(3, 9)
    poison["text"] = [float("nan"), None, 7]
    data = dataclasses.replace(tiny_task(), evaluation={"": poison})
    apply(tiny_classifier(), qat(), surroundings(tmp_path, data))


def test_labels_in_another_order_are_refused(tmp_path):
    model = tiny_classifier()
    model.config.id2label = {0: "good", 1: "bad"}
    with pytest.raises(UserError, match="another order than the task: put `finetune` before"):
        apply(model, qat(), surroundings(tmp_path))


def test_settings_that_train_nothing_or_average_twice_a_step_are_refused():
    with pytest.raises(ValidationError, match="nothing to learn from"):
        qat(hard_weight=0)
    with pytest.raises(ValidationError, match="once a step"):
        qat(accumulation_steps=2)
