"""Sharing: shapes and counts, weights that a group gets, one gradient, round trips, and what is refused."""

import json

import numpy as np
import pytest
import torch
from encoder_shapes import POSITIONS, VOCABULARY, encoder_shapes
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import tiny_classifier, tiny_encoder_folder, tiny_rows
from transformers import AutoModel

from compression.architecture.config import StudentConfig
from compression.architecture.conversion import config_of, shape_of_model, to_bertpress
from compression.architecture.counts import parameters_by_part
from compression.architecture.editing import load_editable, rebuilt
from compression.architecture.encoder.modeling_bertpress import BertpressForMaskedLM, BertpressModel
from compression.architecture.presets import PRESETS
from compression.architecture.shape import EncoderShape
from compression.architecture.student import build_encoder, build_student
from compression.errors import UserError
from compression.factorization.config import FactorizeConfig
from compression.factorization.factorize import apply as factorize
from compression.sharing.config import ShareConfig
from compression.sharing.shape import shape_after
from compression.sharing.share import apply

FOUR = EncoderShape.regular(
    layers=4, hidden_size=8, heads=2, intermediate_size=12, vocab_size=VOCABULARY, max_position_embeddings=POSITIONS
)


def build(made, shape, **fields):
    torch.manual_seed(0)
    model = made(config_of(shape, **fields))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


def pieces():
    return torch.randint(0, VOCABULARY, (2, POSITIONS), generator=torch.Generator().manual_seed(1))


def hidden_states(model):
    with torch.inference_mode():
        return model(pieces()).last_hidden_state


# Lan et al. 2019, Table 4, in millions, printed without a decimal.
TABLE_4 = {
    768: {"all": 31, "attention": 83, "ffn": 57, "none": 108},
    128: {"all": 12, "attention": 64, "ffn": 38, "none": 89},
}


@pytest.mark.parametrize("size", TABLE_4)
@pytest.mark.parametrize("mode", ["all", "attention", "ffn", "none"])
def test_counts_are_those_of_albert_s_table_4(size, mode):
    unshared = EncoderShape.regular(
        layers=12, hidden_size=768, heads=12, intermediate_size=3072, vocab_size=30000, embedding_size=size
    )
    shared = shape_after(ShareConfig(mode=mode), unshared)
    # What is printed for no sharing leaves the pooler out.
    counted = sum(parameters_by_part(shared, pooler=mode != "none").values())
    assert abs(counted / 1e6 - TABLE_4[size][mode]) < 0.5
    blocks = {"all": (1, 1), "attention": (1, 12), "ffn": (12, 1), "none": (12, 12)}[mode]
    assert (len(shared.attention_heads), len(shared.intermediate_sizes)) == blocks
    if mode == "all" and size == 128:
        assert shared == PRESETS["albert-base"].shape()


def test_groups_of_layers_have_the_counts_of_their_blocks():
    unshared = EncoderShape.regular(
        layers=12, hidden_size=768, heads=12, intermediate_size=3072, vocab_size=30000, embedding_size=128
    )
    counts = [
        sum(parameters_by_part(shape_after(ShareConfig(groups=groups), unshared)).values()) / 1e6
        for groups in (1, 2, 3, 4, 6, 12)
    ]
    block = (4 * (768**2 + 768) + 2 * 768 + 2 * 768 * 3072 + 3072 + 768 + 2 * 768) / 1e6
    np.testing.assert_allclose(np.diff(counts), block * np.diff([1, 2, 3, 4, 6, 12]), rtol=1e-9)
    assert counts[0] == pytest.approx(11.68, abs=0.005)


@settings(max_examples=30, deadline=None)
@given(
    shape=encoder_shapes(),
    made=st.sampled_from([BertpressModel, BertpressForMaskedLM]),
    mode=st.sampled_from(["none", "attention", "ffn", "all"]),
    groups=st.integers(1, 3),
    initialisation=st.sampled_from(["first", "mean"]),
)
def test_any_shape_is_shared_as_foretold_and_counted_or_refused_beforehand(
    tmp_path_factory, shape, made, mode, groups, initialisation
):
    config, model = ShareConfig(mode=mode, groups=groups, initialisation=initialisation), build(made, shape)
    try:
        foretold = shape_after(config, shape)
    except UserError:
        with pytest.raises(UserError):
            apply(model, config)
        return
    shared, report = apply(model, config)
    assert shape_of_model(shared) == foretold
    assert shape_after(config, foretold) == foretold, "sharing again changes nothing"
    head = "masked_lm" if made is BertpressForMaskedLM else "none"
    counted = sum(parameters_by_part(foretold, pooler=head == "none", head=head).values())
    assert counted == report.parameters_after <= report.parameters_before
    assert json.loads(json.dumps(report.summary()))["parameters"] == counted
    folder = tmp_path_factory.mktemp("model")
    shared.save_pretrained(folder)
    back = load_editable(folder)
    assert sum(parameter.numel() for parameter in back.parameters()) == counted
    with torch.inference_mode():
        one, other = shared(pieces()), back(pieces())
        assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    "config", [{"mode": "none", "groups": 3}, {"groups": 4}, {"groups": 4, "initialisation": "mean"}]
)
def test_no_sharing_and_a_group_a_layer_are_the_identity(config):
    model = build(BertpressModel, FOUR)
    same, report = apply(model, ShareConfig(**config))
    assert shape_of_model(same) == FOUR
    weights = model.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in same.state_dict().items())
    assert report.parameters_after == report.parameters_before
    assert all(block.distances == (0.0,) for block in report.blocks)


