"""Search, rearrangement and tuning under a budget, against brute force and plain least squares."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pruning_models import PLAIN, SHARED, classifier, evidence, inputs, rows

from compression.architecture.conversion import shape_of_model
from compression.architecture.counts import multiply_accumulates, parameters_by_part
from compression.architecture.shape import EncoderShape
from compression.pruning.config import StructuredPruning
from compression.pruning.costs import unit_costs
from compression.pruning.gates import gate_gradients, gated
from compression.pruning.mask_search import search
from compression.pruning.mask_tuning import Equations, least_squares_factors, tune
from compression.pruning.rearrangement import rearranged
from compression.pruning.removal import without_units
from compression.pruning.structured import within_budget
from compression.pruning.units import units_of

FISHER = st.floats(0.01, 10, allow_nan=False)


@settings(max_examples=60, deadline=None)
@given(
    heads=st.lists(st.lists(FISHER, min_size=1, max_size=3), min_size=1, max_size=2),
    neurons=st.lists(st.lists(FISHER, min_size=1, max_size=4), min_size=1, max_size=2),
    head_cost=st.integers(1, 5),
    share=st.floats(0.05, 0.95),
)
def test_search_finds_what_trying_every_mask_finds(heads, neurons, head_cost, share):
    """With one cost a kind, as in a plain encoder, the search is exact."""
    head_values = {f"attention.{n}": np.array(values) for n, values in enumerate(heads)}
    neuron_values = {f"feed_forward.{n}": np.array(values) for n, values in enumerate(neurons)}
    every = np.concatenate([*head_values.values(), *neuron_values.values()])
    count = sum(map(len, heads))
    cost = np.array([head_cost] * count + [1] * (len(every) - count))
    budget = share * cost.sum()
    masks = np.array(list(itertools.product([0, 1], repeat=len(every))))
    best = max((masks @ every)[masks @ cost <= budget])
    costs = dict.fromkeys(head_values, head_cost) | dict.fromkeys(neuron_values, 1)
    kept = search(head_values, neuron_values, costs, budget)
    found = sum((head_values | neuron_values)[block][units].sum() for block, units in kept.items())
    spent = sum(costs[block] * len(units) for block, units in kept.items())
    assert spent <= budget + 1e-6
    assert found == pytest.approx(best)


def test_costs_of_shared_blocks_count_every_use_in_multiply_accumulates_and_once_in_parameters():
    macs, parameters = unit_costs(SHARED, "macs", 7), unit_costs(SHARED, "parameters", 7)
    head, neuron = 7 * (4 * 16 * 4 + 2 * 7 * 4), 2 * 7 * 16
    assert macs == {"attention.0": 2 * head, "attention.1": head, "feed_forward.0": 3 * neuron}
    assert parameters == {"attention.0": 268, "attention.1": 268, "feed_forward.0": 33}


@settings(max_examples=40, deadline=None)
@given(data=st.data(), units=st.integers(2, 9))
def test_rearrangement_never_raises_the_joint_effect_and_a_single_exchange_cannot_lower_it_less(data, units):
    seed, pruned = data.draw(st.integers(0, 1000)), data.draw(st.integers(0, units))
    gradients = np.random.default_rng(seed).normal(size=(12, units)).astype(np.float32)
    chosen = rearranged(gradients, pruned)
    assert len(set(chosen.tolist())) == pruned

    def effect(members):
        return float((gradients[:, members].astype(np.float64).sum(axis=1) ** 2).sum())

    start = np.argsort((gradients.astype(np.float64) ** 2).sum(0), kind="stable")
    members = start[:pruned].tolist()
    assert effect(chosen) <= effect(members) + 1e-6
    for offered in start[pruned:].tolist() if pruned else []:  # the exchange as the paper's code spells it out
        members = min(([m for m in [*members, offered] if m != leaving] for leaving in [*members, offered]), key=effect)
    assert effect(chosen) == pytest.approx(effect(members), rel=1e-6, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), units=st.integers(1, 8), scale=st.floats(1e-3, 1e3))
def test_tuning_never_raises_the_residual_of_the_least_squares(seed, units, scale):
    random = np.random.default_rng(seed)
    outputs = scale * random.normal(size=(10, units)) * random.integers(0, 2, units)
    target = scale * random.normal(size=10)
    equations = Equations(outputs.T @ outputs, outputs.T @ target, float(target @ target))
    factors = least_squares_factors(equations)

    def residual(values):
        return float(((outputs @ values - target) ** 2).sum())

    assert residual(factors) <= residual(np.ones(units)) * (1 + 1e-9) + 1e-9
    assert equations.residual(factors) == pytest.approx(residual(factors), rel=1e-6, abs=1e-6 * scale**2)
    damped = np.linalg.lstsq(
        np.vstack([equations.normal, np.eye(units)]),
        np.concatenate([equations.right - equations.normal.sum(1), np.zeros(units)]),
        rcond=None,
    )[0]
    np.testing.assert_allclose(factors, 1 + damped, atol=1e-6 * max(1.0, np.abs(damped).max()))


def before_normalisation(model, batch):
    """Of each block in the order of the forward pass: what enters it, and the sum before its LayerNorm."""
    seen = []
    hooks = []
    for kind in ("attention", "feed_forward"):
        for number, block in enumerate(getattr(model.encoder, kind)):
            name = f"{kind}.{number}"
            hooks.append(block.register_forward_pre_hook(lambda _, args, name=name: seen.append([name, args[0]])))
            hooks.append(block.output.register_forward_pre_hook(lambda _, args: seen[-1].append(args[0])))
            hooks.append(block.LayerNorm.register_forward_pre_hook(lambda _, args: seen[-1].append(args[0])))
    with torch.inference_mode():
        model(**batch)
    for hook in hooks:
        hook.remove()
    return seen


REMOVED = {
    "attention.0": [1], "attention.1": [0, 3], "attention.2": [2], "feed_forward.0": range(0, 24, 2),
    "feed_forward.1": range(10), "feed_forward.2": range(5, 20),
}  # fmt: skip


def test_factors_are_those_of_least_squares_over_the_tokens():
    """The equations of every block, written out token by token over what its units put out."""
    dense = classifier()
    pruned = without_units(dense, REMOVED)
    untouched = without_units(dense, REMOVED)
    tuning = tune(pruned, dense, evidence())
    assert list(tuning.factors) == [
        "feed_forward.0", "attention.1", "feed_forward.1", "attention.2", "feed_forward.2"
    ]  # fmt: skip
    batch = inputs(rows())
    real = batch["attention_mask"].bool()
    wanted, own = before_normalisation(dense, batch), before_normalisation(pruned, batch)
    for (name, _, _, whole), (same, entered, inner, _) in zip(wanted, own, strict=True):
        assert name == same
        if name not in tuning.factors:
            continue
        output = untouched.encoder.get_submodule(f"{name}.output")
        chosen = real.clone()
        if name == "feed_forward.2":
            chosen[:, 1:] = False
        size = 4 if "attention" in name else 1
        weight = output.weight.detach().double()
        by_unit = inner[chosen].double().unflatten(-1, (-1, size))
        parts = torch.einsum("tus,hus->thu", by_unit, weight.unflatten(-1, (-1, size))).flatten(0, 1).numpy()
        target = (whole - output.bias - entered)[chosen].double().flatten().detach().numpy()
        normal, ones = parts.T @ parts, np.ones(parts.shape[1])
        damped = np.linalg.lstsq(
            np.vstack([normal, np.eye(len(ones))]), np.concatenate([parts.T @ target - normal @ ones, 0 * ones])
        )[0]
        np.testing.assert_allclose(tuning.factors[name], 1 + damped, atol=2e-3, rtol=2e-3)
        before, after = tuning.residuals[name]
        assert before == pytest.approx(float(((parts.sum(1) - target) ** 2).sum()), rel=1e-4)
        assert after == pytest.approx(float(((parts @ tuning.factors[name] - target) ** 2).sum()), rel=1e-3, abs=1e-3)
        assert after <= before


def test_tuning_scales_the_outputs_of_units_and_nothing_else():
    dense = classifier()
    pruned, untouched = without_units(dense, REMOVED), without_units(dense, REMOVED)
    tuning = tune(pruned, dense, evidence())
    gates = {block: torch.from_numpy(factors).float()[None] for block, factors in tuning.factors.items()}
    batch = inputs(rows())
    with torch.inference_mode(), gated(untouched, gates):
        expected = untouched(**batch).logits
    with torch.inference_mode():
        torch.testing.assert_close(pruned(**batch).logits, expected, atol=1e-5, rtol=1e-5)


def test_nothing_removed_leaves_factors_of_1_and_a_wild_solution_stops_the_tuning():
    dense = classifier()
    tuning = tune(without_units(dense, {"attention.0": []}), dense, evidence())
    for factors in tuning.factors.values():
        np.testing.assert_allclose(factors, 1, atol=2e-2)
    wild = classifier()
    with torch.no_grad():  # one neuron is asked to stand in for all others, which put out a hundred times as much
        wild.encoder.feed_forward[0].output.weight[:, 1:] = 100 * wild.encoder.feed_forward[0].output.weight[:, :1]
    pruned = without_units(wild, {"feed_forward.0": range(1, 24)})
    before = {name: tensor.clone() for name, tensor in pruned.state_dict().items()}
    assert tune(pruned, wild, evidence()).factors == {}
    assert all(torch.equal(tensor, before[name]) for name, tensor in pruned.state_dict().items())


def test_a_shared_block_is_tuned_once_over_all_its_uses():
    dense = classifier(SHARED)
    pruned = without_units(dense, {"attention.0": [0], "feed_forward.0": range(8)})
    tuning = tune(pruned, dense, evidence())
    assert list(tuning.factors) == ["feed_forward.0", "attention.1"]
    for before, after in tuning.residuals.values():
        assert after <= before


@pytest.mark.parametrize("cost", ["macs", "parameters"])
@pytest.mark.parametrize("shape", [PLAIN, SHARED], ids=["plain", "shared"])
def test_a_budget_is_kept_and_nearly_spent(cost, shape):
    config = StructuredPruning(sparsity=0.5, cost=cost, length=9)
    model = classifier(shape)
    pruned, told = within_budget(model, config, evidence(), whole=shape, sparsity=0.5)

    def count(of: EncoderShape) -> int:
        empty = of.edited(attention_heads=(0,) * len(of.attention_heads), intermediate_sizes=(0,) * len(of.intermediate_sizes))  # fmt: skip
        if cost == "macs":
            return multiply_accumulates(of, 9) - multiply_accumulates(empty, 9)
        return sum(parameters_by_part(of).values()) - sum(parameters_by_part(empty).values())

    left = count(shape_of_model(pruned)) / count(shape)
    assert left == pytest.approx(told["cost_left"])
    assert 0.4 < left <= 0.5
    assert all(entry["residual"] <= 1 for entry in told["tuned"].values())


def test_diagonal_alone_and_untuned_is_the_plain_search():
    model = classifier()
    config = StructuredPruning(sparsity=0.4, length=9, rearrange=False, tune=False)
    pruned, told = within_budget(model, config, evidence(), whole=PLAIN, sparsity=0.4)
    assert "tuned" not in told
    gradients = gate_gradients(model, evidence(), ("attention", "feed_forward"))
    fisher = {block: (values.astype(np.float64) ** 2).mean(0) for block, values in gradients.items()}
    heads = {block: fisher[block] for block in units_of(PLAIN, "attention")}
    neurons = {block: fisher[block] for block in units_of(PLAIN, "feed_forward")}
    costs = unit_costs(PLAIN, "macs", 9)
    total = sum(costs[block] * len(values) for block, values in fisher.items())
    kept = search(heads, neurons, costs, 0.6 * total)
    assert pruned.config.attention_heads == [len(kept[f"attention.{n}"]) for n in range(3)]
    weight = model.encoder.feed_forward[1].output.weight[:, torch.from_numpy(kept["feed_forward.1"])]
    assert torch.equal(pruned.encoder.feed_forward[1].output.weight, weight)
