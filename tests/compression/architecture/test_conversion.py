"""Conversion: the same outputs as transformers' own models on the same weights, there and back."""

import pytest
import torch
import transformers

from compression.architecture.conversion import plain_family, to_bertpress, to_plain
from compression.architecture.shape import EncoderShape
from compression.errors import UserError

VOCABULARY, LENGTH = 40, 9
TASKS = ("Model", "ForPreTraining", "ForMaskedLM", "ForSequenceClassification", "ForQuestionAnswering")


def configuration(family: str, **fields):
    if family == "Bert":
        sizes = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 40}
    elif family == "DistilBert":
        sizes = {"dim": 24, "n_layers": 3, "n_heads": 4, "hidden_dim": 40, "seq_classif_dropout": 0.3}
    else:
        sizes = {"hidden_size": 24, "embedding_size": 8, "num_hidden_layers": 4, "num_hidden_groups": 2,
                 "num_attention_heads": 4, "intermediate_size": 40}  # fmt: skip
    made = getattr(transformers, f"{family}Config")
    return made(vocab_size=VOCABULARY, max_position_embeddings=16, **(sizes | fields))


def model(family: str, task: str, **fields):
    torch.manual_seed(0)
    labels = {"num_labels": 2 if task in ("ForQuestionAnswering", "ForPreTraining") else 3}
    made = getattr(transformers, f"{family}{task}")(configuration(family, **(labels | fields)))
    with torch.no_grad():  # biases and LayerNorms start at 0 and 1, which would hide an exchange
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made.eval()


@pytest.fixture(scope="module")
def batch():
    torch.manual_seed(1)
    mask = torch.ones(3, LENGTH, dtype=torch.long)
    mask[1, 5:] = mask[2, 2:] = 0
    return {"input_ids": torch.randint(1, VOCABULARY, (3, LENGTH)), "attention_mask": mask}


def outputs(found) -> list[torch.Tensor]:
    names = ("logits", "prediction_logits", "sentence_logits", "seq_relationship_logits", "sop_logits", "start_logits",
             "end_logits", "last_hidden_state", "pooler_output")  # fmt: skip
    tensors = []
    for name in names:
        tensor = getattr(found, name, None)
        if tensor is not None:
            tensors += [*tensor.unbind(-1)] if name == "logits" and tensor.shape[-1] == 2 else [tensor]
    return tensors


CASES = [
    (family, task)
    for family in ("Bert", "DistilBert", "Albert")
    for task in TASKS
    if not (family == "DistilBert" and task == "ForPreTraining")
]


@pytest.mark.parametrize(("family", "task"), CASES)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_outputs_equal_those_of_transformers(family, task, attention, batch):
    plain = model(family, task)
    if family != "DistilBert":
        batch = batch | {"token_type_ids": torch.tensor([[0] * 4 + [1] * 5] * 3)}
    plain.set_attn_implementation(attention)
    ours = to_bertpress(plain)
    ours.set_attn_implementation(attention)
    with torch.inference_mode():
        expected, found = outputs(plain(**batch)), outputs(ours(**batch))
    assert len(expected) == len(found) > 0
    for one, other in zip(expected, found, strict=True):
        # Rows of padding are compared too: both attend from them to real word pieces alone.
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("family", "task"), CASES)
def test_there_and_back_gives_the_same_weights_and_settings(family, task):
    plain = model(family, task)
    back = to_plain(to_bertpress(plain))
    assert type(back) is type(plain)
    settings, expected = back.config.to_diff_dict(), plain.config.to_diff_dict()
    for name in {"seq_classif_dropout", "qa_dropout"} if task != "ForSequenceClassification" else {"qa_dropout"}:
        settings.pop(name, None), expected.pop(name, None)  # of a head that this model has not
    assert settings == expected
    weights = back.state_dict()
    assert weights.keys() == plain.state_dict().keys()
    for name, tensor in plain.state_dict().items():
        assert torch.equal(weights[name], tensor), name


