"""Single weights: thresholds, patterns, schedule; movement against its definition; gradual training resumes."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pruning_models import PLAIN, SHARED, classifier, inputs, rows
from tiny_models import tiny_task, tiny_tokenizer

from compression.control import Control
from compression.errors import Interrupted, UserError
from compression.pruning.config import GradualTraining, WeightPruning
from compression.pruning.masks import keep_masks, prunable, removed_count
from compression.pruning.schedule import pruning_steps, sparsity_at
from compression.pruning.weights import prune_by_magnitude, pruned_gradually
from compression.runtime import Runtime
from compression.training import finetune

TRAINING = {"epochs": 3, "batch_size": 8, "learning_rate": 1e-3, "interval": 2}


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    sizes=st.lists(st.tuples(st.integers(1, 4), st.sampled_from([4, 8])), min_size=1, max_size=3),
    sparsity=st.floats(0.01, 0.99),
    scope=st.sampled_from(["global", "layer"]),
    ties=st.booleans(),
)
def test_masks_remove_exactly_the_share_of_the_lowest(seed, sizes, sparsity, scope, ties):
    random = np.random.default_rng(seed)
    draw = (lambda size: random.integers(0, 3, size)) if ties else random.random
    scores = {str(number): torch.tensor(draw(size), dtype=torch.float) for number, size in enumerate(sizes)}
    config = WeightPruning(sparsity=sparsity, scope=scope)
    masks = keep_masks(scores, sparsity, config)
    counts = [mask.numel() for mask in masks.values()]
    removed = {name: int((~mask).sum()) for name, mask in masks.items()}
    assert sum(removed.values()) == removed_count(counts, sparsity, config)
    pools = [[name] for name in scores] if scope == "layer" else [list(scores)]
    for pool in pools:
        values, kept = (torch.cat([part[name].flatten() for name in pool]) for part in (scores, masks))
        assert int((~kept).sum()) == round(sparsity * len(values))
        if kept.any() and (~kept).any():
            assert values[~kept].max() <= values[kept].min()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000), sparsity=st.sampled_from([0.1, 0.25, 0.5]), scope=st.sampled_from(["global", "layer"])
)
def test_two_of_four(seed, sparsity, scope):
    random = np.random.default_rng(seed)
    scores = {name: torch.tensor(random.random(size)) for name, size in (("a", (3, 8)), ("b", (5, 4)))}
    config = WeightPruning(pattern="2:4", scope=scope)
    masks = keep_masks(scores, sparsity, config)
    losses = {True: [], False: []}
    for name, mask in masks.items():
        groups, values = mask.reshape(-1, 4), scores[name].reshape(-1, 4)
        assert set(groups.sum(1).tolist()) <= {2, 4}
        for group, value in zip(groups, values, strict=True):
            pruned = int(group.sum()) == 2
            losses[pruned].append(float(value.sort().values[:2].sum()))
            if pruned:
                assert value[~group].max() <= value[group].min()
    if sparsity == 0.5:
        assert not losses[False]
    elif scope == "global":
        assert max(losses[True]) <= min(losses[False])
    removed = sum(int((~mask).sum()) for mask in masks.values())
    assert removed == removed_count([24, 20], sparsity, config)


def test_magnitude_pruning_zeroes_the_smallest_weights_of_the_layers_matrices_alone():
    model = classifier(SHARED)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    config = WeightPruning(sparsity=0.6)
    names = {f"encoder.{name}.weight" for name in prunable(model, config)}
    assert len(names) == 2 * 4 + 2
    prune_by_magnitude(model, config)
    threshold = np.quantile(torch.cat([before[name].abs().flatten() for name in names]).numpy(), 0.6)
    for name, tensor in model.state_dict().items():
        expected = before[name] * (before[name].abs() > threshold) if name in names else before[name]
        assert torch.equal(tensor, expected), name


def test_embeddings_and_factorised_maps_are_pruned_too():
    model = classifier(PLAIN.edited(ranks={"attention.0.query": 4}))
    config = WeightPruning(pattern="2:4", embeddings=True)
    prune_by_magnitude(model, config)
    for name in (
        "attention.0.query.up",
        "attention.0.query.down",
        "embeddings.word_embeddings",
        "feed_forward.2.output",
    ):
        weight = model.encoder.get_submodule(name).weight
        assert ((weight.reshape(-1, 4) == 0).sum(1) == 2).all(), name
    with pytest.raises(UserError, match=r"attention\.0\.query\.up have 3"):
        prune_by_magnitude(classifier(PLAIN.edited(ranks={"attention.0.query": 3})), config)


@settings(max_examples=60, deadline=None)
@given(total=st.integers(1, 300), dense=st.floats(0, 0.5), final=st.floats(0, 0.49))
def test_the_schedule_rises_from_0_and_ends_at_the_full_sparsity(total, dense, final):
    begin, end = pruning_steps(total, dense, final)
    assert 0 <= begin <= end < total
    shares = [sparsity_at(step, begin, end, 0.1, 0.9) for step in range(total)]
    assert all(one <= other for one, other in itertools.pairwise(shares))
    assert shares[-1] == 0.9
    assert set(shares[:begin]) <= {0.0}
    assert total - end >= final * total - 1e-3


def train(folder, config, control=None, data=None, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    model = classifier(spread=0.05)
    training = GradualTraining(**{**TRAINING, **changes})
    with pruned_gradually(model, config, training) as hooks:
        result = finetune.apply(
            model, tiny_tokenizer(), data or tiny_task(50), training, seed=0, runtime=Runtime(), work=folder,
            control=control or Control(), history=folder / "history.jsonl", hooks=hooks,
        )  # fmt: skip
    return model, result


def zeros(model, config) -> float:
    weights = [module.weight for module in prunable(model, config).values()]
    return sum(int((weight == 0).sum()) for weight in weights) / sum(weight.numel() for weight in weights)


CONFIGS = {
    "magnitude": WeightPruning(sparsity=0.7, scope="layer"),
    "movement": WeightPruning(sparsity=0.7, importance="movement", training={}),
    "2:4": WeightPruning(pattern="2:4"),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_gradual_pruning_ends_as_an_ordinary_model_with_the_zeros_asked_for(tmp_path, config):
    model, result = train(tmp_path, config)
    assert zeros(model, config) == pytest.approx(config.sparsity, abs=2e-3)
    assert type(model.encoder.attention[0].query) is torch.nn.Linear
    assert model.state_dict().keys() == classifier().state_dict().keys()
    assert result.best_step > 0.7 * result.steps - 1, "weights that are not yet sparse are never kept"
    model.save_pretrained(tmp_path / "saved")
    batch = inputs(rows(4))
    with torch.inference_mode():
        assert torch.equal(
            type(model).from_pretrained(tmp_path / "saved").eval()(**batch).logits, model(**batch).logits
        )


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_stopped_gradual_pruning_goes_on_as_if_nothing_had_happened(tmp_path, config):
    undisturbed, _ = train(tmp_path / "a", config, accumulation_steps=2)
    looks = iter(range(10_000))
    with pytest.raises(Interrupted):
        train(tmp_path / "b", config, Control(should_stop=lambda: next(looks) == 31), accumulation_steps=2)
    resumed, _ = train(tmp_path / "b", config, accumulation_steps=2)
    for name, tensor in undisturbed.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_movement_scores_are_minus_the_sum_of_gradient_times_weight():
    """Two steps by hand: S = -Σ (∂L/∂W') · W with the gradient of what the model computes with (Sanh et al., eq. 3)."""
    config = WeightPruning(sparsity=0.5, importance="movement", training={})
    model = classifier()
    batch, labels = inputs(rows()), torch.from_numpy(rows().labels)
    training = GradualTraining(dense_share=0, final_share=0.5, interval=1)
    with pruned_gradually(model, config, training) as hooks:
        query = model.encoder.attention[1].query
        masked, original = query.parametrizations.weight[0], query.parametrizations.weight.original
        expected = torch.zeros_like(original)
        for step in range(2):
            hooks.before_step(step, 4)
            seen = {}
            handle = masked.register_forward_hook(lambda _, __, output, seen=seen: (output.retain_grad(), seen.update(weight=output))[0])  # fmt: skip
            torch.nn.functional.cross_entropy(model(**batch).logits, labels).backward()
            handle.remove()
            gradient = seen["weight"].grad
            expected -= gradient * original.detach()
            torch.testing.assert_close(original.grad, gradient * masked.mask)
            hooks.after_step()
            torch.testing.assert_close(masked.scores.detach(), expected)
            with torch.no_grad():
                original.sub_(0.1 * original.grad)
            original.grad = None
        assert not hooks.is_candidate()
        hooks.before_step(2, 4)
        assert hooks.is_candidate()


def test_a_stop_within_a_step_counts_no_movement_twice(tmp_path):
    """A gradient of half a step must not stay in the scores: the step is begun again."""
    config = CONFIGS["movement"]
    model = classifier()
    with pruned_gradually(model, config, GradualTraining()) as hooks:
        masked = model.encoder.attention[0].query.parametrizations.weight[0]
        hooks.before_step(0, 10)
        model(**inputs(rows())).logits.sum().backward()
        hooks.before_step(0, 10)
        assert masked.scores.grad is None
        assert not masked.scores.any()
