import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import WORDS, tiny_classifier, tiny_config, tiny_encoder_folder, tiny_tokenizer
from transformers import (
    AlbertConfig,
    AlbertForPreTraining,
    AlbertModel,
    AutoModelForMaskedLM,
    BertForMaskedLM,
    BertForPreTraining,
    BertModel,
    DistilBertConfig,
    DistilBertForMaskedLM,
    ElectraConfig,
    ElectraForMaskedLM,
    RobertaConfig,
    RobertaForMaskedLM,
)

from compression.architecture.checkpoint import load_classifier, save_checkpoint
from compression.architecture.config import StudentConfig
from compression.architecture.conversion import to_bertpress
from compression.architecture.encoder.modeling_bertpress import BertpressForMaskedLM
from compression.architecture.masked_lm import MaskedLanguageModel, load_masked_lm, new_masked_lm
from compression.architecture.student import build_masked_lm_student
from compression.errors import CheckpointError, UserError

BATCH = {"input_ids": torch.tensor([[2, 5, 6, 12, 3], [2, 8, 3, 0, 0]])}
BATCH["attention_mask"] = (BATCH["input_ids"] != 0).long()
SMALL = {"vocab_size": len(WORDS), "max_position_embeddings": 32, "pad_token_id": 0}


def models():
    torch.manual_seed(0)
    wide = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, **SMALL}
    yield BertForMaskedLM(tiny_config())
    yield BertForPreTraining(tiny_config())
    yield AlbertForPreTraining(AlbertConfig(**wide, embedding_size=8))
    yield DistilBertForMaskedLM(DistilBertConfig(dim=16, n_layers=2, n_heads=2, hidden_dim=32, **SMALL))
    yield RobertaForMaskedLM(RobertaConfig(**wide))
    yield ElectraForMaskedLM(ElectraConfig(**wide, embedding_size=8))
    yield to_bertpress(BertForMaskedLM(tiny_config()))
    yield to_bertpress(AlbertForPreTraining(AlbertConfig(**wide, embedding_size=8)))


@pytest.mark.parametrize("model", models(), ids=lambda model: type(model).__name__)
def test_the_head_at_chosen_positions_gives_what_the_whole_head_gives_there(model):
    model.eval()
    positions = torch.tensor([1, 3, 6])
    with torch.no_grad():
        whole = model(**BATCH)
        logits, pairs = MaskedLanguageModel(model)(positions, **BATCH)
        again = model(**BATCH)
    scores = whole["logits"] if "logits" in whole else whole["prediction_logits"]
    torch.testing.assert_close(logits, scores.flatten(0, 1)[positions], rtol=1e-5, atol=1e-6)
    sentence = next((whole[name] for name in ("seq_relationship_logits", "sop_logits", "sentence_logits") if name in whole), None)  # fmt: skip
    assert (pairs is None) == (sentence is None)
    if pairs is not None:
        torch.testing.assert_close(pairs, sentence)
    for name, value in whole.items():
        assert torch.equal(again[name], value), "the model itself is left as it was"


@pytest.mark.parametrize("training", [False, True])
def test_the_wrapper_is_in_the_mode_of_its_model(training):
    model = BertForMaskedLM(tiny_config()).train(training)
    assert {module.training for module in MaskedLanguageModel(model).modules()} == {training}


def test_gradients_are_those_of_the_whole_head():
    model = BertForMaskedLM(tiny_config()).eval()
    positions, targets = torch.tensor([1, 6]), torch.tensor([7, 9])
    gradients = []
    for logits in (MaskedLanguageModel(model)(positions, **BATCH)[0], model(**BATCH).logits.flatten(0, 1)[positions]):
        model.zero_grad()
        torch.nn.functional.cross_entropy(logits, targets).backward()
        gradients.append({name: parameter.grad.clone() for name, parameter in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("sentence_head", [False, True])
def test_an_encoder_is_given_a_head_tied_to_its_embeddings(tmp_path, sentence_head):
    folder = tiny_encoder_folder(tmp_path / "encoder")
    model = load_masked_lm(folder, sentence_head=sentence_head, seed=1)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    stored = load_file(folder / "model.safetensors")
    own = model.base_model.state_dict()
    assert own.keys() == stored.keys(), "the pooler is there, too"
    assert all(torch.equal(own[name], stored[name]) for name in own)
    again, other = (load_masked_lm(folder, sentence_head=sentence_head, seed=seed).state_dict() for seed in (1, 2))
    assert all(torch.equal(tensor, again[name]) for name, tensor in model.state_dict().items())
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, other[name])}
    assert changed
    assert not any(name.startswith("bert.") for name in changed)


