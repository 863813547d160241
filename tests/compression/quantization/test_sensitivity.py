"""Mixed precision: the divergence against scipy, the scan against quantizing each layer by hand, and the folder."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.stats import entropy
from test_int8_static import surroundings
from test_schemes import logits, saved
from tiny_models import tiny_classifier, tiny_rows
from torch import nn

from compression.control import Control
from compression.errors import UserError
from compression.quantization import load_quantized
from compression.quantization.config import MixedConfig, QuantizeConfig
from compression.quantization.format import QuantizedFormat, coded_layer, layers_of
from compression.quantization.quantize import apply, quantize
from compression.quantization.sensitivity import divergence, scan
from compression.training.predict import predict

COARSE = QuantizedFormat(scheme="int4-weight", group_size=16)


def sharp():
    """A model that has a layer which few bits spoil: its large weights share groups with those that matter."""
    model = tiny_classifier(seed=4, initializer_range=0.2)
    with torch.no_grad():
        model.bert.pooler.dense.weight[:, ::8] *= 20
    return model


def scanned(model, **config):
    mixed = MixedConfig(**config)
    return scan(model, COARSE, {}, tiny_rows(30), mixed, pad_token_id=0, control=Control())


def test_divergence_is_the_mean_relative_entropy():
    random = np.random.default_rng(0)
    one, other = random.normal(size=(2, 50, 3)).astype(np.float32)
    p, q = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (one, other))
    assert divergence(one, other) == pytest.approx(
        np.mean([entropy(a, b) for a, b in zip(p, q, strict=True)]), rel=1e-4
    )
    assert divergence(one, one) == 0
    assert divergence(one[:, :1], one[:, :1] + 1) == pytest.approx(0.5 / one[:, 0].var(), rel=1e-4)


def test_each_layer_is_judged_alone_and_the_model_is_left_as_it_was():
    model, rows = sharp(), tiny_rows(30)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    reference = predict(model, rows, pad_token_id=0, control=Control())
    found = scanned(model, tolerance=1e-3)
    assert set(found.sensitivity) == set(layers_of(model))
    assert next(iter(found.sensitivity)) == "pooler.dense"
    assert list(found.sensitivity.values()) == sorted(found.sensitivity.values(), reverse=True)
    for name in list(found.sensitivity)[:3]:
        alone = sharp()
        layer = layers_of(alone)[name]
        parent, _, child = name.rpartition(".")
        setattr(alone.base_model.get_submodule(parent), child, coded_layer(layer, "int4-weight", COARSE))
        outputs = predict(alone, rows, pad_token_id=0, control=Control())
        assert found.sensitivity[name] == pytest.approx(divergence(reference, outputs), rel=1e-6)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_the_fewest_layers_that_keep_the_outputs_are_spared():
    found = scanned(sharp(), tolerance=1e-3)
    names = list(found.sensitivity)
    assert list(found.layers) == names[: len(found.layers)]
    assert 0 < len(found.layers) < len(names)
    assert found.divergence <= 1e-3
    reference = predict(sharp(), tiny_rows(30), pad_token_id=0, control=Control())

    def with_spared(count):
        layers = dict.fromkeys(names[:count], "fp32")
        model = quantize(sharp(), QuantizedFormat(scheme="int4-weight", group_size=16, layers=layers))
        return divergence(reference, predict(model, tiny_rows(30), pad_token_id=0, control=Control()))

    assert with_spared(len(found.layers)) == pytest.approx(found.divergence, rel=1e-6)
    assert with_spared(len(found.layers) - 1) > 1e-3


def test_nothing_is_spared_where_nothing_needs_to_be():
    found = scanned(sharp(), tolerance=100)
    assert found.layers == {}


def test_a_tolerance_that_even_the_finer_format_misses_is_refused():
    with pytest.raises(UserError, match="with fp8-e4m3 in every layer the outputs still diverge"):
        scanned(sharp(), tolerance=1e-12, fallback="fp8-e4m3")


@pytest.mark.parametrize("fallback", ["fp32", "int8-static"])
def test_the_mixture_is_in_the_folder(tmp_path, fallback):
    config = QuantizeConfig(
        scheme="int4-weight", group_size=16, mixed={"fallback": fallback, "tolerance": 1e-3}, calibration={"rows": 20}
    )
    made = apply(sharp(), config, surroundings(tmp_path))
    assert made.scan.layers
    model = load_quantized(saved(tmp_path / "mixed", made.model))
    assert torch.equal(logits(model), logits(made.model))
    kinds = {"fp32": "Linear", "int8-static": "Int8StaticLinear"}
    for name in made.scan.layers:
        layer = model.base_model.get_submodule(name)
        assert isinstance(layer, nn.Embedding) or type(layer).__name__ in (kinds[fallback], "Int8Embedding")


def test_mixed_precision_is_for_layers_that_are_rounded_one_by_one():
    with pytest.raises(ValidationError, match="which int8-qat does not"):
        QuantizeConfig(scheme="int8-qat", mixed={})
