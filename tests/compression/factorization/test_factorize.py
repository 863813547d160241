"""Factorisation of whole models: outputs, shapes, counts, weightings, and what is refused."""

import json

import numpy as np
import pytest
import torch
from encoder_shapes import POSITIONS, encoder_shapes
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import WORDS, tiny_classifier, tiny_rows
from transformers import AlbertConfig, AlbertModel

from compression.architecture.conversion import config_of, shape_of_model, to_bertpress
from compression.architecture.counts import parameters_by_part
from compression.architecture.editing import prefix_of, rebuilt
from compression.architecture.encoder.modeling_bertpress import BertpressForMaskedLM, BertpressModel
from compression.architecture.shape import EncoderShape
from compression.errors import UserError
from compression.factorization import embedding, linear
from compression.factorization.config import EmbeddingConfig, FactorizeConfig
from compression.factorization.factorize import apply
from compression.factorization.low_rank import decompose
from compression.factorization.shape import Target, shape_after, targets, with_ranks

SHAPE = EncoderShape.regular(
    layers=2, hidden_size=8, heads=2, intermediate_size=32, vocab_size=60, max_position_embeddings=POSITIONS
)


def build(made, shape, **fields):
    torch.manual_seed(0)
    model = made(config_of(shape, **fields))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


def pieces(shape):
    return torch.randint(0, shape.vocab_size, (2, POSITIONS), generator=torch.Generator().manual_seed(1))


def outputs(model):
    with torch.inference_mode():
        found = model(pieces(shape_of_model(model)))
    return found.logits if isinstance(model, BertpressForMaskedLM) else found.last_hidden_state


def attempt(function, *given):
    """What a function gives, and what it refuses with."""
    try:
        return function(*given), None
    except UserError as error:
        return None, str(error)


@settings(max_examples=25, deadline=None)
@given(shape=encoder_shapes(low_rank=False), made=st.sampled_from([BertpressModel, BertpressForMaskedLM]))
def test_factors_of_full_rank_give_the_same_outputs(shape, made):
    model = build(made, shape)
    weights, prefix = dict(model.state_dict()), prefix_of(model)
    ranks = {name: min(sizes) for name, sizes in shape.linear_maps().items()}
    for name, rank in ranks.items():
        factors = decompose(linear.matrix(weights, prefix + name)).factors(rank)
        weights = linear.with_factors(weights, prefix + name, *factors)
    if shape.embedding_projection != "all":
        ranks["embedding"] = min(shape.vocab_size, shape.hidden_size)
        factors = decompose(embedding.table(weights, prefix).T).factors(ranks["embedding"])
        weights = embedding.with_factors(weights, prefix, *factors)
    factorised = rebuilt(model, with_ranks(shape, ranks), weights)
    torch.testing.assert_close(outputs(factorised), outputs(model), atol=1e-5, rtol=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    shape=encoder_shapes(),
    made=st.sampled_from([BertpressModel, BertpressForMaskedLM]),
    choice=st.one_of(
        st.fixed_dictionaries({"rank": st.integers(1, 6)}),
        st.fixed_dictionaries({"ratio": st.floats(0.05, 0.95)}),
        st.fixed_dictionaries({"energy": st.floats(0.1, 1.0)}),
    ),
    parts=st.sampled_from([("embedding",), ("linear",), ("embedding", "linear")]),
)
def test_any_shape_is_factorised_as_foretold_and_counted_or_refused_beforehand(shape, made, choice, parts):
    config = FactorizeConfig(**dict.fromkeys(parts, choice))
    model = build(made, shape)
    foretold, refusal = attempt(shape_after, config, shape)
    if refusal is not None:
        assert attempt(apply, model, config) == (None, refusal)
        return
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    factorised, report = apply(model, config)
    found = shape_of_model(factorised)
    if "energy" not in choice:
        assert found == foretold
    head = "masked_lm" if made is BertpressForMaskedLM else "none"
    counted = sum(parameters_by_part(found, pooler=head == "none", head=head).values())
    assert report.parameters_after == counted <= report.parameters_before
    weights = sum(matrix.parameters_before - matrix.parameters_after for matrix in report.matrices)
    assert weights == report.parameters_before - report.parameters_after
    for matrix in report.matrices:
        assert matrix.relative_error == pytest.approx(matrix.tail, abs=1e-5)
        assert bool(matrix.kept_because) == (matrix.parameters_after == matrix.parameters_before)
        if "energy" in choice:
            assert matrix.tail**2 <= 1 - choice["energy"] + 1e-6
    assert outputs(factorised).isfinite().all()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    for written in (report.details(), report.summary()):
        assert json.loads(json.dumps(written))["parameters_after" if "matrices" in written else "parameters"] == counted