def test_a_head_that_is_there_is_kept_and_everything_survives_saving(tmp_path):
    model = load_masked_lm(tiny_encoder_folder(tmp_path / "encoder"), seed=1)
    save_checkpoint(model, tiny_tokenizer(), tmp_path / "saved")
    loaded = load_masked_lm(tmp_path / "saved", seed=2)
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in model.state_dict().items())
    plain = AutoModelForMaskedLM.from_pretrained(tmp_path / "saved").eval()
    with torch.no_grad():
        assert torch.equal(plain(**BATCH).logits, model(**BATCH).logits)
    classifier = load_classifier(tmp_path / "saved", labels=("a", "b"))
    own = model.base_model.state_dict()
    assert classifier.bert.state_dict().keys() == own.keys()
    assert all(torch.equal(tensor, own[name]) for name, tensor in classifier.bert.state_dict().items())


def test_a_sentence_head_survives_saving_and_may_be_left_out(tmp_path):
    model = load_masked_lm(tiny_encoder_folder(tmp_path / "encoder"), sentence_head=True, seed=1)
    save_checkpoint(model, tiny_tokenizer(), tmp_path / "saved")
    kept = load_masked_lm(tmp_path / "saved", sentence_head=True, seed=2).state_dict()
    assert all(torch.equal(tensor, kept[name]) for name, tensor in model.state_dict().items())
    without = load_masked_lm(tmp_path / "saved").state_dict()
    assert set(kept) - set(without) == {"cls.seq_relationship.weight", "cls.seq_relationship.bias"}
    assert all(torch.equal(tensor, kept[name]) for name, tensor in without.items())
    assert isinstance(AutoModelForMaskedLM.from_pretrained(tmp_path / "saved"), BertForMaskedLM)


def test_a_head_that_was_not_tied_stays_so_and_a_fresh_one_is_tied(tmp_path):
    torch.manual_seed(0)
    untied = BertForMaskedLM(tiny_config(tie_word_embeddings=False))
    save_checkpoint(untied, tiny_tokenizer(), tmp_path / "untied")
    kept = load_masked_lm(tmp_path / "untied")
    assert torch.equal(kept.get_output_embeddings().weight, untied.get_output_embeddings().weight)
    assert kept.get_output_embeddings().weight is not kept.get_input_embeddings().weight
    save_checkpoint(BertModel(tiny_config(tie_word_embeddings=False)), tiny_tokenizer(), tmp_path / "bare")
    fresh = load_masked_lm(tmp_path / "bare")
    assert fresh.get_output_embeddings().weight is fresh.get_input_embeddings().weight
    assert fresh.config.tie_word_embeddings


def test_other_families(tmp_path):
    albert = AlbertConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, embedding_size=8, **SMALL)  # fmt: skip
    save_checkpoint(AlbertModel(albert), tiny_tokenizer(), tmp_path / "albert")
    assert isinstance(load_masked_lm(tmp_path / "albert", sentence_head=True), AlbertForPreTraining)
    ours = to_bertpress(AlbertModel(albert))
    save_checkpoint(ours, tiny_tokenizer(), tmp_path / "ours")
    for sentence_head in (False, True):
        model = load_masked_lm(tmp_path / "ours", sentence_head=sentence_head)
        assert isinstance(model, BertpressForMaskedLM)
        assert model.encoder.pooler is not None
        assert model.head.decoder.weight is model.encoder.embeddings.word_embeddings.weight
        save_checkpoint(model, tiny_tokenizer(), tmp_path / f"saved-{sentence_head}")
        again = load_masked_lm(tmp_path / f"saved-{sentence_head}", sentence_head=sentence_head).state_dict()
        assert all(torch.equal(tensor, again[name]) for name, tensor in model.state_dict().items())
        load_classifier(tmp_path / f"saved-{sentence_head}", labels=("a", "b"))
    distil = DistilBertForMaskedLM(DistilBertConfig(dim=16, n_layers=2, n_heads=2, hidden_dim=32, **SMALL))
    save_checkpoint(distil, tiny_tokenizer(), tmp_path / "distil")
    load_masked_lm(tmp_path / "distil")
    with pytest.raises(UserError, match="'distilbert' model has no sentence head; allowed: albert, bert, bertpress"):
        load_masked_lm(tmp_path / "distil", sentence_head=True)


