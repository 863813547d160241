import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import WORDS, tiny_config, tiny_encoder_folder, tiny_tokenizer
from transformers import BertForMaskedLM

from compression.architecture.config import StudentConfig
from compression.architecture.masked_lm import MaskedLanguageModel, load_masked_lm
from compression.architecture.student import build_masked_lm_student
from compression.control import Control
from compression.data.corpus import Corpus
from compression.errors import CheckpointError, Interrupted, UserError
from compression.pretraining import pretrain
from compression.pretraining.config import PretrainConfig
from compression.pretraining.rows import MaskedRows
from compression.pretraining.vocabulary import Vocabulary
from compression.runtime import Runtime

# Every text repeats one word, so there is something to learn: a masked word is that of its neighbours.
ORDINARY = WORDS[5:]


@pytest.fixture
def text(tmp_path) -> Path:
    random = np.random.default_rng(0)
    lines = []
    for number in range(120):
        # The second word is a number of the text, so to speak: texts that are alike would be held out together.
        other, length = ORDINARY[number // 12], random.integers(4, 30)
        lines.append(" ".join([ORDINARY[number % 12], other, *[ORDINARY[number % 12]] * length]))
    (tmp_path / "words.txt").write_text("\n".join(lines))
    return tmp_path


def config(**changes) -> PretrainConfig:
    corpus = {"files": "words.txt", "validation_fraction": 0.15, **changes.pop("corpus", {})}
    given = {"epochs": 2, "batch_size": 16, "max_length": 16, "learning_rate": 1e-2, "dropout": 0.1, **changes}
    return PretrainConfig(corpus=corpus, **given)


def run(text, folder, settings, model=None, *, seed=0, control=None):
    folder.mkdir(exist_ok=True)
    model = model or load_masked_lm(tiny_encoder_folder(text / "encoder"), sentence_head=settings.has_pairs, seed=0)
    result = pretrain.apply(
        model,
        tiny_tokenizer(),
        Corpus(settings.corpus, (text,)),
        settings,
        seed=seed,
        runtime=Runtime(),
        work=folder,
        control=control or Control(),
        history=folder / "history.jsonl",
    )
    return model, result


def bits(model) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}


def test_the_model_learns(text):
    settings = config(epochs=12, dropout=0.0, corpus={"cross_documents": False})
    model, result = run(text, text / "work", settings)
    assert result.validation["loss"] < math.log(len(ORDINARY)) - 0.7, "better than knowing the words alone"
    assert result.validation["perplexity"] == pytest.approx(math.exp(result.validation["loss"]))
    assert result.validation["accuracy"] > 0.3
    assert result.training.best_score == pytest.approx(-result.validation["loss"], rel=1e-5)
    assert not model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    records = [json.loads(line) for line in (text / "work" / "history.jsonl").read_text().splitlines()]
    assert {"loss", "masked_lm"} <= set(records[0])
    assert result.corpus["tokens"] > 1000


@pytest.mark.parametrize("objective", ["masked_lm+sentence_order", "masked_lm+next_sentence"])
@pytest.mark.parametrize("student", [None, "albert-base"])
def test_sentence_objectives(text, objective, student, monkeypatch):
    from compression.architecture import presets

    small = presets.Preset(2, 16, 2, 32, "test", embedding_size=8, groups=1)
    monkeypatch.setitem(presets.PRESETS, "albert-base", small)
    settings = config(objective=objective, corpus={"cross_documents": False}, epochs=1)
    model = None
    if student:
        folder = tiny_encoder_folder(text / "encoder")
        model = build_masked_lm_student(StudentConfig(preset=student), folder, sentence_head=True, seed=0)
    before = bits(model) if model else None
    model, result = run(text, text / "work", settings, model)
    assert set(result.validation) == {"loss", "perplexity", "accuracy", "pair_loss", "pair_accuracy"}
    assert result.training.best_score == pytest.approx(
        -result.validation["loss"] - result.validation["pair_loss"], rel=1e-4
    )
    records = [json.loads(line) for line in (text / "work" / "history.jsonl").read_text().splitlines()]
    assert records[0]["loss"] == pytest.approx(records[0]["masked_lm"] + records[0]["sentence_pairs"], rel=1e-5)
    if before:
        after = bits(model)
        assert all(before[name] != after[name] for name in before), "everything is trained, pooler and classifier too"


