import pytest
import torch
from tiny_models import WORDS, tiny_classifier, tiny_config, tiny_encoder_folder, tiny_tokenizer
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    AlbertModel,
    BertForMaskedLM,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
)

from compression.architecture.checkpoint import count_parameters, load_classifier, load_encoder_config, save_checkpoint
from compression.architecture.config import StudentConfig
from compression.architecture.conversion import shape_of_model, to_bertpress
from compression.architecture.presets import PRESETS
from compression.architecture.student import build_student, take_layers
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


def test_layers_by_strategy(tmp_path):
    folder = tiny_encoder_folder(tmp_path)
    encoder = load_classifier(folder, labels=TASK["labels"])
    for strategy, layers in {"uniform": (1, 2), "top": (1, 2), "bottom": (0, 1), "first-last": (0, 2)}.items():
        student = build_student(StudentConfig(layers=strategy, count=2), folder, seed=1, **TASK)
        for own, layer in zip(student.bert.encoder.layer, layers, strict=True):
            source = encoder.bert.encoder.layer[layer]
            assert torch.equal(own.output.dense.weight, source.output.dense.weight), strategy


def test_distilberts_layers_need_twelve(tmp_path):
    assert StudentConfig(layers="distilbert").chosen_layers(12) == (0, 2, 4, 7, 9, 11)
    with pytest.raises(UserError, match="takes 6 of 12 layers; here they are 6 of 3"):
        build_student(StudentConfig(layers="distilbert"), tiny_encoder_folder(tmp_path), seed=0, **TASK)


def test_embeddings_and_pooler_can_be_left_out(tmp_path):
    folder = tiny_encoder_folder(tmp_path)
    whole = build_student(StudentConfig(layers=(0,)), folder, seed=1, **TASK)
    for part in ("embeddings", "pooler"):
        students = [
            build_student(StudentConfig(layers=(0,), **{part: False}), folder, seed=s, **TASK) for s in (1, 1, 2)
        ]
        weights = [student.state_dict() for student in students]
        for name, tensor in whole.state_dict().items():
            if name.startswith(f"bert.{part}.") and name.endswith("weight") and "LayerNorm" not in name:
                assert not torch.equal(weights[0][name], tensor), name
                assert torch.equal(weights[0][name], weights[1][name]), name
                assert not torch.equal(weights[0][name], weights[2][name]), name
            elif not name.startswith((f"bert.{part}.", "classifier.")):  # the head follows the seed
                assert torch.equal(weights[2][name], tensor), name


def test_fresh_embeddings_stay_tied_to_the_masked_lm_head():
    source = BertForMaskedLM(tiny_config())
    student = take_layers(source, StudentConfig(layers=(1,), embeddings=False), seed=0)
    assert student.cls.predictions.decoder.weight is student.bert.embeddings.word_embeddings.weight
    assert not torch.equal(
        student.bert.embeddings.word_embeddings.weight, source.bert.embeddings.word_embeddings.weight
    )
    assert torch.equal(student.cls.predictions.transform.dense.weight, source.cls.predictions.transform.dense.weight)


def test_without_token_types_a_student_computes_like_distilbert():
    """Dropping token types takes their constant out of the embeddings; with none in the source, nothing changes."""
    source = tiny_classifier()
    with torch.no_grad():
        source.bert.embeddings.token_type_embeddings.weight.zero_()
    student = take_layers(source, StudentConfig(layers=(0, 1, 2), token_types=False), seed=0)
    assert student.config.type_vocab_size == 0
    pieces, mask = torch.tensor([[2, 5, 6, 3], [2, 5, 3, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    with torch.no_grad():
        expected = source(pieces, mask).logits
        torch.testing.assert_close(student(pieces, mask).logits, expected, atol=1e-5, rtol=1e-4)


def test_layers_of_our_encoder_go_on_sharing_blocks():
    albert = AlbertForSequenceClassification(
        AlbertConfig(
            vocab_size=20,
            embedding_size=8,
            hidden_size=16,
            num_hidden_layers=4,
            num_hidden_groups=2,
            num_attention_heads=2,
            intermediate_size=32,
        )
    )
    source = to_bertpress(albert)
    student = take_layers(source, StudentConfig(layers=(2, 3)), seed=0)
    assert shape_of_model(student).attention_blocks == (0, 0)
    assert torch.equal(student.encoder.attention[0].query.weight, source.encoder.attention[1].query.weight)
    assert torch.equal(student.encoder.feed_forward[0].output.weight, source.encoder.feed_forward[1].output.weight)
    assert torch.equal(student.classifier.weight, source.classifier.weight)


def test_a_bare_encoder_can_be_chosen_from():
    source = BertModel(tiny_config())
    student = take_layers(source, StudentConfig(layers="top", count=1, embeddings=False), seed=0)
    assert torch.equal(student.encoder.layer[0].output.dense.weight, source.encoder.layer[2].output.dense.weight)
    assert not torch.equal(student.embeddings.word_embeddings.weight, source.embeddings.word_embeddings.weight)
    assert torch.equal(student.pooler.dense.weight, source.pooler.dense.weight)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"preset": "bert-tiny", "embeddings": False}, "leave out `embeddings`"),
        ({"layers": "uniform"}, "needs a `count`"),
        ({"layers": [0, 1], "count": 2}, "`count` belongs to a strategy"),
        ({"preset": "bert-tiny", "count": 2}, "`count` belongs to a strategy"),
        ({"layers": [1, 0]}, "must ascend"),
        ({}, "needs either"),
    ],
)
def test_contradictions_of_a_student_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        StudentConfig(**fields)


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