def test_what_is_no_encoder_is_refused(tmp_path):
    folder = tmp_path / "gpt"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    save_file({"x": torch.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(UserError, match="'gpt2' model has no masked-LM head"):
        load_masked_lm(folder)
    with pytest.raises(CheckpointError, match="does not exist"):
        load_masked_lm(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("half a head", "incomplete or foreign: no cls.predictions"),
        ("another vocabulary", "incomplete or foreign: another shape cls.predictions"),
        ("no layer", "lacks encoder weights"),
        ("too many layers", "does not declare"),
        ("pickle", "a pickle"),
        ("truncated", "truncated or damaged"),
    ],
)
def test_damaged_folders(tmp_path, damage, message):
    folder = tmp_path / "model"
    save_checkpoint(BertForMaskedLM(tiny_config()), tiny_tokenizer(), folder)
    file = folder / "model.safetensors"
    weights = load_file(file)
    if damage == "half a head":
        weights = {name: tensor for name, tensor in weights.items() if "transform.dense" not in name}
    elif damage == "another vocabulary":
        weights["cls.predictions.bias"] = torch.zeros(3)
    elif damage == "no layer":
        weights = {name: tensor for name, tensor in weights.items() if "layer.1." not in name}
    elif damage == "too many layers":
        weights["bert.encoder.layer.7.output.dense.weight"] = torch.zeros(2, 2)
    save_file(weights, file, {"format": "pt"})
    if damage == "pickle":
        file.rename(folder / "pytorch_model.bin")
    elif damage == "truncated":
        file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(CheckpointError, match=message):
        load_masked_lm(folder)


def test_a_classifiers_head_is_no_masked_lm_head(tmp_path):
    save_checkpoint(tiny_classifier(), tiny_tokenizer(), tmp_path / "classifier")
    model = load_masked_lm(tmp_path / "classifier")
    assert not any("classifier" in name for name in model.state_dict())


@pytest.mark.parametrize("sentence_head", [False, True])
@pytest.mark.parametrize("preset", ["bert-tiny", "distilbert-6l", "albert-base"])
def test_students_of_presets(tmp_path, preset, sentence_head):
    folder = tiny_encoder_folder(tmp_path / "encoder")
    model = build_masked_lm_student(StudentConfig(preset=preset), folder, sentence_head=sentence_head, seed=1)
    with torch.no_grad():
        logits, pairs = MaskedLanguageModel(model)(torch.tensor([1]), **BATCH)
    assert logits.shape == (1, len(WORDS))
    assert (pairs is not None) == sentence_head
    shared = preset == "albert-base"
    assert (
        len({id(layer) for layer in model.base_model.modules() if "Attention" in type(layer).__name__}) == 1
    ) == shared


@pytest.mark.parametrize("sentence_head", [False, True])
@pytest.mark.parametrize(
    "choice", [{}, {"pooler": False}, {"token_types": False, "pooler": False}, {"embeddings": False}]
)
def test_students_of_layers(tmp_path, sentence_head, choice):
    folder = tiny_encoder_folder(tmp_path / "encoder")
    config = StudentConfig(layers=(0, 2), **choice)
    model = build_masked_lm_student(config, folder, sentence_head=sentence_head, seed=1)
    source = load_masked_lm(folder, sentence_head=sentence_head, seed=1)
    with torch.no_grad():
        logits, _ = MaskedLanguageModel(model)(torch.tensor([1]), input_ids=BATCH["input_ids"])
    assert logits.shape == (1, len(WORDS))
    assert model.config.num_hidden_layers == 2
    save_checkpoint(model, tiny_tokenizer(), tmp_path / "student")
    loaded = load_masked_lm(tmp_path / "student", sentence_head=sentence_head).state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in model.state_dict().items())
    if not choice:
        kept = model.base_model.pooler.dense.weight
        assert torch.equal(kept, source.base_model.pooler.dense.weight)


def test_new_models_are_a_function_of_the_seed():
    one, two, other = (new_masked_lm(tiny_config(), seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())
    assert any(not torch.equal(tensor, other[name]) for name, tensor in one.items())