@pytest.mark.parametrize("projection", ["none", "word"])
def test_scores_of_a_masked_lm_are_those_of_the_reconstructed_table(projection):
    shape = SHAPE.edited(embedding_projection=projection, embedding_size=8 if projection == "none" else 6)
    model = build(BertpressForMaskedLM, shape)
    factorised, report = apply(model, FactorizeConfig(embedding={"rank": 3}))
    parts = factorised.encoder.embeddings
    table = parts.word_embeddings.weight @ parts.word_projection.weight.T
    assert np.linalg.matrix_rank(table.detach().numpy(), tol=1e-5) == 3
    weights = {name: tensor for name, tensor in model.state_dict().items() if "word_" not in name} | {
        "encoder.embeddings.word_embeddings.weight": table
    }
    del weights["head.decoder.weight"]
    dense = rebuilt(model, shape.edited(embedding_projection="none", embedding_size=8), weights)
    torch.testing.assert_close(outputs(factorised), outputs(dense), atol=1e-5, rtol=1e-5)
    assert factorised.head.decoder.weight is parts.word_embeddings.weight, "still tied"
    original = model.encoder.embeddings.word_embeddings.weight
    if projection == "word":
        original = original @ model.encoder.embeddings.word_projection.weight.T
    values = np.linalg.svd(original.detach().double().numpy(), compute_uv=False)
    expected = np.sqrt((values[3:] ** 2).sum() / (values**2).sum())
    assert report.matrices[0].relative_error == pytest.approx(expected, abs=1e-6)


def test_a_masked_lm_that_is_not_tied_is_refused():
    model = build(BertpressForMaskedLM, SHAPE, tie_word_embeddings=False)
    with pytest.raises(UserError, match="an output map of its own"):
        apply(model, FactorizeConfig(embedding={"rank": 3}))
    apply(model, FactorizeConfig(linear={"rank": 2}))


def test_a_factorised_model_is_factorised_further_but_not_again_to_the_same_rank():
    both = {"embedding": {"rank": 5}, "linear": {"rank": 3}}
    once, _ = apply(build(BertpressModel, SHAPE), FactorizeConfig(**both))
    twice, report = apply(once, FactorizeConfig(embedding={"rank": 2}, linear={"ratio": 0.67}))
    assert shape_of_model(twice).embedding_size == 2
    assert set(shape_of_model(twice).ranks.values()) == {2}
    assert report.relative_error("embedding") > 0
    with pytest.raises(
        UserError, match=r"embedding \(8×60, of rank 5 already\) 340 weights and it has 340; ranks up to 4"
    ):
        apply(once, FactorizeConfig(**both))


def test_albert_keeps_its_embedding_and_has_each_shared_map_factorised_once():
    torch.manual_seed(0)
    plain = AlbertModel(
        AlbertConfig(vocab_size=60, embedding_size=4, hidden_size=16, num_hidden_layers=3, num_attention_heads=2,
                     intermediate_size=32, max_position_embeddings=POSITIONS)
    ).eval()  # fmt: skip
    model = to_bertpress(plain)
    with pytest.raises(UserError, match="the embedding is ALBERT's, 60×4"):
        apply(model, FactorizeConfig(embedding={"rank": 2}))
    factorised, report = apply(model, FactorizeConfig(linear={"rank": 4}))
    assert len(report.matrices) == 6
    assert shape_of_model(factorised).attention_blocks == (0, 0, 0)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"embedding": {"rank": 8}}, r"embedding: rank 8 gives embedding \(8×60\) 544 weights and it has 480; ranks up to 7 make it smaller"),
        ({"linear": {"rank": 7}}, r"linear: rank 7 gives attention.0.query \(8×8\) 112 weights .* \(and so on for all 12 maps\)"),
        ({"linear": {"rank": 2, "maps": ["atention"]}}, "maps names 'atention', but the encoder has no such linear map; it has such as attention.0.query"),
    ],
)  # fmt: skip
def test_impossible_ranks_and_unknown_maps_are_refused_before_anything_runs(config, message):
    with pytest.raises(UserError, match=message):
        shape_after(FactorizeConfig(**config), SHAPE)


def test_maps_that_a_rank_would_not_make_smaller_stay_dense_with_the_reason():
    config = FactorizeConfig(linear={"rank": 5})
    factorised, report = apply(build(BertpressModel, SHAPE), config)
    assert set(shape_of_model(factorised).ranks) == {
        f"feed_forward.{b}.{n}" for b in (0, 1) for n in ("intermediate", "output")
    }
    kept = [matrix for matrix in report.matrices if matrix.kept_because]
    assert {matrix.part for matrix in kept} == {"attention"}
    assert all(matrix.relative_error == 0 and "ranks up to 3" in matrix.kept_because for matrix in kept)
    summary = report.summary()["factorization"]
    assert (summary["attention"]["kept"], summary["feed_forward"]["kept"]) == (8, 0)
    assert "rank 5 gives attention.0.query" in summary["kept_because"]


@pytest.mark.parametrize(
    ("patterns", "count"),
    [(["attention"], 8), (["attention.*.query", "attention.1"], 5), (["feed_forward.0.output"], 1), (["*"], 12)],
)
def test_patterns_choose_maps(patterns, count):
    assert len(targets(FactorizeConfig(linear={"rank": 1, "maps": patterns}), SHAPE)) == count