def test_a_group_gets_its_first_layer_or_the_mean():
    model = build(BertpressModel, FOUR)
    own = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    first, _ = apply(model, ShareConfig(mode="attention", groups=2))
    mean, report = apply(model, ShareConfig(mode="attention", groups=2, initialisation="mean"))
    for name, tensor in first.state_dict().items():
        kind, _, rest = name.partition(".")
        if kind != "attention":
            np.testing.assert_array_equal(tensor, own[name])
            continue
        group, _, leaf = rest.partition(".")
        pair = [own[f"attention.{2 * int(group) + place}.{leaf}"] for place in (0, 1)]
        np.testing.assert_array_equal(tensor, pair[0])
        np.testing.assert_allclose(mean.state_dict()[name], (pair[0] + pair[1]) / 2, atol=1e-6)
    # Half of the difference, relative to the layer's own block.
    leaves = [name.removeprefix("attention.2.") for name in own if name.startswith("attention.2.")]
    halves = np.concatenate([(own[f"attention.3.{leaf}"] - own[f"attention.2.{leaf}"]).ravel() / 2 for leaf in leaves])
    whole = np.concatenate([own[f"attention.3.{leaf}"].ravel() for leaf in leaves])
    assert report.blocks[1].distances[1] == pytest.approx(np.linalg.norm(halves) / np.linalg.norm(whole), rel=1e-5)
    distances = [distance for block in report.blocks for distance in block.distances]
    assert report.distance("attention") == pytest.approx(np.sqrt(np.mean(np.square(distances))))


def test_the_mean_of_factorised_maps_is_the_mean_of_their_products():
    model, _ = factorize(build(BertpressModel, FOUR), FactorizeConfig(linear={"rank": 2}))
    shared, report = apply(model, ShareConfig(initialisation="mean"))
    products = [
        (block.query.up.weight @ block.query.down.weight).detach().double().numpy() for block in model.attention
    ]
    left, values, right = np.linalg.svd(np.mean(products, axis=0))
    best = left[:, :2] * values[:2] @ right[:2]
    query = shared.attention[0].query
    np.testing.assert_allclose((query.up.weight @ query.down.weight).detach(), best, atol=1e-5)
    assert shape_of_model(shared).ranks["attention.0.query"] == 2
    assert 0 < report.distance("attention") < 2


def test_a_shared_block_has_one_gradient_the_sum_over_its_uses():
    shared, _ = apply(build(BertpressModel, FOUR), ShareConfig(groups=2, initialisation="mean"))
    weights = {}
    for name, tensor in shared.state_dict().items():
        kind, _, rest = name.partition(".")
        if kind in ("attention", "feed_forward"):
            group, _, leaf = rest.partition(".")
            weights |= {f"{kind}.{2 * int(group) + place}.{leaf}": tensor for place in (0, 1)}
        else:
            weights[name] = tensor
    apart = rebuilt(shared, FOUR, weights)
    for model in (shared, apart):
        model(pieces()).last_hidden_state.square().sum().backward()
    own = {name: parameter.grad for name, parameter in apart.named_parameters()}
    counted = 0
    for name, parameter in shared.named_parameters():
        kind, _, rest = name.partition(".")
        if kind in ("attention", "feed_forward"):
            group, _, leaf = rest.partition(".")
            total = sum(own[f"{kind}.{2 * int(group) + place}.{leaf}"] for place in (0, 1))
            torch.testing.assert_close(parameter.grad, total, atol=1e-4, rtol=1e-4)
            counted += 1
    assert counted == 2 * (10 + 6), "weights and biases of two attention and two feed-forward blocks"


