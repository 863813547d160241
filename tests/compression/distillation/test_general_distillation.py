"""General distillation on a tiny corpus: each loss against its definition, and what becomes of the student."""

import copy
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import sentences, tiny_config, tiny_tokenizer
from torch.nn import functional
from transformers import BertForMaskedLM, BertModel

from compression.architecture.config import StudentConfig
from compression.architecture.conversion import to_bertpress
from compression.architecture.student import take_layers
from compression.control import Control
from compression.data.corpus import Corpus
from compression.data.corpus_config import CorpusConfig
from compression.distillation import general
from compression.distillation.general_config import GeneralDistillConfig
from compression.errors import CheckpointError, Interrupted, UserError
from compression.pretraining.rows import MaskedRows
from compression.runtime import Runtime

TRIPLE = {"soft": 5, "masked_lm": 2, "cosine": 1}
FAST = {"epochs": 3, "batch_size": 8, "max_length": 16, "learning_rate": 1e-2, "masking": {"probability": 0.3}}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "texts.txt").write_text("\n".join(sentences(80, 1)[0]))
    return Corpus(CorpusConfig(files=["texts.txt"], validation_fraction=0.1), (folder,), None)


def masked_lm(seed=0, **changes):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return BertForMaskedLM(tiny_config(**{**NO_DROPOUT, **changes})).eval()


def teacher(**changes):
    """A teacher with opinions: one fresh from the seed finds every word piece equally likely."""
    model = masked_lm(9, **changes)
    with torch.no_grad():
        model.cls.predictions.transform.LayerNorm.weight.mul_(20)
    return model


def distil(folder, corpus, *, own=None, taught=None, control=None, runtime=None, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    taught = taught or teacher()
    own = own or take_layers(taught, StudentConfig(layers=(0, 2)), seed=0)
    config = GeneralDistillConfig(
        corpus=corpus.config, **{**FAST, "objectives": TRIPLE, "layer_mapping": "last", **changes}
    )
    result = general.apply(
        own,
        taught,
        tiny_tokenizer(),
        corpus,
        config,
        seed=0,
        runtime=runtime or Runtime(),
        work=folder,
        control=control or Control(),
        history=folder / "history.jsonl",
    )
    return own, result


def records(folder):
    lines = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line]


def weights(model):
    return {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}


def batch_of(lengths, seed):
    """Rows as `MaskedRows` makes them, with random masks; the second of three micro-batches of a step."""
    random = np.random.default_rng(seed)
    width = max(lengths)
    mask = np.arange(width) < np.array(lengths)[:, None]
    tokens = np.where(mask, random.integers(5, 17, mask.shape), 0)
    chosen = mask & (random.random(mask.shape) < 0.5)
    chosen[0, 0] = True
    return {
        "input_ids": torch.from_numpy(np.where(chosen, 4, tokens)),
        "attention_mask": torch.from_numpy(mask.astype(np.int64)),
        "positions": torch.from_numpy(np.flatnonzero(chosen.ravel())),
        "targets": torch.from_numpy(tokens[chosen]),
        "targets_a_row": torch.tensor(2.5),
    }


def pair(**changes):
    taught = teacher()
    own = masked_lm(5, num_hidden_layers=2)
    given = {"objectives": TRIPLE, "layer_mapping": "last", "corpus": "a.txt", **changes}
    made = general._Pair.prepare(own, taught, GeneralDistillConfig(**given), seed=0, runtime=Runtime())
    made.module.eval()
    return made, own, taught


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=3), st.integers(0, 1000), st.booleans(), st.booleans())
def test_the_triple_loss_is_that_of_its_parts(lengths, seed, everywhere, released):
    positions = "all" if everywhere else "masked"
    made, own, taught = pair(temperature=3, soft_positions=positions, reference_code=released)
    batch = batch_of(lengths, seed)
    with torch.no_grad():
        total, parts = made.loss(made.module, batch)
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        outputs = [model(**inputs, output_hidden_states=True) for model in (own, taught)]
    rows, targets = len(lengths), 2.5 * len(lengths)
    student, teacher = (output.logits.double() for output in outputs)
    divergence = 9 * (
        teacher.div(3).softmax(-1) * (teacher.div(3).log_softmax(-1) - student.div(3).log_softmax(-1))
    ).sum(-1)
    real = batch["attention_mask"].bool()
    if everywhere and released:
        soft = divergence[real].mean().item()
    elif everywhere:
        soft = np.mean([divergence[row, :length].mean().item() for row, length in enumerate(lengths)])
    else:
        soft = divergence.flatten()[batch["positions"]].sum().item() / targets
    flat = student.flatten(0, 1)[batch["positions"]]
    hard = functional.cross_entropy(flat, batch["targets"], reduction="sum").item() / targets
    states = [output.hidden_states[-1] for output in outputs]
    angles = 1 - functional.cosine_similarity(*states, dim=-1)
    if released:
        cosine = angles[real].mean().item()
    else:
        cosine = np.mean([angles[row, :length].mean().item() for row, length in enumerate(lengths)])
    assert len(batch["input_ids"]) == rows
    expected = {"soft": soft, "masked_lm": hard, "cosine": cosine}
    assert {name: value.item() for name, value in parts.items()} == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert total.item() == pytest.approx(5 * soft + 2 * hard + cosine, rel=1e-4)


