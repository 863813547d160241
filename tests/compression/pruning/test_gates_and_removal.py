"""Importance against definitions written out example by example; removal against masking."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pruning_models import PLAIN, SHARED, classifier, evidence, inputs, rows
from tiny_models import WORDS

from compression.architecture.conversion import shape_of_model
from compression.architecture.counts import parameters_by_part
from compression.data.encoding import Encoded
from compression.pruning.choices import least_important
from compression.pruning.gates import gate_gradients, gated
from compression.pruning.importance import (
    fisher_information,
    magnitudes,
    mean_absolute,
    normalized,
    random_importance,
)
from compression.pruning.removal import without_layers, without_units
from compression.pruning.units import units_of

BOTH = ("attention", "feed_forward")


def by_definition(model, encoded, block: str, size: int) -> np.ndarray:
    """Att_h(x)ᵀ ∂L(x)/∂Att_h(x) of each example alone: no gates, no batch, no padding; summed over the block's uses."""
    scores = np.zeros((len(encoded), units_of(shape_of_model(model), block.partition(".")[0])[block]))
    for example in range(len(encoded)):
        outputs = []
        hook = model.encoder.get_submodule(f"{block}.output").register_forward_pre_hook(
            lambda _, args, outputs=outputs: outputs.append(args[0])
        )
        logits = model(torch.from_numpy(encoded.input_ids[example].astype(np.int64))[None]).logits[0]
        hook.remove()
        loss = -torch.log_softmax(logits, 0)[int(encoded.labels[example])]
        for output, gradient in zip(outputs, torch.autograd.grad(loss, outputs), strict=True):
            product = output.detach().numpy() * gradient.numpy()  # (1, length, units * size)
            scores[example] += product.reshape(product.shape[1], -1, size).sum(axis=(0, 2))
    return scores


@pytest.mark.parametrize("shape", [PLAIN, SHARED], ids=["plain", "shared"])
def test_importance_is_that_of_a_loop_over_single_examples(shape):
    model = classifier(shape)
    found = gate_gradients(model, evidence(), BOTH)
    assert found.keys() == units_of(shape, "attention").keys() | units_of(shape, "feed_forward").keys()
    for block, gradients in found.items():
        expected = by_definition(model, rows(), block, shape.head_size if "attention" in block else 1)
        np.testing.assert_allclose(gradients, expected, atol=2e-5)
        np.testing.assert_allclose(mean_absolute(found)[block], np.abs(expected).mean(0), atol=2e-5)
        np.testing.assert_allclose(fisher_information(found)[block], (expected**2).mean(0), atol=1e-4, rtol=1e-3)


def test_the_absolute_value_is_taken_of_each_example():
    """Two examples that pull a gate in opposite directions make it important, though their sum is 0."""
    one = {"attention.0": np.array([[2.0, 1.0], [-2.0, 1.0]])}
    assert mean_absolute(one)["attention.0"].tolist() == [2.0, 1.0]


def test_gradients_are_those_of_a_finite_difference():
    model = classifier().double()
    batch = inputs(rows())
    labels = torch.from_numpy(rows().labels)
    found = gate_gradients(model, evidence(), BOTH)

    def losses(gate):
        with torch.inference_mode(), gated(model, {"attention.1": gate}):
            return torch.nn.functional.cross_entropy(model(**batch).logits, labels, reduction="none")

    step = torch.zeros(1, 4, dtype=torch.double)
    step[0, 2] = 1e-5
    ones = torch.ones(1, 4, dtype=torch.double)
    slope = (losses(ones + step) - losses(ones - step)) / 2e-5
    np.testing.assert_allclose(found["attention.1"][:, 2], slope.numpy(), atol=1e-6)


def test_gradients_never_accumulate_and_do_not_depend_on_the_batch():
    model = classifier()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    first, second = gate_gradients(model, evidence(), BOTH), gate_gradients(model, evidence(), BOTH)
    encoded = rows()
    one = Encoded(encoded.input_ids[:1], None, encoded.labels[:1], encoded.lengths[:1])
    single = gate_gradients(model, replace(evidence(), encoded=one), BOTH)
    for block, values in first.items():
        np.testing.assert_array_equal(values, second[block])
        np.testing.assert_allclose(values[:1], single[block], atol=1e-5)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_regression_and_outputs_in_another_order():
    model = classifier(num_labels=1, problem_type="regression")
    targets = replace(rows(), labels=rows().labels.astype(np.float32))
    found = gate_gradients(model, replace(evidence(), encoded=targets, order=(0,)), ("attention",))["attention.0"]
    assert np.isfinite(found).all()
    assert np.abs(found).max() > 0
    swapped = classifier()
    with torch.no_grad():
        swapped.classifier.weight.copy_(swapped.classifier.weight.flip(0))
        swapped.classifier.bias.copy_(swapped.classifier.bias.flip(0))
    expected = gate_gradients(classifier(), evidence(), ("attention",))["attention.0"]
    found = gate_gradients(swapped, replace(evidence(), order=(1, 0)), ("attention",))["attention.0"]
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=1e-5)


def test_magnitude_is_the_norm_of_all_weights_of_a_unit():
    model = classifier(PLAIN.edited(ranks={"attention.0.value": 3, "feed_forward.1.output": 5}))
    heads, neurons = magnitudes(model, "attention"), magnitudes(model, "feed_forward")
    block = model.encoder.attention[0]
    value = (block.value.up.weight @ block.value.down.weight).detach()
    second = slice(4, 8)
    parts = [block.query.weight[second], block.key.weight[second], value[second], block.output.weight[:, second]]
    assert heads["attention.0"][1] == pytest.approx(
        torch.cat([part.flatten() for part in parts]).norm().item(), rel=1e-5
    )
    last = model.encoder.feed_forward[2]
    expected = torch.cat([last.intermediate.weight[7], last.output.weight[:, 7]]).norm().item()
    assert neurons["feed_forward.2"][7] == pytest.approx(expected, rel=1e-5)


