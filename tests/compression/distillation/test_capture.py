"""Captured tensors against transformers' own eager models, and against its query, key and value projections."""

import pytest
import torch
from tiny_models import tiny_classifier, tiny_config
from transformers import (
    BertForMaskedLM,
    BertModel,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from compression.architecture.conversion import to_bertpress
from compression.distillation.capture import capture, frozen_teacher
from compression.distillation.comparison import Wanted
from compression.errors import UserError

BATCH = {
    "input_ids": torch.tensor([[2, 5, 11, 12, 3], [2, 8, 3, 0, 0]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]),
    "token_type_ids": torch.tensor([[0, 0, 0, 1, 1], [0, 0, 1, 0, 0]]),
    "labels": torch.tensor([0, 1]),
}
EVERYTHING = Wanted((0, 1, 2, 3), (3,), (0, 1, 2), (0, 1, 2))


def distilbert(**changes):
    torch.manual_seed(1)
    sizes = {"vocab_size": 20, "dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 32, "max_position_embeddings": 16}
    return DistilBertForSequenceClassification(DistilBertConfig(**{**sizes, **changes})).eval()


def projections_of(model, names):
    """What the named modules give, by head: [layer][b, h, l, d]."""
    kept = {name: [] for name in names}

    def keep(name):
        def hook(module, inputs, output):
            kept[name].append(output.unflatten(-1, (2, -1)).transpose(1, 2))

        return hook

    for name, module in model.named_modules():
        for wanted in names:
            if name.endswith(f".{wanted}"):
                module.register_forward_hook(keep(wanted))
    return kept


@pytest.mark.parametrize(
    ("build", "names"),
    [
        (tiny_classifier, ("self.query", "self.key", "self.value")),
        (distilbert, ("attention.q_lin", "attention.k_lin", "attention.v_lin")),
    ],
)
def test_states_scores_and_values_are_those_of_transformers(build, names):
    model = build()
    model.set_attn_implementation("eager")
    kept = projections_of(model, names)
    given = {name: BATCH[name] for name in ("input_ids", "attention_mask")}
    if build is tiny_classifier:
        given["token_type_ids"] = BATCH["token_type_ids"]
    with torch.no_grad():
        plain = model(**given, output_hidden_states=True, output_attentions=True)
        taken = capture(to_bertpress(model), BATCH, EVERYTHING)
    real = BATCH["attention_mask"].bool()
    for own, theirs in zip(taken.hidden_states, plain.hidden_states, strict=True):
        torch.testing.assert_close(own[real], theirs[real], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(taken.first_states[0], plain.hidden_states[3][:, 0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(taken.logits, plain.logits, atol=1e-5, rtol=1e-4)
    query, key, value = (kept[name] for name in names)
    assert len(plain.attentions) == len(taken.scores) == len(taken.values) == 3
    for layer in range(3):
        scores = query[layer] @ key[layer].transpose(-1, -2) / 8**0.5
        torch.testing.assert_close(taken.scores[layer], scores, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(taken.values[layer], value[layer], atol=1e-5, rtol=1e-4)
        masked = taken.scores[layer].masked_fill(~real[:, None, None, :], -torch.inf)
        torch.testing.assert_close(masked.softmax(-1), plain.attentions[layer], atol=1e-5, rtol=1e-4)


def test_only_what_is_wanted_is_taken_in_its_order():
    model = to_bertpress(tiny_classifier())
    with torch.no_grad():
        whole = capture(model, BATCH, EVERYTHING)
        some = capture(model, BATCH, Wanted((3, 1), (0, 3), (2, 0), (1,)))
        nothing = capture(model, BATCH, Wanted())
    assert torch.equal(some.hidden_states[0], whole.hidden_states[3])
    assert torch.equal(some.hidden_states[1], whole.hidden_states[1])
    assert torch.equal(some.first_states[0], whole.hidden_states[0][:, 0])
    assert torch.equal(some.scores[0], whole.scores[2])
    assert torch.equal(some.scores[1], whole.scores[0])
    assert torch.equal(some.values[0], whole.values[1])
    assert (nothing.hidden_states, nothing.first_states, nothing.scores, nothing.values) == ((), (), (), ())
    torch.testing.assert_close(nothing.logits, whole.logits)


def test_scores_come_out_whatever_the_attention_implementation():
    """Under SDPA transformers gives an empty tuple of attentions, which a zipped loss would take for 0."""
    taken = []
    for implementation in ("eager", "sdpa"):
        model = to_bertpress(tiny_classifier())
        model.set_attn_implementation(implementation)
        with torch.no_grad():
            taken.append(capture(model, BATCH, Wanted(scores=(0, 2))))
    assert len(taken[1].scores) == 2
    torch.testing.assert_close(taken[0].scores, taken[1].scores, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["hidden_states", "scores", "values"])
def test_a_model_that_gives_less_than_it_was_asked_for_is_found_out(kind):
    model = to_bertpress(tiny_classifier())
    forward = model.forward
    lost = {"hidden_states": "hidden_states", "scores": "attention_scores", "values": "attention_values"}[kind]

    def losing(**given):
        output = forward(**given)
        output[lost] = output[lost][1:]
        return output

    model.forward = losing
    with pytest.raises(RuntimeError, match=f"1 {kind} where 2 were asked for"):
        capture(model, BATCH, Wanted(**{kind: (0, 1)}))


def test_a_teacher_keeps_its_token_types_beside_a_student_without_them():
    teacher, student = tiny_classifier(), distilbert()
    without = {name: tensor for name, tensor in BATCH.items() if name != "token_type_ids"}
    with torch.no_grad():
        taught, blind = (capture(to_bertpress(teacher), batch, Wanted((3,))) for batch in (BATCH, without))
        own, same = (capture(to_bertpress(student), batch, Wanted((3,))) for batch in (BATCH, without))
    assert not torch.allclose(taught.hidden_states[0], blind.hidden_states[0])
    assert torch.equal(own.hidden_states[0], same.hidden_states[0])


def test_the_teacher_is_a_frozen_copy_in_evaluation_mode():
    """TinyBERT's released code leaves the teacher's dropout on."""
    for teacher in (tiny_classifier(hidden_dropout_prob=0.5), to_bertpress(tiny_classifier(hidden_dropout_prob=0.5))):
        teacher.train()
        before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
        frozen = frozen_teacher(teacher, torch.bfloat16, "cpu")
        first, second = (capture(frozen, BATCH, EVERYTHING) for _ in range(2))
        assert torch.equal(first.hidden_states[3], second.hidden_states[3])
        assert not any(state.requires_grad for state in (*first.hidden_states, *first.scores, *first.values))
        assert first.scores[0].dtype == torch.bfloat16
        assert teacher.training
        assert all(torch.equal(before[name], tensor) for name, tensor in teacher.state_dict().items())
        assert all(parameter.requires_grad for parameter in teacher.parameters())


def test_bf16_teachers_are_near_fp32_ones():
    exact, rounded = (
        capture(frozen_teacher(tiny_classifier(), dtype, "cpu"), BATCH, EVERYTHING)
        for dtype in (torch.float32, torch.bfloat16)
    )
    for own, theirs in zip(exact.hidden_states + exact.scores, rounded.hidden_states + rounded.scores, strict=True):
        torch.testing.assert_close(own, theirs.float(), atol=0.05, rtol=0.05)


def test_encoders_with_another_head_or_none_are_captured_from():
    for build in (BertModel, BertForMaskedLM):
        model = to_bertpress(build(tiny_config()).eval())
        assert capture(model, BATCH, Wanted((1,), scores=(1,))).scores[0].shape == (2, 2, 5, 5)


def test_another_architecture_is_refused():
    sizes = {"vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    with pytest.raises(UserError, match="cannot become an encoder of any shape"):
        frozen_teacher(RobertaForSequenceClassification(RobertaConfig(**sizes)), torch.float32, "cpu")
