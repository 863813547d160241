import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import tiny_classifier, tiny_config, tiny_encoder_folder, tiny_tokenizer
from transformers import AutoModelForSequenceClassification, BertForMaskedLM, DistilBertConfig, DistilBertModel

from compression.architecture.checkpoint import (
    count_parameters,
    load_classifier,
    load_encoder_config,
    load_tokenizer,
    save_checkpoint,
)
from compression.errors import CheckpointError

LABELS = ("bad", "good")


def digests(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_encoder_gets_a_seeded_head_and_keeps_its_weights(tmp_path):
    folder = tiny_encoder_folder(tmp_path / "encoder")
    stored = load_file(folder / "model.safetensors")
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (load_classifier(folder, labels=LABELS, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.classifier.weight, again.classifier.weight)
    assert not torch.equal(first.classifier.weight, other.classifier.weight)
    for name, tensor in first.bert.state_dict().items():
        assert torch.equal(tensor, stored[name]), name
    assert first.config.id2label == {0: "bad", 1: "good"}
    assert first.config.label2id == {"bad": 0, "good": 1}
    assert not first.training


def test_head_of_the_right_size_is_kept_and_of_the_wrong_size_replaced(tmp_path):
    model = tiny_classifier(labels=2)
    save_checkpoint(model, tiny_tokenizer(), tmp_path / "two")
    kept = load_classifier(tmp_path / "two", labels=LABELS, seed=9)
    assert torch.equal(kept.classifier.weight, model.classifier.weight)
    replaced = load_classifier(tmp_path / "two", labels=("a", "b", "c"), seed=9)
    assert replaced.classifier.weight.shape == (3, 16)
    assert torch.equal(replaced.bert.pooler.dense.weight, model.bert.pooler.dense.weight)


def test_regression_has_one_output(tmp_path):
    folder = tiny_encoder_folder(tmp_path / "encoder")
    model = load_classifier(folder, labels=(), problem="regression")
    assert model.config.num_labels == 1
    assert model.config.problem_type == "regression"


def test_saved_and_loaded_again_gives_the_same_outputs_and_the_same_bytes(tmp_path):
    tokenizer, model = tiny_tokenizer(), tiny_classifier()
    save_checkpoint(model, tokenizer, tmp_path / "first")
    tokenizer(["good film"], truncation=True, max_length=5, padding="max_length")  # leaves its settings behind
    loaded = load_classifier(tmp_path / "first")
    save_checkpoint(loaded, load_tokenizer(tmp_path / "first"), tmp_path / "second")
    save_checkpoint(model, tokenizer, tmp_path / "third")
    assert digests(tmp_path / "first") == digests(tmp_path / "second") == digests(tmp_path / "third")
    assert str(tmp_path) not in "".join(path.read_text() for path in (tmp_path / "second").glob("*.json"))
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "second").eval()
    batch = {"input_ids": torch.tensor([[2, 5, 6, 3]])}
    with torch.no_grad():
        assert torch.equal(plain(**batch).logits, model(**batch).logits)


def test_half_precision_weights_are_loaded_for_training_in_fp32(tmp_path):
    save_checkpoint(tiny_classifier().to(torch.bfloat16), tiny_tokenizer(), tmp_path)
    assert {parameter.dtype for parameter in load_classifier(tmp_path).parameters()} == {torch.float32}


def test_masked_language_model_without_pooler_is_an_encoder(tmp_path):
    model = BertForMaskedLM(tiny_config())
    save_checkpoint(model, tiny_tokenizer(), tmp_path)
    loaded = load_classifier(tmp_path, labels=LABELS, seed=1)
    again = load_classifier(tmp_path, labels=LABELS, seed=1)
    assert torch.equal(loaded.bert.embeddings.word_embeddings.weight, model.bert.embeddings.word_embeddings.weight)
    assert torch.equal(loaded.bert.pooler.dense.weight, again.bert.pooler.dense.weight)


def test_other_encoders_than_bert(tmp_path):
    config = DistilBertConfig(vocab_size=20, dim=16, n_layers=2, n_heads=2, hidden_dim=32, max_position_embeddings=16)
    save_checkpoint(DistilBertModel(config), tiny_tokenizer(), tmp_path)
    assert load_classifier(tmp_path, labels=LABELS).config.model_type == "distilbert"


def test_without_labels_a_head_must_be_there(tmp_path):
    with pytest.raises(CheckpointError, match="no head that fits"):
        load_classifier(tiny_encoder_folder(tmp_path / "encoder"))


def test_missing_encoder_weights_are_never_initialised(tmp_path):
    folder = tiny_encoder_folder(tmp_path / "encoder")
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.1.attention.self.key.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lacks encoder weights.*layer\.1\.attention\.self\.key"):
        load_classifier(folder, labels=LABELS)


def test_wrong_shapes_are_refused(tmp_path):
    folder = tiny_encoder_folder(tmp_path / "encoder")
    change_config(folder, intermediate_size=64)
    with pytest.raises(CheckpointError, match=r"has shape \(.*, but config.json asks for"):
        load_classifier(folder, labels=LABELS)


def test_layers_that_the_config_does_not_declare_are_not_dropped_in_silence(tmp_path):
    folder = tiny_encoder_folder(tmp_path / "encoder")
    change_config(folder, num_hidden_layers=2)
    with pytest.raises(CheckpointError, match="holds layers that its config"):
        load_classifier(folder, labels=LABELS)


def test_truncated_weights(tmp_path):
    folder = tiny_encoder_folder(tmp_path / "encoder")
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        load_classifier(folder, labels=LABELS)


def test_pickles_are_never_opened(tmp_path):
    folder = tiny_encoder_folder(tmp_path / "encoder")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin, a pickle"):
        load_classifier(folder, labels=LABELS)


def test_missing_shard(tmp_path):
    folder = tiny_encoder_folder(tmp_path / "encoder")
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"embeddings.word_embeddings.weight": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="lacks model-00001-of-00002"):
        load_classifier(folder, labels=LABELS)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "no config.json"),
        ("{", "damaged"),
        ('{"hidden_size": 3}', "model_type"),
        ('{"model_type": "no-such-model"}', "no-such-model"),
        ('{"model_type": "bert", "quantization_config": {}}', "quantized"),
    ],
)
def test_foreign_folders(tmp_path, config, message):
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(CheckpointError, match=message):
        load_encoder_config(tmp_path)


def test_missing_folder_and_tokenizer(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        load_encoder_config(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="no tokenizer"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_tokenizer(tmp_path)


def test_shared_parameters_count_once():
    model = BertForMaskedLM(tiny_config(tie_word_embeddings=True))
    tied = model.cls.predictions.decoder.weight
    assert tied is model.bert.embeddings.word_embeddings.weight
    assert count_parameters(model) == sum({p.data_ptr(): p.numel() for p in model.parameters()}.values())
