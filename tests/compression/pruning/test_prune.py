"""`prune.apply` and what is known of its result beforehand."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pruning_models import PLAIN, SHARED, classifier
from pydantic import ValidationError
from tiny_models import tiny_task, tiny_tokenizer

from compression.architecture.checkpoint import count_parameters
from compression.architecture.conversion import shape_of_model
from compression.architecture.counts import multiply_accumulates, parameters_by_part
from compression.architecture.editing import base_of
from compression.control import Control, Progress
from compression.data.corpus import Corpus
from compression.data.corpus_config import CorpusConfig
from compression.errors import Interrupted, UserError
from compression.pruning import prune
from compression.pruning.amounts import layers_to_remove, spread
from compression.pruning.config import LayerPruning, PruneConfig
from compression.pruning.contribution import similarities
from compression.pruning.shape import pruned_shape
from compression.runtime import Runtime

RECOVERY = {"epochs": 1, "batch_size": 8, "learning_rate": 1e-2}


def apply(folder, config, model=None, data=None, control=None, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    return prune.apply(
        model or classifier(id2label={0: "bad", 1: "good"}, label2id={"bad": 0, "good": 1}),
        tiny_tokenizer(),
        PruneConfig(**config),
        data=data or tiny_task(40),
        runtime=Runtime(),
        work=folder,
        control=control or Control(),
        history=folder / "history.jsonl",
        **changes,
    )


def encoder_parameters(model) -> int:
    return sum(parameter.numel() for parameter in base_of(model).parameters())


STRUCTURAL = {
    "heads": {"heads": {"sparsity": 0.5}},
    "heads by layer": {"heads": {"count": 6, "scope": "layer", "importance": "magnitude"}},
    "heads at random": {"heads": {"sparsity": 0.3, "importance": "random"}},
    "neurons": {"neurons": {"sparsity": 0.4}},
    "neurons by layer": {"neurons": {"sparsity": 0.4, "scope": "layer", "importance": "fisher"}},
    "layers": {"layers": {"count": 1, "strategy": "contribution"}},
    "upper layers": {"layers": {"count": 2}},
}


@pytest.mark.parametrize("config", STRUCTURAL.values(), ids=STRUCTURAL)
def test_the_size_that_is_planned_is_the_size_that_comes_out(tmp_path, config):
    result = apply(tmp_path, config)
    planned = parameters_by_part(pruned_shape(PruneConfig(**config), PLAIN))
    assert encoder_parameters(result.model) == sum(planned.values())
    assert result.summary["parameters"] == count_parameters(result.model)
    assert result.summary["parameters"] < result.summary["parameters_before"]
    assert result.summary["macs"] == multiply_accumulates(shape_of_model(result.model), 128)
    assert json.loads(json.dumps(result.summary)) == result.summary


def test_heads_are_taken_where_they_are_least_important(tmp_path):
    result = apply(tmp_path, {"heads": {"sparsity": 0.5}})
    importance = result.rounds[0]["importance"]
    removed = result.summary["removed"]["heads"]
    assert sum(removed) == 6
    threshold = sorted(np.concatenate(list(importance.values())))[5]
    assert removed == [sum(value <= threshold for value in importance[f"attention.{block}"]) for block in range(3)]
    assert np.linalg.norm(importance["attention.0"]) == pytest.approx(1)


def test_shared_blocks_and_their_report(tmp_path):
    model = classifier(SHARED, id2label={0: "bad", 1: "good"}, label2id={"bad": 0, "good": 1})
    result = apply(tmp_path, {"heads": {"count": 3}}, model)
    lost = result.summary["removed"]["heads"]
    assert lost[0] == lost[2]
    assert lost[0] + lost[1] == 3


@pytest.mark.parametrize("config", [{"heads": {"sparsity": 0.67}}, {"layers": {"count": 2, "strategy": "bottom"}}])
def test_rounds_remove_in_all_what_one_round_does_and_train_between(tmp_path, config):
    one = apply(tmp_path / "one", config)
    several = apply(tmp_path / "several", {**config, "iterations": 2, "recovery": RECOVERY})
    assert count_parameters(several.model) == count_parameters(one.model)
    assert [len(result.rounds) for result in (one, several)] == [1, 2]
    records = [json.loads(line) for line in (tmp_path / "several" / "history.jsonl").read_text().splitlines()]
    assert max(record["step"] for record in records) == 5
    assert not (tmp_path / "one" / "history.jsonl").exists()


class Steps(Progress):
    def __init__(self):
        self.seen = []

    def log(self, step, metrics):
        self.seen.append(step)


def test_rounds_go_on_where_they_were_stopped(tmp_path):
    config = {"neurons": {"sparsity": 0.5}, "iterations": 3, "recovery": RECOVERY}
    undisturbed = apply(tmp_path / "a", config)
    steps = Steps()
    looks = iter(range(10_000))
    with pytest.raises(Interrupted):
        apply(tmp_path / "b", config, control=Control(steps, should_stop=lambda: next(looks) == 13))
    assert (tmp_path / "b" / "round-1").exists()
    assert not (tmp_path / "b" / "round-2").exists()
    resumed = apply(tmp_path / "b", config, control=Control(steps))
    for name, tensor in undisturbed.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
    assert resumed.summary == undisturbed.summary
    assert resumed.rounds == undisturbed.rounds
    assert (tmp_path / "a" / "history.jsonl").read_bytes() == (tmp_path / "b" / "history.jsonl").read_bytes()
    assert max(steps.seen) == 10


def test_layers_of_several_rounds_keep_their_own_numbers(tmp_path):
    deep = PLAIN.edited(
        attention_heads=(4,) * 5, intermediate_sizes=(24,) * 5, attention_blocks=range(5), feed_forward_blocks=range(5)
    )
    names = {"id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}}
    config = {"layers": {"count": 2, "strategy": "contribution"}, "iterations": 2, "recovery": RECOVERY}
    result = apply(tmp_path, config, classifier(deep, **names))
    gone = result.summary["removed"]["layers"]
    assert len(set(gone)) == 2
    strategies = {"alternate": (1, 3), "alternate-top": (2, 4), "symmetric": (2, 3), "top": (3, 4), "bottom": (0, 1)}
    for strategy, expected in strategies.items():
        result = apply(tmp_path / strategy, {"layers": {"count": 2, "strategy": strategy}}, classifier(deep, **names))
        assert tuple(result.summary["removed"]["layers"]) == expected


def test_contribution_is_the_cosine_of_the_first_word_piece_before_and_after_each_layer(tmp_path):
    from pruning_models import evidence, inputs, rows

    model = classifier()
    found = similarities(model, evidence())
    with torch.inference_mode():
        states = model(**inputs(rows()), output_hidden_states=True).hidden_states
    for layer in range(3):
        before, after = (state[:, 0].numpy().astype(np.float64) for state in states[layer : layer + 2])
        cosines = (before * after).sum(1) / np.linalg.norm(before, axis=1) / np.linalg.norm(after, axis=1)
        assert found[layer] == pytest.approx(cosines.mean(), abs=1e-5)


def test_random_removal_follows_the_seed_and_importance_does_not(tmp_path):
    random = {"heads": {"sparsity": 0.5, "importance": "random"}}
    results = [apply(tmp_path / str(n), random, seed=seed) for n, seed in enumerate((0, 0, 1, 2))]
    importances = [result.rounds[0]["importance"] for result in results]
    assert importances[0] == importances[1]
    assert importances[0] != importances[2] != importances[3]


def test_zeros_are_counted_apart_and_nothing_is_called_smaller(tmp_path):
    result = apply(tmp_path, {"weights": {"sparsity": 0.5}})
    told = result.summary
    assert told["parameters"] == told["parameters_before"]
    assert told["macs"] == told["macs_before"]
    maps = sum(int(np.prod(size)) for size in PLAIN.linear_maps().values())
    zeros = sum(int((parameter == 0).sum()) for parameter in classifier().parameters())
    assert told["nonzero_parameters"] == pytest.approx(told["parameters"] - maps // 2 - zeros, abs=2)


def test_gradual_weights_train(tmp_path):
    result = apply(tmp_path, {"weights": {"sparsity": 0.6, "training": RECOVERY}})
    assert result.training.steps == 5
    assert (tmp_path / "history.jsonl").exists()
    assert result.summary["nonzero_parameters"] < result.summary["parameters"]


def test_a_vocabulary_of_the_task_and_of_a_corpus(tmp_path):
    (tmp_path / "more.txt").write_text("poor\n")
    data = tiny_task(40)
    data.train["text"] = "the film was good"
    corpus = Corpus(CorpusConfig(files=["more.txt"]), (tmp_path,))
    small = apply(tmp_path / "a", {"vocabulary": {}}, data=data)
    large = apply(tmp_path / "b", {"vocabulary": {}, "corpus": {"files": ["more.txt"]}}, data=data, corpus=corpus)
    assert small.model.config.vocab_size == len(small.tokenizer.get_vocab())
    # The tiny vocabulary has no single letters: no word of it could be spelt without its own piece, so all stay.
    assert small.summary["removed"]["word_pieces"] == large.summary["removed"]["word_pieces"] == 0


@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 12),
    st.integers(1, 12),
    st.sampled_from(["top", "bottom", "alternate", "alternate-top", "symmetric"]),
)
def test_strategies_name_as_many_layers_as_asked_for_or_refuse(layers, count, strategy):
    try:
        chosen = layers_to_remove(LayerPruning(count=count, strategy=strategy), layers)
    except UserError:
        most = {"alternate": layers // 2, "alternate-top": (layers + 1) // 2}.get(strategy, layers)
        assert count > most or count >= layers
        return
    assert len(set(chosen)) == count
    assert all(0 <= layer < layers for layer in chosen)
    if strategy == "symmetric":
        below, above = chosen[0], layers - 1 - chosen[-1]
        assert 0 <= below - above <= 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.data())
def test_spread_removes_exactly_and_never_more_than_there_is(sizes, data):
    blocks = {str(number): size for number, size in enumerate(sizes)}
    count = data.draw(st.integers(0, sum(sizes)))
    removed = spread(blocks, count)
    assert sum(removed.values()) == count
    assert all(0 <= removed[block] <= size for block, size in blocks.items())


def test_a_budget_is_planned_near_what_comes_out(tmp_path):
    config = {"structured": {"sparsity": 0.5, "cost": "parameters"}}
    planned = sum(parameters_by_part(pruned_shape(PruneConfig(**config), PLAIN)).values())
    result = apply(tmp_path, config)
    whole = sum(parameters_by_part(PLAIN).values())
    assert abs(planned - encoder_parameters(result.model)) < 0.03 * whole
    assert result.rounds[0]["cost_left"] <= 0.5


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"heads": {"count": 12}}, "12 of 12 heads would be removed; allowed: 1 to 11"),
        ({"heads": {"count": 40}}, "40 of 12 heads"),
        ({"heads": {"count": 4, "scope": "layer"}}, "4 heads cannot be taken evenly from 3 attention blocks"),
        ({"heads": {"sparsity": 0.01}}, "0 of 12 heads would be removed at sparsity 0.01"),
        ({"neurons": {"sparsity": 0.001}}, "0 of 72 neurons"),
        ({"layers": {"count": 3}}, "3 of 3 layers would be removed; allowed: 1 to 2"),
        ({"layers": {"count": 2, "strategy": "alternate"}}, "'alternate' can remove at most 1 of 3 layers, not 2"),
    ],
)
def test_what_the_model_does_not_have_is_refused_beforehand(tmp_path, config, message):
    with pytest.raises(UserError, match=message):
        pruned_shape(PruneConfig(**config), PLAIN)
    with pytest.raises(UserError, match=message):
        apply(tmp_path, config)


def test_importance_needs_a_classifier(tmp_path):
    bare = classifier().encoder
    with pytest.raises(UserError, match="importance gradient needs a model with a head for the task, not a Bert"):
        apply(tmp_path, {"heads": {"sparsity": 0.5}}, bare)
    with pytest.raises(UserError, match="training needs a model with a head"):
        apply(tmp_path, {"weights": {"training": {}}}, bare)
    assert (
        apply(tmp_path / "b", {"layers": {"count": 1, "strategy": "contribution"}}, bare).model.config.num_hidden_layers
        == 2
    )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "exactly one of heads, neurons, structured, layers, weights, vocabulary is needed"),
        ({"heads": {"sparsity": 0.5}, "layers": {"count": 1}}, "given heads, layers"),
        ({"heads": {}}, "either `sparsity` or `count` is needed"),
        ({"heads": {"sparsity": 0.5, "count": 3}}, "either `sparsity` or `count` is needed"),
        ({"heads": {"sparsity": 0.5}, "iterations": 2}, "`iterations` and `recovery` belong together"),
        ({"heads": {"sparsity": 0.5}, "recovery": {}}, "`iterations` and `recovery` belong together"),
        ({"weights": {}, "iterations": 2, "recovery": {}}, "gradual pruning is `weights.training`"),
        ({"weights": {"importance": "movement"}}, "importance movement is learnt while training"),
        ({"weights": {"pattern": "2:4", "sparsity": 0.6}}, "pattern 2:4 makes half of the weights 0"),
        ({"weights": {"sparsity": 0.3, "training": {"initial_sparsity": 0.3}}}, "must be below sparsity"),
        ({"weights": {"training": {"dense_share": 0.5, "final_share": 0.5}}}, "leave no steps to prune in"),
        ({"heads": {"sparsity": 0.5}, "corpus": "a.txt"}, "it belongs to `vocabulary`"),
    ],
)
def test_meaningless_configurations_are_refused(config, message):
    with pytest.raises(ValidationError, match=message):
        PruneConfig(**config)


def test_what_a_configuration_needs():
    needs = {
        "heads": ({"heads": {"sparsity": 0.5}}, (True, True, False)),
        "magnitude": ({"neurons": {"sparsity": 0.5, "importance": "magnitude"}}, (False, False, False)),
        "random": ({"heads": {"count": 1, "importance": "random"}}, (False, False, True)),
        "structured": ({"structured": {"sparsity": 0.5}}, (True, True, False)),
        "top": ({"layers": {"count": 1}}, (False, False, False)),
        "contribution": ({"layers": {"count": 1, "strategy": "contribution"}}, (True, False, False)),
        "weights": ({"weights": {}}, (False, False, False)),
        "gradual": ({"weights": {"training": {}}}, (True, False, True)),
        "vocabulary": ({"vocabulary": {}}, (True, False, False)),
        "rounds": ({"layers": {"count": 2}, "iterations": 2, "recovery": {}}, (True, False, True)),
    }
    for name, (fields, expected) in needs.items():
        config = PruneConfig(**fields)
        assert (config.reads_data, config.needs_gradients, config.is_random) == expected, name
