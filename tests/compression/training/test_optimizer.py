import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import tiny_classifier

from compression.training.config import TrainingConfig
from compression.training.optimizer import build_optimizer, learning_rate_factor


def test_biases_and_layer_normalisation_do_not_decay():
    model = tiny_classifier()
    optimizer = build_optimizer(model, TrainingConfig(weight_decay=0.3))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decaying, still = ({names[id(p)] for p in group["params"]} for group in optimizer.param_groups)
    assert {name for name in names.values() if name.endswith("bias") or "LayerNorm" in name} == still
    assert decaying | still == set(names.values())
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.3, 0.0]
    assert all(group["fused"] for group in optimizer.param_groups)


def test_frozen_parameters_are_left_out():
    model = tiny_classifier()
    model.bert.embeddings.requires_grad_(False)
    optimised = {id(p) for group in build_optimizer(model, TrainingConfig()).param_groups for p in group["params"]}
    assert not optimised & {id(p) for p in model.bert.embeddings.parameters()}


def test_a_step_is_the_equation_of_adamw():
    """Loshchilov and Hutter 2019, algorithm 2, in numpy."""
    config = TrainingConfig(learning_rate=0.01, weight_decay=0.1, adam_beta1=0.8, adam_beta2=0.95, adam_epsilon=1e-6)
    layer = torch.nn.Linear(3, 2, bias=False)
    weight = layer.weight.detach().numpy().astype(np.float64).copy()
    optimizer = build_optimizer(layer, config)
    first, second = np.zeros_like(weight), np.zeros_like(weight)
    for step in range(1, 4):
        gradient = np.random.default_rng(step).normal(size=weight.shape)
        layer.weight.grad = torch.from_numpy(gradient).float()
        optimizer.step()
        first = 0.8 * first + 0.2 * gradient
        second = 0.95 * second + 0.05 * gradient**2
        update = (first / (1 - 0.8**step)) / (np.sqrt(second / (1 - 0.95**step)) + 1e-6)
        weight = weight - 0.01 * 0.1 * weight - 0.01 * update
    np.testing.assert_allclose(layer.weight.detach().numpy(), weight, rtol=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    total=st.integers(1, 400),
    warmup=st.floats(0, 1),
    schedule=st.sampled_from(["linear", "cosine", "constant"]),
)
def test_the_learning_rate_rises_then_falls_and_never_vanishes(total, warmup, schedule):
    factors = [learning_rate_factor(step, total, warmup, schedule) for step in range(total)]
    peak = math.ceil(round(warmup * total, 6))
    assert all(0 < factor <= 1 for factor in factors)
    assert factors[:peak] == sorted(factors[:peak])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
    if peak < total:
        assert factors[peak] == 1.0


def test_cosine_is_half_way_down_in_the_middle():
    assert learning_rate_factor(50, 100, 0.0, "cosine") == pytest.approx(0.5)
