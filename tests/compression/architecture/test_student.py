import pytest
import torch
from tiny_models import WORDS, tiny_encoder_folder, tiny_tokenizer
from transformers import AlbertConfig, AlbertModel, DistilBertConfig, DistilBertModel

from compression.architecture.checkpoint import count_parameters, load_classifier, load_encoder_config, save_checkpoint
from compression.architecture.config import StudentConfig
from compression.architecture.presets import PRESETS
from compression.architecture.student import build_student
from compression.errors import UserError

TASK = {"labels": ("bad", "good"), "problem": "classification"}


def test_chosen_layers_embeddings_and_pooler_are_copied(tmp_path):
    folder = tiny_encoder_folder(tmp_path)
    encoder = load_classifier(folder, labels=TASK["labels"])
    student = build_student(StudentConfig(layers=(0, 2)), folder, seed=1, **TASK)
    assert student.config.num_hidden_layers == 2
    pairs = [
        (student.bert.embeddings, encoder.bert.embeddings),
        (student.bert.encoder.layer[0], encoder.bert.encoder.layer[0]),
        (student.bert.encoder.layer[1], encoder.bert.encoder.layer[2]),
        (student.bert.pooler, encoder.bert.pooler),
    ]
    for copied, source in pairs:
        for name, tensor in copied.state_dict().items():
            assert torch.equal(tensor, source.state_dict()[name]), name


def test_all_layers_give_the_encoder_itself(tmp_path):
    folder = tiny_encoder_folder(tmp_path)
    batch = {"input_ids": torch.tensor([[2, 5, 6, 3]])}
    student = build_student(StudentConfig(layers=(0, 1, 2)), folder, seed=1, **TASK)
    with torch.no_grad():
        expected = load_classifier(folder, seed=1, labels=TASK["labels"])(**batch).logits
        assert torch.equal(student(**batch).logits, expected)


def test_students_of_layers_survive_saving(tmp_path):
    folder = tiny_encoder_folder(tmp_path / "encoder")
    student = build_student(StudentConfig(layers=(1,)), folder, seed=1, **TASK)
    save_checkpoint(student, tiny_tokenizer(), tmp_path / "student")
    loaded = load_classifier(tmp_path / "student")
    for name, tensor in student.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name]), name


def test_distilbert_layers(tmp_path):
    config = DistilBertConfig(vocab_size=20, dim=16, n_layers=3, n_heads=2, hidden_dim=32, max_position_embeddings=16)
    encoder = DistilBertModel(config)
    save_checkpoint(encoder, tiny_tokenizer(), tmp_path)
    student = build_student(StudentConfig(layers=(2,)), tmp_path, seed=0, **TASK)
    copied = student.distilbert.transformer.layer[0].ffn.lin1.weight
    assert torch.equal(copied, encoder.transformer.layer[2].ffn.lin1.weight)
    assert student.config.n_layers == 1


def test_a_layer_too_many_is_refused_by_name(tmp_path):
    folder = tiny_encoder_folder(tmp_path)
    with pytest.raises(UserError, match=r"layer 7 does not exist: .* has 3 layers, 0 to 2"):
        build_student(StudentConfig(layers=(0, 7)), folder, seed=0, **TASK)


def test_shared_layers_cannot_be_chosen_from(tmp_path):
    config = AlbertConfig(
        vocab_size=20,
        embedding_size=8,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
    )
    save_checkpoint(AlbertModel(config), tiny_tokenizer(), tmp_path)
    with pytest.raises(UserError, match="keeps its layers apart"):
        build_student(StudentConfig(layers=(0,)), tmp_path, seed=0, **TASK)


def test_preset_takes_vocabulary_positions_and_padding_of_the_encoder(tmp_path):
    folder = tiny_encoder_folder(tmp_path, pad_token_id=4, type_vocab_size=3)
    student = build_student(StudentConfig(preset="bert-tiny"), folder, seed=0, **TASK)
    encoder = load_encoder_config(folder)
    for field in ("vocab_size", "max_position_embeddings", "pad_token_id", "type_vocab_size"):
        assert getattr(student.config, field) == getattr(encoder, field), field
    assert student.config.vocab_size == len(WORDS)
    assert student.config.id2label == {0: "bad", 1: "good"}


def test_preset_weights_follow_the_seed_and_leave_the_global_generator_alone(tmp_path):
    folder = tiny_encoder_folder(tmp_path)
    before = torch.get_rng_state()
    first, again, other = (
        build_student(StudentConfig(preset="bert-tiny"), folder, seed=seed, **TASK) for seed in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), before)
    weights = [model.bert.encoder.layer[0].output.dense.weight for model in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(("name", "printed"), [("bert-tiny", 4.4), ("tinybert-4l-312", 14.5), ("bert-mini", 11.3)])
def test_presets_have_the_size_that_their_papers_print(tmp_path, name, printed):
    folder = tiny_encoder_folder(tmp_path, vocab_size=30522, max_position_embeddings=512)
    student = build_student(StudentConfig(preset=name), folder, seed=0, **TASK)
    assert count_parameters(student) / 1e6 == pytest.approx(printed, abs=0.3)


@pytest.mark.parametrize("name", PRESETS)
def test_heads_divide_the_hidden_size(name):
    assert PRESETS[name].hidden_size % PRESETS[name].heads == 0
