"""Quantized models: what is replaced, what it costs, and that a folder gives back the same outputs."""

import copy
import json

import pytest
import torch
from tiny_models import tiny_classifier, tiny_tokenizer
from torch import nn
from transformers import AutoModelForSequenceClassification, DistilBertConfig, DistilBertForSequenceClassification

from compression.architecture.checkpoint import count_parameters, load_classifier, save_checkpoint
from compression.architecture.conversion import config_of
from compression.architecture.encoder.modeling_bertpress import BertpressForSequenceClassification
from compression.architecture.shape import EncoderShape
from compression.errors import CheckpointError, UserError
from compression.evaluation.efficiency import bytes_on_disk
from compression.quantization import int8_arithmetic, load_quantized
from compression.quantization.config import QuantizeConfig
from compression.quantization.format import METHOD
from compression.quantization.int8_modules import Int8Embedding, Int8Linear
from compression.quantization.quantize import apply, quantize


def inputs(rows=4, length=9, seed=0):
    ids = torch.randint(5, 15, (rows, length), generator=torch.Generator().manual_seed(seed))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def logits(model, **given):
    with torch.inference_mode():
        return model(**(given or inputs())).logits


@pytest.fixture
def folder(tmp_path):
    save_checkpoint(quantize(tiny_classifier()), tiny_tokenizer(), tmp_path / "int8")
    return tmp_path / "int8"


def test_every_linear_of_the_encoder_is_replaced_and_the_head_is_not():
    model = quantize(tiny_classifier())
    kinds = {name: type(module) for name, module in model.named_modules()}
    assert kinds["classifier"] is nn.Linear
    assert nn.Linear not in {kind for name, kind in kinds.items() if name.startswith("bert.")}
    assert nn.Embedding not in kinds.values()
    assert sum(kind is Int8Linear for kind in kinds.values()) == 3 * 6 + 1
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_embeddings_can_be_left_alone():
    model = apply(tiny_classifier(), QuantizeConfig(embeddings=False)).model
    assert not any(isinstance(module, Int8Embedding) for module in model.modules())
    assert any(isinstance(module, Int8Linear) for module in model.modules())


def test_outputs_stay_near_and_parameters_stay_the_same():
    plain = tiny_classifier(hidden_size=32)
    before, count = logits(plain), count_parameters(plain)
    model = quantize(plain)
    assert count_parameters(model) == count
    assert (logits(model) - before).abs().max() < 0.05 * before.abs().max() + 0.01


def test_weights_are_the_rounded_ones():
    plain = tiny_classifier()
    weight = plain.bert.encoder.layer[1].output.dense.weight.detach().clone()
    made = quantize(plain).bert.encoder.layer[1].output.dense
    step = weight.abs().amax(1, keepdim=True) / 127
    torch.testing.assert_close(made.weight * made.weight_scale[:, None], (weight / step).round() * step)


def test_folder_is_really_smaller(tmp_path):
    sizes = {"hidden_size": 64, "intermediate_size": 256, "vocab_size": 2000}
    save_checkpoint(tiny_classifier(**sizes), tiny_tokenizer(), tmp_path / "fp32")
    save_checkpoint(quantize(tiny_classifier(**sizes)), tiny_tokenizer(), tmp_path / "int8")
    assert bytes_on_disk(tmp_path / "int8") < 0.32 * bytes_on_disk(tmp_path / "fp32")


@pytest.mark.parametrize("hidden", [16, 30])
def test_folder_gives_back_the_same_outputs_bit_for_bit(tmp_path, hidden):
    model = quantize(tiny_classifier(hidden_size=hidden))
    save_checkpoint(model, tiny_tokenizer(), tmp_path)
    assert logits(load_quantized(tmp_path)).equal(logits(model))
    assert logits(AutoModelForSequenceClassification.from_pretrained(tmp_path)).equal(logits(model))


def test_saving_what_was_loaded_gives_the_same_bytes(folder, tmp_path):
    save_checkpoint(load_quantized(folder), tiny_tokenizer(), tmp_path / "again")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_copies_and_newly_loaded_weights_do_not_use_the_packed_ones():
    one, other = quantize(tiny_classifier(seed=1)), quantize(tiny_classifier(seed=2))
    first = logits(one)
    assert logits(copy.deepcopy(one)).equal(first)
    one.load_state_dict(other.state_dict())
    assert logits(one).equal(logits(other))