@pytest.mark.parametrize("fields", [{}, {"embedding": {}}, {"embedding": {"rank": 2, "ratio": 0.5}}, {"linear": {"ratio": 1}},
                                    {"linear": {"rank": 0}}, {"linear": {"rank": 2, "maps": []}}])  # fmt: skip
def test_contradicting_configurations_are_refused(fields):
    with pytest.raises(ValueError, match=r"needed|less than 1|greater than|at least 1"):
        FactorizeConfig(**fields)


@given(ratio=st.floats(0.01, 0.99), inputs=st.integers(2, 500), outputs=st.integers(2, 500))
def test_a_ratio_is_the_share_of_parameters_that_is_left(ratio, inputs, outputs):
    target = Target("embedding", inputs, outputs, None, EmbeddingConfig(ratio=ratio))
    rank, allowed = target.asked_rank, ratio * inputs * outputs + 1e-6
    assert rank == 1 or target.parameters_at(rank) <= allowed
    assert target.parameters_at(rank + 1) > allowed - 1e-5
    assert target.parameters_at(target.largest_rank) < inputs * outputs <= target.parameters_at(target.largest_rank + 1)


def tiny_model():
    """A classifier of the tiny task with weights that a few directions do not make up."""
    torch.manual_seed(0)
    model = to_bertpress(tiny_classifier(intermediate_size=64))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def test_frequent_word_pieces_are_approximated_better_with_weights():
    rows, model = tiny_rows(50), tiny_model()
    plain, _ = apply(model, FactorizeConfig(embedding={"rank": 4}))
    _, report = apply(model, FactorizeConfig(embedding={"rank": 4, "weighting": "frequency"}), rows)
    table = model.encoder.embeddings.word_embeddings.weight.detach().double().numpy()
    weights = np.sqrt(np.bincount(np.concatenate(rows.input_ids), minlength=len(WORDS)) + 1.0)[:, None]
    values = np.linalg.svd(table * weights, compute_uv=False)
    expected = np.sqrt((values[4:] ** 2).sum() / (values**2).sum())
    matrix = report.matrices[0]
    assert matrix.tail == pytest.approx(expected, abs=1e-9)
    assert matrix.weighted_error == pytest.approx(expected, abs=1e-6)
    parts = plain.encoder.embeddings
    missed = (
        table - (parts.word_embeddings.weight @ parts.word_projection.weight.T).detach().double().numpy()
    ) * weights
    assert matrix.weighted_error < np.linalg.norm(missed) / np.linalg.norm(table * weights)


def test_outputs_of_maps_are_approximated_better_with_activations():
    rows, model = tiny_rows(50), tiny_model()
    linear_choice = {"rank": 4, "maps": ["feed_forward.1.output"]}
    plain, _ = apply(model, FactorizeConfig(linear=linear_choice))
    weighted, report = apply(
        model, FactorizeConfig(linear={**linear_choice, "weighting": "activations", "sample": 50}), rows
    )
    seen: list[torch.Tensor] = []
    hook = model.encoder.feed_forward[1].output.register_forward_pre_hook(lambda _, given: seen.append(given[0][0]))
    with torch.inference_mode():
        for row in rows.input_ids:
            model(torch.from_numpy(row.astype(np.int64))[None])
    hook.remove()
    inputs = torch.cat(seen).double().numpy()
    matrix = model.encoder.feed_forward[1].output.weight.detach().double().numpy()

    def error_of_outputs(made):
        low_rank = made.encoder.feed_forward[1].output
        product = (low_rank.up.weight @ low_rank.down.weight).detach().double().numpy()
        return np.linalg.norm(inputs @ (matrix - product).T) / np.linalg.norm(inputs @ matrix.T)

    values = np.linalg.svd(matrix @ inputs.T, compute_uv=False)
    best = np.sqrt((values[4:] ** 2).sum() / (values**2).sum())
    assert error_of_outputs(weighted) == pytest.approx(best, rel=0.02)  # the ridge keeps it from being exact
    assert report.matrices[0].weighted_error == pytest.approx(best, rel=0.05)
    assert error_of_outputs(weighted) < 0.9 * error_of_outputs(plain)
    assert report.relative_error("feed_forward") > apply(model, FactorizeConfig(linear=linear_choice))[
        1
    ].relative_error("feed_forward")


def test_a_weighting_without_rows_is_refused():
    with pytest.raises(UserError, match="train rows of a task, and there are none"):
        apply(tiny_model(), FactorizeConfig(embedding={"rank": 2, "weighting": "frequency"}))


def test_training_goes_on_after_factorisation():
    factorised, _ = apply(
        build(BertpressForMaskedLM, SHAPE), FactorizeConfig(embedding={"rank": 3}, linear={"rank": 2})
    )
    factorised.train()
    factorised(pieces(SHAPE), labels=pieces(SHAPE)).loss.backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in factorised.parameters())