def test_random_importance_follows_the_seed_alone():
    first, again, other = (random_importance(classifier(), "attention", seed) for seed in (0, 0, 1))
    assert all(np.array_equal(first[block], again[block]) for block in first)
    assert not np.array_equal(first["attention.0"], other["attention.0"])


def test_normalised_blocks_have_norm_1_and_the_least_important_are_taken_from_all_blocks():
    importances = normalized({"a": np.array([3.0, 4.0]), "b": np.array([0.0, 0.0]), "c": np.array([1.0, 0.01])})
    assert [float(np.linalg.norm(values)) for values in importances.values()] == [1.0, 0.0, 1.0]
    assert {name: units.tolist() for name, units in least_important(importances, 3).items()} == {"b": [0, 1], "c": [1]}


@st.composite
def removals(draw):
    shape = draw(st.sampled_from([PLAIN, SHARED, PLAIN.edited(ranks={
        "attention.0.query": 3, "attention.1.output": 2, "feed_forward.0.intermediate": 5, "feed_forward.2.output": 4})]))  # fmt: skip
    sizes = units_of(shape, "attention") | units_of(shape, "feed_forward")
    blocks = draw(st.lists(st.sampled_from(sorted(sizes)), unique=True, min_size=1))
    chosen = {block: draw(st.sets(st.integers(0, sizes[block] - 1), min_size=1)) for block in blocks}
    everything = draw(st.sampled_from([None, *blocks]))
    if everything is not None:
        chosen[everything] = set(range(sizes[everything]))
    return shape, {block: sorted(units) for block, units in chosen.items()}


@settings(max_examples=30, deadline=None)
@given(case=removals())
def test_removing_equals_masking(case):
    shape, removed = case
    model = classifier(shape)
    sizes = units_of(shape, "attention") | units_of(shape, "feed_forward")
    gates = {block: torch.ones(1, sizes[block]) for block in removed}
    for block, units in removed.items():
        gates[block][0, units] = 0.0
    batch = inputs(rows(6))
    smaller = without_units(model, removed)
    with torch.inference_mode():
        found = smaller(**batch).logits
        with gated(model, gates):
            masked = model(**batch).logits
    torch.testing.assert_close(found, masked, atol=1e-6, rtol=1e-5)
    counted = parameters_by_part(shape_of_model(smaller), head="classifier")
    assert sum(counted.values()) == sum(parameter.numel() for parameter in smaller.parameters())
    assert sum(parameter.numel() for parameter in smaller.parameters()) < sum(p.numel() for p in model.parameters())


def test_a_layer_may_lose_all_heads_and_come_back_from_disk(tmp_path):
    from compression.architecture.editing import load_editable

    smaller = without_units(classifier(), {"attention.1": [0, 1, 2, 3], "feed_forward.2": range(24)})
    smaller.save_pretrained(tmp_path)
    back = load_editable(tmp_path)
    assert (back.config.attention_heads, back.config.intermediate_sizes) == ([4, 0, 4], [24, 24, 0])
    batch = inputs(rows(6))
    with torch.inference_mode():
        assert torch.equal(back(**batch).logits, smaller(**batch).logits)


def test_layers_are_removed_with_the_blocks_that_nobody_else_uses():
    model = classifier(SHARED)
    kept = without_layers(model, [1])
    assert (kept.config.attention_blocks, kept.config.attention_heads) == ([0, 0], [4])
    model.encoder.attention[1].forward = lambda hidden, *_: hidden
    layers = iter([True, False, True])  # the shared feed-forward block is skipped in the removed layer alone
    whole = model.encoder.feed_forward[0].forward
    model.encoder.feed_forward[0].forward = lambda hidden: whole(hidden) if next(layers) else hidden
    batch = inputs(rows(6))
    with torch.inference_mode():
        torch.testing.assert_close(kept(**batch).logits, model(**batch).logits, atol=1e-6, rtol=1e-6)


def test_layers_of_an_encoder_without_head_and_pooler():
    from compression.architecture.conversion import config_of
    from compression.architecture.encoder.modeling_bertpress import BertpressModel

    bare = BertpressModel(config_of(PLAIN, vocab_size=len(WORDS)), add_pooling_layer=False)
    assert without_layers(bare, [0, 2]).pooler is None


def test_span_models_have_importance_of_their_own_loss():
    """Mean cross-entropy of first and last word piece, padding excluded; a loop over single examples again."""
    from compression.architecture.conversion import config_of
    from compression.architecture.encoder.modeling_bertpress import BertpressForQuestionAnswering

    torch.manual_seed(0)
    model = BertpressForQuestionAnswering(config_of(PLAIN)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    encoded = rows(12)
    spans = np.stack([np.ones(12, np.int64), encoded.lengths - 2], axis=1)
    told = replace(evidence(), encoded=replace(encoded, labels=spans), order=None)
    found = gate_gradients(model, told, ("attention",))["attention.1"]
    for example in range(12):
        gate = torch.ones(1, 4, requires_grad=True)
        with gated(model, {"attention.1": gate}):
            logits = model(torch.from_numpy(encoded.input_ids[example].astype(np.int64))[None]).logits[0]
        losses = [-torch.log_softmax(logits[:, end], 0)[spans[example, end]] for end in (0, 1)]
        (gradient,) = torch.autograd.grad(sum(losses) / 2, gate)
        np.testing.assert_allclose(found[example], gradient[0].numpy(), atol=2e-5)