def best_model():
    """Four layers of which layer 2 is near to what all of them do."""
    torch.manual_seed(0)
    model = to_bertpress(tiny_classifier(num_hidden_layers=4))
    with torch.no_grad():
        for block in (*model.encoder.attention, *model.encoder.feed_forward):
            for parameter in block.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("mode", ["attention", "ffn", "all"])
def test_the_best_layer_changes_the_hidden_states_least(mode):
    model, rows = best_model(), tiny_rows(20)
    shared, report = apply(model, ShareConfig(mode=mode, groups=2, initialisation="best", sample=20), rows)
    kinds = {"attention": ["attention"], "ffn": ["feed_forward"], "all": ["attention", "feed_forward"]}[mode]
    encoder, group = model.encoder, (2, 3)
    expected = []
    for candidate in group:
        total, numbers = 0.0, 0
        with torch.inference_mode():
            for row in rows.input_ids:  # one by one: nothing is padded
                states = encoder(torch.from_numpy(row.astype(np.int64))[None], output_hidden_states=True).hidden_states
                hidden = states[2]
                for layer in group:
                    attention = encoder.attention[candidate if "attention" in kinds else layer]
                    feed_forward = encoder.feed_forward[candidate if "feed_forward" in kinds else layer]
                    hidden = feed_forward(attention(hidden, None))
                    total += float((hidden - states[layer + 1]).square().sum())
                    numbers += hidden.numel()
        expected.append(total / numbers)
    second = [block for block in report.blocks if block.layers == group]
    assert [block.kind for block in second] == kinds
    for block in second:
        assert block.errors == pytest.approx(expected, rel=1e-4)
        assert block.origin == group[int(np.argmin(expected))]
        weights, own = shared.encoder.state_dict(), encoder.state_dict()
        leaf = "LayerNorm.weight"
        assert torch.equal(weights[f"{block.kind}.1.{leaf}"], own[f"{block.kind}.{block.origin}.{leaf}"])
    assert report.summary()["sharing"]["hidden_state_error"] > 0


def test_best_without_rows_is_refused():
    with pytest.raises(UserError, match="`best` looks at train rows"):
        apply(build(BertpressModel, FOUR), ShareConfig(initialisation="best"))


@pytest.mark.parametrize(
    ("changes", "config", "message"),
    [
        ({}, {"groups": 3}, "3 groups do not divide 4 layers; allowed: 1, 2, 4"),
        ({"attention_heads": (2, 2, 1, 2)}, {"groups": 2}, "layers 2 and 3 cannot share attention weights: they have 1 and 2 heads"),
        ({"intermediate_sizes": (12, 0, 12, 12)}, {"mode": "ffn"}, "layers 0 and 1 cannot share feed-forward weights: they have 12 and 0 feed-forward neurons"),
        ({"ranks": {"attention.1.key": 2}}, {}, "layers 0 and 1 cannot share attention weights: the ranks of their key map are full and 2"),
        ({"attention_blocks": (0, 1, 1, 2), "attention_heads": (2, 2, 2)}, {"groups": 2}, "layers 1 and 2 share attention weights already, and 2 groups would take them apart"),
    ],
)  # fmt: skip
def test_what_cannot_be_shared_is_refused_before_anything_runs(changes, config, message):
    with pytest.raises(UserError, match=message):
        shape_after(ShareConfig(**config), FOUR.edited(**changes))


def test_unequal_layers_may_share_what_is_equal_or_lie_in_different_groups():
    uneven = FOUR.edited(attention_heads=(2, 2, 1, 1), intermediate_sizes=(12, 12, 12, 9))
    assert shape_after(ShareConfig(mode="attention", groups=2), uneven).attention_heads == (2, 1)


def test_a_fresh_student_shares_the_weights_that_it_would_have_alone(tmp_path):
    folder = tiny_encoder_folder(tmp_path)
    student = StudentConfig(preset="bert-tiny")
    encoder = build_encoder(student, folder, seed=3)
    alone = build_student(student, folder, labels=("bad", "good"), problem="classification", seed=3)
    shared, _ = apply(encoder, ShareConfig())
    with torch.inference_mode():
        expected = alone.bert(torch.tensor([[2, 5, 3]])).last_hidden_state
        torch.testing.assert_close(encoder(torch.tensor([[2, 5, 3]])).last_hidden_state, expected, atol=1e-5, rtol=1e-5)
    own = alone.bert.encoder.layer[0].attention.self.query.weight
    assert torch.equal(shared.attention[0].query.weight, own)
    shared.save_pretrained(tmp_path / "shared")
    back = AutoModel.from_pretrained(tmp_path / "shared")
    assert len(back.attention) == 1
