"""Static int8 against plain arithmetic in numpy; ranges against their definitions; calibration that sees only train."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tiny_models import frame, tiny_classifier, tiny_rows, tiny_task, tiny_tokenizer
from torch import nn

from compression.architecture.checkpoint import save_checkpoint
from compression.control import Control
from compression.errors import CheckpointError, UserError
from compression.quantization import int8_arithmetic, load_quantized
from compression.quantization.calibration import calibrate, real_rows
from compression.quantization.config import CalibrationConfig, QuantizeConfig
from compression.quantization.format import layers_of
from compression.quantization.int8_static import ActivationCode, Int8StaticLinear, code_activation
from compression.quantization.observers import BINS, Observed, activation_code, divergence, squared_error
from compression.quantization.quantize import apply
from compression.quantization.surroundings import Surroundings

needs_kernel = pytest.mark.skipif(int8_arithmetic.kernel_bits() is None, reason="this machine has no integer kernel")


def surroundings(tmp_path, data=None, **changes):
    given = {"tokenizer": tiny_tokenizer(), "data": data or tiny_task(), "work": tmp_path / "work"}
    return Surroundings(**given, history=tmp_path / "history.jsonl", **changes)


def observed(values):
    histogram, _ = np.histogram(values, BINS, (values.min(), values.max()))
    return Observed(float(values.min()), float(values.max()), histogram.astype(np.float64))


def example(features=24, outputs=7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Linear(features, outputs)
    nn.init.normal_(layer.weight, generator=generator)
    nn.init.normal_(layer.bias, generator=generator)
    return layer, torch.randn(2, 5, features, generator=generator)


def by_hand(layer, activation, code):
    x = activation.double().numpy()
    q = np.clip(np.round(activation.numpy() / np.float32(code.scale)) + code.zero_point, 0, 255)
    x = code.scale * (q - code.zero_point)
    w = layer.weight.detach().double().numpy()
    step = np.abs(w).max(axis=1, keepdims=True) / 127
    return x @ (np.round(w / step) * step).T + layer.bias.detach().double().numpy()


@settings(deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_a_code_spans_its_range_and_holds_zero(one, other):
    low, high = min(one, other, 0.0), max(one, other, 0.0)
    code = ActivationCode.of_range(min(one, other), max(one, other))
    assert code.scale > 0
    assert 0 <= code.zero_point <= 255
    lowest, highest = -code.scale * code.zero_point, code.scale * (255 - code.zero_point)
    assert lowest <= low + 0.51 * code.scale
    assert highest >= high - 0.51 * code.scale


@settings(deadline=None)
@given(hnp.arrays(np.float32, st.integers(1, 20), elements=st.floats(-10, 10, width=32)))
def test_what_a_range_holds_is_within_half_a_step_and_the_rest_is_clipped(values):
    code = ActivationCode.of_range(-2.0, 3.1)
    back = code.scale * (code_activation(torch.from_numpy(values), code.scale, code.zero_point) - code.zero_point)
    low, high = -code.scale * code.zero_point, code.scale * (255 - code.zero_point)
    expected = np.clip(values, low, high)
    assert (np.abs(back.numpy() - expected) <= 0.5 * code.scale + 1e-5).all()


@needs_kernel
@pytest.mark.parametrize("bits", [8, 7])
@pytest.mark.parametrize(
    "code", [ActivationCode.of_range(-3, 4), ActivationCode.of_range(0, 4), ActivationCode.symmetric(3)]
)
def test_kernel_and_plain_path_are_the_equation(monkeypatch, bits, code):
    layer, activation = example()
    monkeypatch.setattr(int8_arithmetic, "kernel_bits", lambda: bits)
    # 7-bit codes are twice as coarse: half a step of them, for every weight.
    tolerance = 1e-4 if bits == 8 else 2 * code.scale * layer.weight.abs().sum(1).max().item()
    found = Int8StaticLinear.from_float(layer, code)(activation)
    np.testing.assert_allclose(found.numpy(), by_hand(layer, activation, code), atol=tolerance)
    monkeypatch.setattr(int8_arithmetic, "kernel_bits", lambda: None)
    plain = Int8StaticLinear.from_float(layer, code)(activation)
    np.testing.assert_allclose(plain.numpy(), by_hand(layer, activation, code), atol=1e-4)


def test_one_scale_for_a_matrix_is_that_of_its_largest_weight():
    layer, _ = example()
    made = Int8StaticLinear.from_float(layer, ActivationCode.symmetric(1), per_channel=False)
    step = layer.weight.abs().max() / 127
    torch.testing.assert_close(made.weight_scale, step.detach().expand(7))
    assert torch.equal(made.weight.float(), (layer.weight / step).round())


def test_min_max_takes_everything_and_percentile_leaves_the_tails():
    values = np.concatenate([np.linspace(-1, 1, 100_001), [50.0]])
    assert activation_code(observed(values), "min-max", 99.9) == ActivationCode.of_range(-1, 50)
    values = np.linspace(-2, 3, 1_000_001)
    code = activation_code(observed(values), "percentile", 90.0)
    low, high = np.percentile(values, [10, 90])
    expected = ActivationCode.of_range(low, high)
    assert code.scale == pytest.approx(expected.scale, rel=0.01)
    assert code.zero_point == pytest.approx(expected.zero_point, abs=1)
    assert activation_code(observed(values), "percentile", 100.0) == ActivationCode.of_range(-2, 3)


def test_mse_takes_the_best_of_its_candidates_and_beats_everything_under_outliers():
    values = np.concatenate([np.random.default_rng(0).normal(size=200_000), [12.0, -12.0]])
    seen = observed(values)
    code = activation_code(seen, "mse", 100.0)

    def true_error(code):
        q = np.clip(np.round(values / code.scale) + code.zero_point, 0, 255)
        return np.mean((code.scale * (q - code.zero_point) - values) ** 2)

    whole = ActivationCode.of_range(-12, 12)
    assert true_error(code) < 0.8 * true_error(whole)
    assert squared_error(seen, code) == pytest.approx(true_error(code), rel=0.2)
    assert true_error(code) < 1.05 * min(
        true_error(ActivationCode.of_range(-end, end)) for end in np.linspace(2, 12, 50)
    )


def test_entropy_is_the_divergence_of_the_clipped_histogram():
    values = np.concatenate([np.random.default_rng(1).laplace(size=100_000), [60.0]])
    seen = observed(values)
    code = ActivationCode.of_range(-6, 8)
    edges = np.linspace(seen.low, seen.high, BINS + 1)
    centres = (edges[1:] + edges[:-1]) / 2
    low, high = -code.scale * code.zero_point, code.scale * (255 - code.zero_point)
    inside = [i for i in range(BINS) if low <= centres[i] <= high]
    p = np.array([seen.histogram[i] for i in inside])
    p[0] += seen.histogram[: inside[0]].sum()
    p[-1] += seen.histogram[inside[-1] + 1 :].sum()
    q = np.zeros(len(inside))
    number = [int(np.clip(np.round(centres[i] / code.scale) + code.zero_point, 0, 255)) for i in inside]
    for each in set(number):
        bins = [k for k in range(len(inside)) if number[k] == each and p[k] > 0]
        for k in bins:
            q[k] = sum(seen.histogram[inside[j]] for j in range(len(inside)) if number[j] == each) / len(bins)
    p, q = p / p.sum(), np.maximum(q / q.sum(), 1e-9)
    expected = sum(a * np.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)
    assert divergence(seen, code) == pytest.approx(expected, rel=1e-9)
    chosen = activation_code(seen, "entropy", 100.0)
    assert chosen.scale < 0.8 * ActivationCode.of_range(seen.low, seen.high).scale


@pytest.mark.parametrize("observer", ["min-max", "percentile", "entropy", "mse"])
def test_inputs_that_never_change_have_a_code(observer):
    for value in (0.0, 3.0, -3.0):
        code = activation_code(Observed(value, value, np.zeros(BINS)), observer, 99.9)
        assert code.scale * (np.clip(round(value / code.scale) + code.zero_point, 0, 255) - code.zero_point) == (
            pytest.approx(value)
        )


def test_calibration_sees_the_layers_inputs_without_padding():
    model, rows = tiny_classifier(), tiny_rows(20)
    name = "encoder.layer.1.output.dense"
    inputs = []
    hook = model.base_model.get_submodule(name).register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    with torch.inference_mode():
        for ids in rows.input_ids:  # one at a time: no padding at all
            model(input_ids=torch.from_numpy(ids.astype(np.int64))[None])
    hook.remove()
    low, high = min(x.min().item() for x in inputs), max(x.max().item() for x in inputs)
    config = CalibrationConfig(observer="min-max", rows=100)
    found = calibrate(model, [name, "pooler.dense"], rows, config, pad_token_id=0, control=Control())
    expected = ActivationCode.of_range(low, high)
    assert found[name].scale == pytest.approx(expected.scale, rel=1e-4)
    assert found[name].zero_point == pytest.approx(expected.zero_point, abs=1)
    assert set(found) == {name, "pooler.dense"}


def test_real_rows_of_states_and_of_pooled_ones():
    mask = torch.tensor([[True, True, False], [True, False, False]])
    states = torch.arange(12.0).view(2, 3, 2)
    assert real_rows(states, mask).tolist() == [[0, 1], [2, 3], [6, 7]]
    pooled = torch.zeros(2, 3)  # as wide as the batch is long
    assert real_rows(pooled, mask).shape == (2, 3)


@pytest.mark.parametrize("observer", ["min-max", "percentile", "entropy", "mse"])
def test_a_folder_gives_back_the_same_outputs(tmp_path, observer):
    from test_schemes import logits, saved, uneven

    for name, plain in (("plain", tiny_classifier()), ("uneven", uneven())):
        before = logits(plain)
        config = QuantizeConfig(scheme="int8-static", calibration={"observer": observer, "rows": 20})
        model = apply(plain, config, surroundings(tmp_path)).model
        assert (logits(model) - before).norm() < 0.15 * before.norm()
        again = load_quantized(saved(tmp_path / name, model))
        for length in (1, 9, 24):
            assert torch.equal(logits(again, length), logits(model, length))


def test_poisoned_reported_and_selection_rows_change_nothing(tmp_path):
    config = QuantizeConfig(scheme="int8-static", calibration={"observer": "min-max"})
    data = tiny_task()
    # Rows that cannot even be read: whoever looks at one of them fails.
    poison = frame(3, 9)
    poison["text"] = [float("nan"), None, 7]
    poisoned = dataclasses.replace(data, selection=poison, evaluation={"": poison})
    one = apply(tiny_classifier(), config, surroundings(tmp_path, data)).model.state_dict()
    two = apply(tiny_classifier(), config, surroundings(tmp_path, poisoned)).model.state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    with pytest.raises((ValueError, TypeError)):
        apply(tiny_classifier(), config, surroundings(tmp_path, dataclasses.replace(data, train=poison)))


def test_calibration_without_rows_or_with_a_diverged_model_is_refused(tmp_path):
    config = QuantizeConfig(scheme="int8-static")
    empty = dataclasses.replace(tiny_task(), train=tiny_task().train.iloc[:0])
    with pytest.raises(UserError, match="no training rows to calibrate on"):
        apply(tiny_classifier(), config, surroundings(tmp_path, empty))
    huge = tiny_classifier()
    huge.bert.embeddings.LayerNorm.weight.data.fill_(1e38)
    huge.bert.encoder.layer[0].attention.output.LayerNorm.weight.data.fill_(3e38)
    with pytest.raises(UserError, match="not finite: the model has diverged"):
        apply(huge, config, surroundings(tmp_path))


def test_a_damaged_activation_code_is_refused(tmp_path):
    from test_schemes import change_weights

    model = apply(tiny_classifier(), QuantizeConfig(scheme="int8-static"), surroundings(tmp_path)).model
    save_checkpoint(model, tiny_tokenizer(), tmp_path / "int8")
    change_weights(tmp_path / "int8", lambda tensors: tensors["bert.pooler.dense.activation_scale"].fill_(0))
    with pytest.raises(CheckpointError, match=r"bert\.pooler\.dense does not hold a scale above 0"):
        load_quantized(tmp_path / "int8")


def test_newly_loaded_codes_are_used():
    layer, activation = example()
    one = Int8StaticLinear.from_float(layer, ActivationCode.symmetric(3))
    other = Int8StaticLinear.from_float(layer, ActivationCode.symmetric(0.1))
    one(activation)
    one.load_state_dict(other.state_dict())
    assert torch.equal(one(activation), other(activation))


def test_excluded_layers_are_not_calibrated(tmp_path):
    config = QuantizeConfig(scheme="int8-static", exclude=["encoder.*"])
    model = apply(tiny_classifier(), config, surroundings(tmp_path)).model
    kept = [name for name in layers_of(model) if name.startswith("encoder")]
    assert len(kept) == 18
    assert isinstance(model.base_model.pooler.dense, Int8StaticLinear)