def test_training_gives_the_same_gradients(batch):
    plain = model(
        "Bert", "ForSequenceClassification", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    ).train()
    ours = to_bertpress(plain).train()
    labels = torch.tensor([0, 2, 1])
    expected, found = plain(**batch, labels=labels), ours(**batch, labels=labels)
    torch.testing.assert_close(expected.loss, found.loss)
    expected.loss.backward()
    found.loss.backward()
    pairs = [
        (plain.bert.encoder.layer[1].attention.self.key.weight, ours.encoder.attention[1].key.weight),
        (plain.bert.encoder.layer[2].output.LayerNorm.bias, ours.encoder.feed_forward[2].LayerNorm.bias),
        (plain.bert.embeddings.word_embeddings.weight, ours.encoder.embeddings.word_embeddings.weight),
    ]
    for one, other in pairs:
        torch.testing.assert_close(one.grad, other.grad, atol=1e-6, rtol=1e-4)


def test_raw_scores_probabilities_and_hidden_states_are_those_of_transformers(batch):
    plain = model("Bert", "Model")
    plain.set_attn_implementation("eager")
    ours = to_bertpress(plain)
    with torch.no_grad():
        expected = plain(**batch, output_attentions=True, output_hidden_states=True)
        found = ours(**batch, output_attentions=[2, 0], output_attention_scores=[2], output_hidden_states=[0, 3],
                     output_attention_values=[1])  # fmt: skip
    assert len(found.attention_scores) == len(found.attention_values) == 1
    torch.testing.assert_close(found.attentions[0], expected.attentions[2], atol=1e-6, rtol=0)
    torch.testing.assert_close(found.attentions[1], expected.attentions[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(found.hidden_states[0], expected.hidden_states[0])
    torch.testing.assert_close(found.hidden_states[1], expected.hidden_states[3], atol=1e-5, rtol=0)
    block, states = plain.encoder.layer[2].attention.self, expected.hidden_states[2]
    query, key = (part(states.detach()).view(3, LENGTH, 4, 6).transpose(1, 2) for part in (block.query, block.key))
    torch.testing.assert_close(
        found.attention_scores[0], (query @ key.transpose(2, 3) / 6**0.5).detach(), atol=1e-5, rtol=1e-5
    )
    values = plain.encoder.layer[1].attention.self.value(expected.hidden_states[1])
    torch.testing.assert_close(
        found.attention_values[0], values.detach().view(3, LENGTH, 4, 6).transpose(1, 2), atol=1e-5, rtol=0
    )


def test_capturing_changes_nothing_else(batch):
    ours = to_bertpress(model("Bert", "Model"))
    with torch.inference_mode():
        plain, captured = ours(**batch), ours(**batch, output_attention_scores=True)
    torch.testing.assert_close(plain.last_hidden_state, captured.last_hidden_state, atol=1e-5, rtol=0)


def test_other_architectures_are_refused():
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    roberta = transformers.RobertaModel(transformers.RobertaConfig(vocab_size=9, **sizes))
    with pytest.raises(UserError, match=r"a RobertaModel cannot become .* allowed: Bert, DistilBert, Albert"):
        to_bertpress(roberta)
    with pytest.raises(UserError, match="a question-answering model has 2 outputs, not 3"):
        to_bertpress(model("Bert", "ForQuestionAnswering", num_labels=3))
    inner = model("Albert", "Model", inner_group_num=2)
    with pytest.raises(UserError, match="inner_group_num 2"):
        to_bertpress(inner)


REGULAR = EncoderShape.regular(layers=4, hidden_size=16, heads=2, intermediate_size=32)
IRREGULAR = {
    "different numbers of heads": REGULAR.edited(attention_heads=(2, 1, 2, 2)),
    "different feed-forward widths": REGULAR.edited(intermediate_sizes=(32, 32, 0, 32)),
    "do not make up 16": REGULAR.edited(head_size=4),
    "factorised linear maps": REGULAR.edited(ranks={"attention.0.query": 2}),
    "factorised before positions": REGULAR.edited(embedding_size=4, embedding_projection="word"),
    "shared differently": REGULAR.edited(attention_blocks=(0,) * 4, attention_heads=(2,)),
    "not shared in groups": REGULAR.edited(
        attention_blocks=(0, 1, 0, 1),
        attention_heads=(2, 2),
        feed_forward_blocks=(0, 1, 0, 1),
        intermediate_sizes=(32, 32),
    ),
    "ALBERT projects": REGULAR.edited(
        attention_blocks=(0,) * 4, attention_heads=(2,), feed_forward_blocks=(0,) * 4, intermediate_sizes=(32,)
    ),
}


@pytest.mark.parametrize("reason", IRREGULAR)
def test_an_irregular_shape_has_no_plain_form(reason):
    with pytest.raises(UserError, match=reason):
        plain_family(IRREGULAR[reason])
