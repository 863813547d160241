"""The encoder of any shape: saved and loaded bit for bit, counted, trained, captured from, exported, refused."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from encoder_shapes import POSITIONS, VOCABULARY, encoder_shapes
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
)

from compression.architecture.checkpoint import load_classifier
from compression.architecture.conversion import config_of, shape_of_model
from compression.architecture.counts import multiply_accumulates, parameters_by_part
from compression.architecture.editing import load_editable, rebuilt
from compression.architecture.encoder.configuration_bertpress import BertpressConfig
from compression.architecture.encoder.modeling_bertpress import (
    BertpressForMaskedLM,
    BertpressForQuestionAnswering,
    BertpressForSequenceClassification,
    BertpressModel,
)
from compression.architecture.portable import add_code
from compression.architecture.shape import EncoderShape
from compression.errors import CheckpointError, UserError

CLASSES = {
    BertpressModel: (AutoModel, "none"),
    BertpressForMaskedLM: (AutoModelForMaskedLM, "masked_lm"),
    BertpressForSequenceClassification: (AutoModelForSequenceClassification, "classifier"),
    BertpressForQuestionAnswering: (AutoModelForQuestionAnswering, "question_answering"),
}
SHARED = EncoderShape(
    vocab_size=VOCABULARY, max_position_embeddings=POSITIONS, hidden_size=8, head_size=2, attention_heads=(3, 0),
    intermediate_sizes=(5,), attention_blocks=(0, 1, 0), feed_forward_blocks=(0, 0, 0), embedding_size=4,
    embedding_projection="all", ranks={"attention.0.value": 2},
)  # fmt: skip


def build(made, shape, **fields):
    torch.manual_seed(0)
    model = made(config_of(shape, **fields))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


def batch(types: int = 2):
    generator = torch.Generator().manual_seed(1)
    mask = torch.ones(2, POSITIONS, dtype=torch.long)
    mask[1, 3:] = 0
    inputs = {"input_ids": torch.randint(0, VOCABULARY, (2, POSITIONS), generator=generator), "attention_mask": mask}
    return inputs | ({"token_type_ids": torch.tensor([[0] * 4 + [1 % types] * 4] * 2)} if types else {})


def same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


@settings(max_examples=25, deadline=None)
@given(shape=encoder_shapes(), made=st.sampled_from(list(CLASSES)))
def test_any_shape_survives_saving_and_is_counted_exactly(tmp_path_factory, shape, made):
    folder = tmp_path_factory.mktemp("model")
    model = build(made, shape)
    model.save_pretrained(folder)
    auto, head = CLASSES[made]
    back = auto.from_pretrained(folder).eval()
    assert shape_of_model(back) == shape
    inputs = batch(shape.type_vocab_size)
    with torch.inference_mode():
        same(model(**inputs), back(**inputs))
        same(model(**inputs), load_editable(folder)(**inputs))
    pooler = made in (BertpressModel, BertpressForSequenceClassification)
    counted = sum(parameters_by_part(shape, pooler=pooler, head=head).values())
    assert counted == sum(parameter.numel() for parameter in model.parameters())
    with safe_open(folder / "model.safetensors", "pt") as file:
        stored = sum(int(np.prod(file.get_slice(name).get_shape())) for name in file.keys())  # noqa: SIM118
    assert stored == counted, "shared weights are stored once"


@settings(max_examples=25, deadline=None)
@given(shape=encoder_shapes())
def test_any_shape_gives_outputs_and_captures_of_its_shape(shape):
    model = build(BertpressModel, shape)
    inputs = batch(shape.type_vocab_size)
    with torch.inference_mode():
        found = model(**inputs, output_hidden_states=True, output_attentions=True, output_attention_scores=True,
                      output_attention_values=True)  # fmt: skip
        plain = model(**inputs)
    torch.testing.assert_close(plain.last_hidden_state, found.last_hidden_state, atol=1e-5, rtol=1e-5)
    assert [tuple(state.shape) for state in found.hidden_states] == [(2, POSITIONS, shape.hidden_size)] * (
        shape.layers + 1
    )
    heads = [shape.attention_heads[block] for block in shape.attention_blocks]
    for captured in (found.attentions, found.attention_scores):
        assert [tuple(part.shape) for part in captured] == [(2, count, POSITIONS, POSITIONS) for count in heads]
    for probabilities in found.attentions:
        torch.testing.assert_close(probabilities.sum(-1), torch.ones(probabilities.shape[:-1]), atol=1e-5, rtol=0)
        assert not probabilities[1, :, :, 3:].any(), "nothing attends to padding"
    assert [tuple(part.shape) for part in found.attention_values] == [(2, c, POSITIONS, shape.head_size) for c in heads]


def test_multiply_accumulates_are_those_of_torchs_own_count():
    from torch.utils.flop_counter import FlopCounterMode

    for shape in (SHARED, EncoderShape.regular(layers=2, hidden_size=8, heads=2, intermediate_size=12,
                                               vocab_size=VOCABULARY, max_position_embeddings=POSITIONS)):  # fmt: skip
        model = build(BertpressModel, shape)
        model.set_attn_implementation("eager")
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            model(batch()["input_ids"][:1])
        assert counter.get_total_flops() == 2 * multiply_accumulates(shape, POSITIONS)


def test_padding_changes_nothing_for_real_word_pieces():
    model = build(BertpressModel, SHARED)
    inputs = batch()
    short = {name: tensor[1:, :3] for name, tensor in inputs.items()}
    with torch.inference_mode():
        long, alone = model(**inputs).last_hidden_state[1:, :3], model(**short).last_hidden_state
    torch.testing.assert_close(long, alone, atol=1e-6, rtol=1e-5)


def test_a_shared_block_has_one_gradient_the_sum_over_its_uses():
    model = build(BertpressModel, SHARED)
    inputs = batch()
    model(**inputs).last_hidden_state.square().sum().backward()
    unshared = SHARED.edited(attention_heads=(3, 0, 3), attention_blocks=(0, 1, 2), ranks={"attention.0.value": 2, "attention.2.value": 2},
                             intermediate_sizes=(5, 5, 5), feed_forward_blocks=(0, 1, 2))  # fmt: skip
    weights = model.state_dict()
    for name in list(weights):
        if name.startswith("attention.0."):
            weights[name.replace("attention.0.", "attention.2.")] = weights[name]
        if name.startswith("feed_forward.0."):
            for block in (1, 2):
                weights[name.replace("feed_forward.0.", f"feed_forward.{block}.")] = weights[name]
    apart = rebuilt(model, unshared, weights)
    with torch.inference_mode():
        torch.testing.assert_close(apart(**inputs).last_hidden_state, model(**inputs).last_hidden_state)
    apart(**inputs).last_hidden_state.square().sum().backward()
    own = dict(apart.named_parameters())
    for name, parameter in model.named_parameters():
        if name.startswith("attention.0."):
            total = own[name].grad + own[name.replace(".0.", ".2.", 1)].grad
        elif name.startswith("feed_forward.0."):
            total = sum(own[name.replace(".0.", f".{block}.", 1)].grad for block in range(3))
        else:
            continue
        torch.testing.assert_close(parameter.grad, total, atol=1e-4, rtol=1e-4)


def test_training_goes_on_after_loading(tmp_path):
    model = build(BertpressForMaskedLM, SHARED, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).train()

    def steps(trained, count):
        optimizer = torch.optim.SGD(trained.parameters(), lr=0.05)
        for _ in range(count):
            optimizer.zero_grad()
            trained(**batch(), labels=batch()["input_ids"]).loss.backward()
            optimizer.step()

    steps(model, 2)
    model.save_pretrained(tmp_path)
    back = AutoModelForMaskedLM.from_pretrained(tmp_path).train()
    assert back.head.decoder.weight is back.encoder.embeddings.word_embeddings.weight
    steps(model, 2)
    steps(back, 2)
    same(model.state_dict(), back.state_dict())


def test_masked_lm_scores_at_chosen_positions_are_those_of_all_positions():
    model = build(BertpressForMaskedLM, SHARED.edited(embedding_projection="word"))
    positions = torch.tensor([1, 9, 4])
    with torch.inference_mode():
        every, some = model(**batch()).logits, model(**batch(), predict_positions=positions).logits
    torch.testing.assert_close(some, every.flatten(0, 1)[positions])
    # The two factors of the embedding are the two factors of the output map.
    embeddings = model.encoder.embeddings
    table = embeddings.word_projection(embeddings.word_embeddings.weight)
    with torch.inference_mode():
        hidden = model.encoder(**batch()).last_hidden_state
        transformed = model.head.LayerNorm(model.head.activation(model.head.dense(hidden)))
        torch.testing.assert_close(every, transformed @ table.T + model.head.decoder.bias, atol=1e-4, rtol=1e-4)


def test_sentence_head_gives_two_scores_and_adds_its_loss():
    model = build(BertpressForMaskedLM, SHARED, sentence_head=True)
    labels = torch.full((2, POSITIONS), -100)
    labels[0, 1] = 3
    with torch.inference_mode():
        words = model(**batch(), labels=labels).loss
        both = model(**batch(), labels=labels, sentence_labels=torch.tensor([0, 1]))
    assert both.sentence_logits.shape == (2, 2)
    expected = torch.nn.functional.cross_entropy(both.sentence_logits, torch.tensor([0, 1]))
    torch.testing.assert_close(both.loss, words + expected)


def test_question_answering_ignores_answers_beyond_the_text():
    model = build(BertpressForQuestionAnswering, SHARED)
    with torch.inference_mode():
        found = model(**batch(), start_positions=torch.tensor([2, 99]), end_positions=torch.tensor([3, 99]))
        expected = [
            torch.nn.functional.cross_entropy(found.logits[:1, :, side], torch.tensor([gold]))
            for side, gold in ((0, 2), (1, 3))
        ]
    torch.testing.assert_close(found.loss, sum(expected) / 2)


@pytest.mark.parametrize(
    ("problem", "labels", "expected"),
    [
        ("regression", torch.tensor([0.5, -1.0]), lambda logits, gold: ((logits[:, 0] - gold) ** 2).mean()),
        ("multi_label_classification", torch.tensor([[1, 0, 1], [0, 0, 1]]), lambda logits, gold: -(
            gold * torch.sigmoid(logits).log() + (1 - gold) * (1 - torch.sigmoid(logits)).log()).mean()),
        ("single_label_classification", torch.tensor([2, 0]), lambda logits, gold: -logits.log_softmax(-1)[[0, 1], gold].mean()),
    ],
)  # fmt: skip
def test_losses_of_the_classifier(problem, labels, expected):
    outputs = 1 if problem == "regression" else 3
    model = build(BertpressForSequenceClassification, SHARED, num_labels=outputs, problem_type=problem)
    with torch.inference_mode():
        found = model(**batch(), labels=labels)
        torch.testing.assert_close(found.loss, expected(found.logits, labels))


def test_layer_drop_leaves_out_layers_in_training_alone():
    model = build(BertpressModel, SHARED, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model.layer_drop = 0.5
    with torch.no_grad():
        expected = model(**batch()).last_hidden_state
        torch.testing.assert_close(model(**batch()).last_hidden_state, expected)
        model.train()
        captured = model(**batch(), output_hidden_states=[3]).hidden_states[0]
        torch.testing.assert_close(captured, expected, atol=1e-5, rtol=1e-5)
        torch.manual_seed(0)
        layers_run: list[None] = []
        model.feed_forward[0].register_forward_hook(lambda *_: layers_run.append(None))
        counts = []
        for _ in range(200):
            layers_run.clear()
            model(**batch())
            counts.append(len(layers_run))
    assert set(counts) == {0, 1, 2, 3}
    assert abs(np.mean(counts) - 1.5) < 0.2  # three standard deviations of a mean of 200


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"output_attention_scores": [3]}, "output_attention_scores names 3; allowed: 0 to 2"),
        ({"output_hidden_states": [-1]}, "output_hidden_states names -1; allowed: 0 to 3"),
    ],
)
def test_layers_that_do_not_exist_are_refused(asked, message):
    with pytest.raises(ValueError, match=message):
        build(BertpressModel, SHARED)(**batch(), **asked)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"attention_blocks": [0] * 12}, "must name each of the 12 blocks"),
        ({"attention_heads": [2, 2], "intermediate_sizes": [4]}, "attention_blocks names 2 layers"),
        ({"embedding_size": 3}, "needs an embedding_projection"),
        ({"embedding_projection": "some"}, "allowed: none, word, all"),
        ({"attention_heads": [-1], "intermediate_sizes": [4]}, "negative"),
        ({"ranks": {"attention.12.query": 3}}, "ranks names 'attention.12.query'"),
    ],
)
def test_contradicting_configurations_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        BertpressConfig(**fields)


def saved(folder, made=BertpressForSequenceClassification):
    build(made, SHARED).save_pretrained(folder)
    return folder


def test_truncated_and_foreign_folders_are_refused(tmp_path):
    folder = saved(tmp_path / "model")
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        load_editable(folder)
    weights.write_bytes(whole)
    declared = json.loads((folder / "config.json").read_text())
    for change, message in (
        ({"attention_heads": [2, 0]}, "has shape"),
        ({"attention_heads": [3, 1]}, "lacks encoder weights: encoder.attention.1"),
        ({"attention_blocks": [0, 0, 0], "attention_heads": [3], "ranks": {}}, "lacks encoder weights"),
        ({"attention_blocks": [0, 5, 0]}, "must name each"),
        ({"model_type": "gpt2"}, "a 'gpt2' model cannot be edited; allowed: bert, distilbert, albert, bertpress"),
        ({"architectures": ["BertpressForMaskedLM"]}, "no head that fits"),
    ):
        (folder / "config.json").write_text(json.dumps(declared | change))
        with pytest.raises(UserError, match=message):
            load_editable(folder)


def test_a_classifier_is_loaded_from_a_masked_lm_with_a_fresh_head(tmp_path):
    folder = saved(tmp_path, BertpressForMaskedLM)
    model = load_classifier(folder, labels=("no", "yes"), seed=3)
    assert torch.equal(
        model.encoder.embeddings.word_embeddings.weight, load_editable(folder).encoder.embeddings.word_embeddings.weight
    )


def test_rebuilding_with_other_weights_is_refused():
    model = build(BertpressModel, SHARED)
    weights = model.state_dict()
    with pytest.raises(UserError, match=r"do not fit the new shape: pooler\.dense\.bias"):
        rebuilt(model, SHARED, {name: tensor for name, tensor in weights.items() if name != "pooler.dense.bias"})
    with pytest.raises(UserError, match=r"do not fit the new shape: attention\.9"):
        rebuilt(model, SHARED, weights | {"attention.9.query.weight": torch.zeros(1)})


def test_a_portable_folder_loads_without_this_project(tmp_path):
    folder = saved(tmp_path / "model")
    add_code(folder)
    with torch.inference_mode():
        expected = load_editable(folder)(**batch()).logits
    program = (
        "import json, sys, torch\n"
        "from transformers import AutoModelForSequenceClassification\n"
        "assert not any(name.split('.')[0] in ('compression', 'tasks', 'flows') for name in sys.modules)\n"
        "model = AutoModelForSequenceClassification.from_pretrained(sys.argv[1], trust_remote_code=True).eval()\n"
        "batch = {name: torch.tensor(rows) for name, rows in json.loads(sys.argv[2]).items()}\n"
        "print(json.dumps(model(**batch).logits.tolist()))\n"
    )
    rows = json.dumps({name: tensor.tolist() for name, tensor in batch().items()})
    # -P and an empty working folder keep this project off the path; the cache of remote code is a folder of the test.
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, str(folder), rows], capture_output=True, text=True, check=False, cwd=tmp_path,
        env={"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1", "PATH": "", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    torch.testing.assert_close(torch.tensor(json.loads(done.stdout.splitlines()[-1])), expected)


def test_only_folders_of_ours_are_made_portable(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError, match="needs no code of ours"):
        add_code(tmp_path)