def test_order_of_sentences_is_learned(text):
    """In these texts the good comes before the bad."""
    lines = [f"{'good ' * (n % 7 + 1)}\n{'bad ' * (n // 7 % 7 + 1)}{'so ' * (n // 49)}" for n in range(300)]
    (text / "words.txt").write_text("\n\n".join(lines))
    corpus = {"cross_documents": False, "documents": "blank_line", "validation_fraction": 0.2}
    settings = config(objective="masked_lm+sentence_order", corpus=corpus, epochs=16, dropout=0.0, max_length=20)
    _, result = run(text, text / "work", settings)
    assert result.validation["pair_accuracy"] > 0.8


def test_the_loss_is_that_of_transformers_over_the_whole_head(text):
    settings = config(epochs=1, corpus={"validation_fraction": 0})
    model, result = run(text, text / "work", settings)
    assert result.validation == {}
    assert result.training.best_score is None
    splits = pretrain.pack(Corpus(settings.corpus, (text,)), tiny_tokenizer(), text / "work" / "corpus", special_tokens=2, max_length=16, control=Control())  # fmt: skip
    vocabulary = Vocabulary.of(tiny_tokenizer())
    rows = MaskedRows(splits.train, vocabulary, settings.masking, "masked_lm", 0)
    [whole] = rows.tensors(3, [np.arange(10)], [0])
    parts = rows.tensors(3, [np.arange(4), np.arange(4, 10)], [0, 1])
    labels = torch.full_like(whole["input_ids"], -100)
    labels.view(-1)[whole["positions"]] = whole["targets"]
    inputs = {name: whole[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        expected = model(**inputs, labels=labels).loss
        measured = [pretrain.masked_lm_loss(MaskedLanguageModel(model), batch)[0] for batch in (whole, *parts)]
    assert measured[0] == pytest.approx(float(expected), rel=1e-5)
    assert 0.4 * measured[1] + 0.6 * measured[2] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("objective", ["masked_lm", "masked_lm+sentence_order"])
def test_a_stopped_training_goes_on_bit_for_bit(text, objective):
    settings = config(
        objective=objective, accumulation_steps=2, evaluations_per_epoch=2, corpus={"cross_documents": False}
    )
    undisturbed, expected = run(text, text / "undisturbed", settings)
    for looks in (1, 2, 9, 14):
        folder = text / f"stopped-{objective}-{looks}"
        counter = iter(range(1000))
        with pytest.raises(Interrupted):
            run(text, folder, settings, control=Control(should_stop=lambda c=counter, n=looks: next(c) == n))
        resumed, result = run(text, folder, settings)
        assert bits(resumed) == bits(undisturbed)
        assert (folder / "history.jsonl").read_bytes() == (text / "undisturbed" / "history.jsonl").read_bytes()
        assert result.validation == expected.validation


def test_accumulation_has_no_influence(text):
    outcomes = []
    for parts in (1, 3, 16):
        settings = config(accumulation_steps=parts, dropout=0.0, epochs=1)
        outcomes.append(run(text, text / f"parts-{parts}", settings)[0].state_dict())
    for name, tensor in outcomes[0].items():
        for other in outcomes[1:]:
            torch.testing.assert_close(other[name], tensor, rtol=1e-3, atol=2e-4)


def test_seeds_and_the_validation_that_they_share(text):
    first, again, other = (
        run(text, text / f"work-{n}", config(epochs=0.5), seed=seed) for n, seed in enumerate((0, 0, 1))
    )
    assert bits(first[0]) == bits(again[0]) != bits(other[0])
    settings = config()
    splits = pretrain.pack(Corpus(settings.corpus, (text,)), tiny_tokenizer(), text / "packed", special_tokens=2, max_length=16, control=Control())  # fmt: skip
    vocabulary = Vocabulary.of(tiny_tokenizer())
    rows = pretrain.validation_rows(
        splits, vocabulary, settings.masking, settings.objective, settings.corpus.split_seed
    )
    measured = pretrain.measure(MaskedLanguageModel(first[0]), rows, Control())
    assert measured == pytest.approx(first[1].validation)


@pytest.mark.parametrize("keep", ["best", "last"])
def test_best_or_last_weights(text, keep, monkeypatch):
    scores, seen = iter([3.0, 1.0, 2.0]), []

    def score(rows, control):
        def measured(model):
            seen.append(bits(model.model))
            return next(scores)

        return measured

    monkeypatch.setattr(pretrain, "_selection_score", score)
    model, result = run(text, text / "work", config(epochs=3, keep=keep))
    assert len(seen) == 3
    assert bits(model) == seen[0 if keep == "best" else 2]
    steps = result.training.steps
    assert (result.training.best_step, result.training.best_score) == (
        (steps // 3, 3.0) if keep == "best" else (steps, 2.0)
    )


def test_heads_alone(text):
    settings = config(train="heads", epochs=1)
    folder = tiny_encoder_folder(text / "encoder")
    before = load_masked_lm(folder, seed=0)
    model, _ = run(text, text / "work", settings)
    old, new = before.state_dict(), model.state_dict()
    assert all(torch.equal(new[name], old[name]) for name in old if name.startswith("bert."))
    assert not torch.equal(new["cls.predictions.transform.dense.weight"], old["cls.predictions.transform.dense.weight"])
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_pooler_is_kept_as_it_is_without_a_sentence_objective(text):
    model, _ = run(text, text / "work", config(epochs=0.2))
    source = load_masked_lm(text / "encoder")
    assert torch.equal(model.bert.pooler.dense.weight, source.bert.pooler.dense.weight)
    assert not torch.equal(model.bert.embeddings.word_embeddings.weight, source.bert.embeddings.word_embeddings.weight)


def test_steps_take_the_place_of_epochs(text):
    _, result = run(text, text / "work", config(steps=3, epochs=100))
    assert result.training.steps == 3


@pytest.mark.parametrize("masking", [{"whole_words": True}, {"choice": "frequency_smoothed"}])
def test_ways_of_masking_train(text, masking):
    plain, _ = run(text, text / "plain", config(steps=2))
    other, result = run(text, text / "other", config(steps=2, masking=masking))
    assert (bits(plain) == bits(other)) == ("whole_words" in masking), "in this vocabulary every piece is a word"
    assert result.training.steps == 2


def test_models_that_do_not_fit(text):
    with pytest.raises(
        CheckpointError, match="max_length 64 is more than the model has positions: set it to at most 32"
    ):
        run(text, text / "work", config(max_length=64))
    small = BertForMaskedLM(tiny_config(vocab_size=7))
    with pytest.raises(CheckpointError, match="17 word pieces, the model's vocabulary 7"):
        run(text, text / "work", config(), small)


def test_a_tokenizer_that_joins_pairs_otherwise_is_refused(text, monkeypatch):
    tokenizer = tiny_tokenizer()
    monkeypatch.setattr(type(tokenizer), "num_special_tokens_to_add", lambda self, pair: 4)
    with pytest.raises(UserError, match="adds 4 special tokens to a pair"):
        run(text, text / "work", config(objective="masked_lm+sentence_order", corpus={"cross_documents": False}))


def test_pairs_need_documents_that_are_not_crossed():
    with pytest.raises(ValueError, match=r"set corpus\.cross_documents to false"):
        config(objective="masked_lm+sentence_order")