def test_all_three_losses_fall_and_the_held_out_ones_too(tmp_path, corpus):
    own = masked_lm(5, num_hidden_layers=2)
    _, result = distil(tmp_path, corpus, own=own, epochs=6)
    lines = records(tmp_path)
    for name in TRIPLE:
        assert lines[-1][name] < lines[0][name]
    assert set(result.validation) == {"loss", *TRIPLE}
    assert result.validation["loss"] == pytest.approx(
        5 * result.validation["soft"] + 2 * result.validation["masked_lm"] + result.validation["cosine"], rel=1e-5
    )
    assert result.validation["loss"] < lines[0]["loss"]
    assert result.corpus["sequences"] > 10


def test_the_teacher_sees_the_masks_and_stays_as_it_was(tmp_path, corpus, monkeypatch):
    taught = teacher(hidden_dropout_prob=0.5).train()
    before = weights(taught)
    seen = []
    capture = general.capture

    def watching(model, batch, *rest):
        seen.append((model.training, batch["input_ids"]))
        return capture(model, batch, *rest)

    monkeypatch.setattr(general, "capture", watching)
    distil(tmp_path, corpus, taught=taught, epochs=1)
    assert not any(training for training, _ in seen)
    assert any((pieces == 4).any() for _, pieces in seen)
    assert taught.training
    assert weights(taught) == before


@pytest.mark.parametrize(
    ("objectives", "mapping", "student"),
    [
        ({"embedding": 1, "hidden": 1, "attention": 1}, "uniform", {"hidden_size": 8}),  # TinyBERT
        ({"attention_distribution": 1, "value_relation": 1}, "last", {"hidden_size": 8}),  # MiniLM
    ],
)
def test_encoders_without_heads_learn_from_layers(tmp_path, corpus, objectives, mapping, student):
    torch.manual_seed(3)
    taught = BertModel(tiny_config(**NO_DROPOUT, num_hidden_layers=4)).eval()
    own = to_bertpress(BertModel(tiny_config(**NO_DROPOUT, num_hidden_layers=2, **student)).eval())
    _, result = distil(tmp_path, corpus, own=own, taught=taught, objectives=objectives, layer_mapping=mapping, epochs=5)
    lines = records(tmp_path)
    assert lines[-1]["loss"] < 0.9 * lines[0]["loss"]
    assert set(result.validation) == {"loss", *objectives}


def test_a_student_without_token_types_learns_from_a_teacher_with_them(tmp_path, corpus):
    taught = teacher()
    own = take_layers(taught, StudentConfig(layers=(0, 2), token_types=False), seed=0)
    _, result = distil(tmp_path, corpus, own=own, taught=taught)
    assert own.config.type_vocab_size == 0
    assert result.validation["loss"] < records(tmp_path)[0]["loss"]


def test_plain_students_are_given_their_weights_back(tmp_path, corpus):
    taught = teacher()
    own = take_layers(taught, StudentConfig(layers=(0, 2)), seed=0)
    ours = to_bertpress(copy.deepcopy(own))
    distil(tmp_path / "plain", corpus, own=own, taught=taught)
    distil(tmp_path / "ours", corpus, own=ours, taught=taught)
    assert own.cls.predictions.decoder.weight is own.bert.embeddings.word_embeddings.weight
    pieces = torch.tensor([[2, 5, 12, 3]])
    with torch.no_grad():
        torch.testing.assert_close(own(pieces).logits, ours(pieces).logits, atol=1e-4, rtol=1e-3)