def test_a_row_does_not_depend_on_its_batch_or_on_padding():
    model = quantize(tiny_classifier())
    whole = inputs(rows=4)
    alone = logits(model, **{name: tensor[:1] for name, tensor in whole.items()})
    torch.testing.assert_close(logits(model, **whole)[:1], alone, rtol=1e-5, atol=1e-5)
    padded = {name: nn.functional.pad(tensor[:1], (0, 5)) for name, tensor in whole.items()}
    torch.testing.assert_close(logits(model, **padded), alone, rtol=1e-5, atol=1e-5)


def test_plain_path_agrees_with_the_kernel_in_a_whole_model(monkeypatch):
    model = quantize(tiny_classifier())
    found = logits(model)
    monkeypatch.setattr(int8_arithmetic, "kernel_bits", lambda: None)
    tolerance = 1e-4 if int8_arithmetic.kernel_name() == "onednn-u8s8" else 0.02
    torch.testing.assert_close(logits(model), found, rtol=tolerance, atol=tolerance)


def test_a_module_used_twice_stays_one():
    model = tiny_classifier()
    model.bert.encoder.layer[2] = model.bert.encoder.layer[0]
    quantize(model)
    layers = model.bert.encoder.layer
    assert layers[2].output.dense is layers[0].output.dense
    assert isinstance(layers[2].output.dense, Int8Linear)


def test_other_architectures_are_quantized_too(tmp_path):
    shape = DistilBertConfig(vocab_size=17, dim=16, n_layers=2, n_heads=2, hidden_dim=32, max_position_embeddings=16)
    model = quantize(DistilBertForSequenceClassification(shape).eval())
    save_checkpoint(model, tiny_tokenizer(), tmp_path)
    assert logits(load_quantized(tmp_path)).equal(logits(model))


def test_what_cannot_be_quantized_is_refused():
    with pytest.raises(UserError, match="quantized already"):
        quantize(quantize(tiny_classifier()))
    broken = tiny_classifier()
    broken.bert.encoder.layer[0].output.dense.weight.data[0, 0] = float("nan")
    with pytest.raises(UserError, match=r"layer\.0\.output\.dense\.weight is not finite"):
        quantize(broken)


def test_a_plain_folder_is_not_a_quantized_one(tmp_path):
    save_checkpoint(tiny_classifier(), tiny_tokenizer(), tmp_path)
    with pytest.raises(CheckpointError, match=f"is not quantized; allowed: '{METHOD}'"):
        load_quantized(tmp_path)


def test_a_quantized_folder_is_not_taken_for_a_plain_one(folder):
    with pytest.raises(CheckpointError, match="quantized"):
        load_classifier(folder)


def test_a_foreign_quantization_is_refused(folder):
    change_config(folder, quantization_config={"quant_method": "gptq"})
    with pytest.raises(CheckpointError, match="quantized by 'gptq'"):
        load_quantized(folder)


def test_missing_folder_and_damaged_config_are_named(folder, tmp_path):
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        load_quantized(tmp_path / "nowhere")
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json is damaged"):
        load_quantized(folder)


def test_truncated_weights_are_refused(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        load_quantized(folder)


def test_weights_that_do_not_fit_the_config_are_refused(folder):
    change_config(folder, num_hidden_layers=4)
    with pytest.raises(CheckpointError, match="lacks weights"):
        load_quantized(folder)
    change_config(folder, num_hidden_layers=3, intermediate_size=48)
    with pytest.raises(CheckpointError, match="has misshapen weights"):
        load_quantized(folder)


def test_floating_point_weights_under_a_quantized_config_are_refused(folder, tmp_path):
    save_checkpoint(tiny_classifier(), tiny_tokenizer(), tmp_path / "plain")
    (folder / "model.safetensors").write_bytes((tmp_path / "plain" / "model.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match="lacks weights"):
        load_quantized(folder)


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_an_encoder_of_uneven_shared_and_factorised_layers_comes_back_bit_for_bit(tmp_path):
    shape = EncoderShape(
        vocab_size=20, hidden_size=16, head_size=4, attention_heads=(3, 0), intermediate_sizes=(24, 0),
        attention_blocks=(0, 1, 0), feed_forward_blocks=(0, 1, 0), embedding_size=8, embedding_projection="word",
        ranks={"attention.0.key": 2},
    )  # fmt: skip
    plain = BertpressForSequenceClassification(config_of(shape)).eval()
    before, count = logits(plain), count_parameters(plain)
    model = quantize(plain)
    assert sum(isinstance(module, Int8Linear) for module in model.modules()) == 1 + 3 + 2 + 2 + 1
    assert count_parameters(model) == count
    assert (logits(model) - before).abs().max() < 0.05 * before.abs().max() + 0.01
    save_checkpoint(model, tiny_tokenizer(), tmp_path)
    assert torch.equal(logits(load_quantized(tmp_path)), logits(model))