def test_micro_batches_train_like_whole_batches(tmp_path, corpus):
    for positions in ("all", "masked"):
        whole, _ = distil(tmp_path / f"a-{positions}", corpus, soft_positions=positions, epochs=1)
        parts, _ = distil(tmp_path / f"b-{positions}", corpus, soft_positions=positions, epochs=1, accumulation_steps=4)
        first = [records(tmp_path / f"{which}-{positions}")[0] for which in "ab"]
        for name in TRIPLE:
            assert first[0][name] == pytest.approx(first[1][name], rel=1e-3)
        for name, tensor in whole.state_dict().items():
            torch.testing.assert_close(tensor, parts.state_dict()[name], atol=5e-3, rtol=0)


def test_a_stop_leaves_no_trace(tmp_path, corpus):
    undisturbed, _ = distil(tmp_path / "a", corpus)
    looks = iter(range(1000))
    with pytest.raises(Interrupted):
        distil(tmp_path / "b", corpus, control=Control(should_stop=lambda: next(looks) == 12))
    resumed, _ = distil(tmp_path / "b", corpus)
    assert weights(resumed) == weights(undisturbed)
    assert (tmp_path / "a" / "history.jsonl").read_bytes() == (tmp_path / "b" / "history.jsonl").read_bytes()


def test_bf16_losses_are_near_fp32_ones(tmp_path, corpus):
    distil(tmp_path / "exact", corpus, epochs=1, learning_rate=1e-4)
    distil(tmp_path / "rounded", corpus, epochs=1, learning_rate=1e-4, runtime=Runtime(precision="bf16"))
    for name, tolerance in (("soft", 0.1), ("masked_lm", 0.02), ("cosine", 0.1)):
        exact, rounded = (records(tmp_path / which)[0][name] for which in ("exact", "rounded"))
        assert rounded == pytest.approx(exact, rel=tolerance, abs=2e-3)


def test_masks_can_be_left_out_of_what_is_seen(corpus, tmp_path, monkeypatch):
    seen = []
    tensors = MaskedRows.tensors

    def watching(self, step, parts, wanted):
        made = tensors(self, step, parts, wanted)
        seen.extend(batch["input_ids"] for batch in made)
        return made

    monkeypatch.setattr(MaskedRows, "tensors", watching)
    distil(tmp_path, corpus, objectives={"hidden": 1}, masking={"mask_share": 0, "random_share": 0}, epochs=1)
    assert not any((pieces == 4).any() for pieces in seen)


def test_vocabularies_must_agree(tmp_path, corpus):
    with pytest.raises(UserError, match="the student has 20 word pieces, the teacher 17"):
        distil(tmp_path, corpus, own=masked_lm(5, vocab_size=20))


def test_sequences_must_fit_both_models(tmp_path, corpus):
    with pytest.raises(CheckpointError, match="set it to at most 12"):
        distil(tmp_path, corpus, own=masked_lm(5, max_position_embeddings=12))


def test_recipes():
    made = GeneralDistillConfig(corpus="a.txt", recipe="distilbert", learning_rate=1e-3, objectives={"cosine": 0})
    assert (made.objectives.soft, made.objectives.masked_lm, made.objectives.cosine) == (5, 2, 0)
    assert (made.learning_rate, made.adam_beta2, made.masking.choice) == (1e-3, 0.98, "frequency_smoothed")
    assert GeneralDistillConfig.model_validate(made.model_dump(mode="json")) == made
    tinybert = GeneralDistillConfig(corpus="a.txt", recipe="tinybert")
    assert tinybert.objectives.chosen() == ("embedding", "hidden", "attention")
    assert not tinybert.objectives.predicts
    minilm = GeneralDistillConfig(corpus="a.txt", recipe="minilm")
    assert (minilm.layer_mapping, minilm.steps) == ("last", 400_000)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "nothing is compared"),
        ({"objectives": {"masked_lm": 1}}, "use the `pretrain` stage"),
        ({"recipe": "distillbert"}, "did you mean 'distilbert'"),
        ({"recipe": "tinybert", "objectives": {"embedding": 0, "hidden": 0, "attention": 0}}, "nothing is compared"),
    ],
)
def test_contradictions_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        GeneralDistillConfig(corpus="a.txt", **fields)
