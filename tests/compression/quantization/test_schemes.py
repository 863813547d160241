"""Folders of every scheme: what they store, that they give back the same outputs, and which of them are refused."""

import json

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from tiny_models import tiny_classifier, tiny_tokenizer
from torch import nn

from compression.architecture.checkpoint import count_parameters, save_checkpoint
from compression.architecture.conversion import config_of
from compression.architecture.encoder.modeling_bertpress import BertpressForSequenceClassification
from compression.architecture.shape import EncoderShape
from compression.errors import CheckpointError, UserError
from compression.evaluation.efficiency import bytes_on_disk
from compression.quantization import load_quantized
from compression.quantization import quantize as quantizing
from compression.quantization.config import QuantizeConfig
from compression.quantization.format import QuantizedFormat
from compression.quantization.quantize import quantize
from compression.quantization.weight_modules import CodedEmbedding, CodedLinear

WEIGHT_ONLY = ("int8-weight", "int4-weight", "fp8-e4m3", "fp8-e5m2")
WITHOUT_DATA = ("int8-dynamic", *WEIGHT_ONLY, "bf16", "fp16")
# Largest share of fp32's bytes, and how far logits may be from fp32's (relative L2).
EXPECTED = {
    "int8-dynamic": (0.32, 0.05), "int8-weight": (0.34, 0.05), "int4-weight": (0.21, 0.5),
    "fp8-e4m3": (0.32, 0.15), "fp8-e5m2": (0.32, 0.3), "bf16": (0.52, 0.05), "fp16": (0.52, 0.01),
}  # fmt: skip


def apply(model, config):
    return quantizing.apply(model, config).model


def logits(model, length=9):
    ids = torch.randint(5, 15, (4, length), generator=torch.Generator().manual_seed(length))
    with torch.inference_mode():
        return model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits


def uneven(seed=0):
    """An encoder of uneven, shared and factorised layers."""
    shape = EncoderShape(
        vocab_size=20, hidden_size=16, head_size=4, attention_heads=(3, 0), intermediate_sizes=(24, 0),
        attention_blocks=(0, 1, 0), feed_forward_blocks=(0, 1, 0), embedding_size=7, embedding_projection="word",
        ranks={"attention.0.key": 3},
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return BertpressForSequenceClassification(config_of(shape)).eval()


def saved(folder, model):
    save_checkpoint(model, tiny_tokenizer(), folder)
    return folder


def change_config(folder, **changes):
    path = folder / "config.json"
    declared = json.loads(path.read_text())
    declared["quantization_config"] |= changes
    path.write_text(json.dumps(declared))


def change_weights(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize("scheme", WITHOUT_DATA)
@pytest.mark.parametrize("make", [tiny_classifier, uneven])
def test_a_folder_gives_back_the_same_outputs_and_the_same_bytes(tmp_path, scheme, make):
    count = count_parameters(make())
    model = apply(make(), QuantizeConfig(scheme=scheme, group_size=4))
    assert count_parameters(model) == count
    folder = saved(tmp_path / "one", model)
    again = load_quantized(folder)
    assert count_parameters(again) == count
    for length in (1, 9, 24):
        assert torch.equal(logits(again, length), logits(model, length))
    saved(tmp_path / "two", again)
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "two" / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize("scheme", WITHOUT_DATA)
def test_folders_are_really_smaller_and_outputs_stay_near(tmp_path, scheme):
    sizes = {"hidden_size": 64, "intermediate_size": 256, "vocab_size": 2000, "initializer_range": 0.1}
    plain = tiny_classifier(**sizes)
    size, before = bytes_on_disk(saved(tmp_path / "fp32", plain)), logits(plain)
    model = apply(plain, QuantizeConfig(scheme=scheme))
    share, drift = EXPECTED[scheme]
    assert bytes_on_disk(saved(tmp_path / "small", model)) < share * size
    assert (logits(model).float() - before).norm() < drift * before.norm()


@pytest.mark.parametrize("scheme", WEIGHT_ONLY)
def test_weights_are_those_of_a_model_that_was_rounded_by_hand(scheme):
    model, by_hand = (tiny_classifier(seed=1) for _ in range(2))
    quantized = apply(model, QuantizeConfig(scheme=scheme, group_size=8))
    pairs = [
        (module, by_hand.get_submodule(name))
        for name, module in quantized.named_modules()
        if isinstance(module, CodedLinear | CodedEmbedding)
    ]
    assert len(pairs) == 3 * 6 + 1 + 3
    for coded, plain in pairs:
        plain.weight.data = coded.codec.decode(coded.weight, coded.weight_scale, plain.weight.shape[1])
    torch.testing.assert_close(logits(quantized), logits(by_hand), rtol=1e-6, atol=1e-7)


def test_fake_activations_round_every_tokens_input():
    coded = CodedLinear.from_float(nn.Linear(6, 3), fp8 := _codec("fp8-e4m3"), fake_activations=True)
    plain = CodedLinear.from_float(nn.Linear(6, 3), fp8)
    plain.load_state_dict(coded.state_dict())
    activation = torch.randn(2, 5, 6)
    rounded = fp8.decode(*fp8.encode(activation.flatten(0, 1)), 6).view(2, 5, 6)
    assert not torch.equal(rounded, activation)
    torch.testing.assert_close(coded(activation), plain(rounded))
    assert torch.equal(coded(activation)[:, :1], coded(activation[:, :1]))


def test_fake_activations_are_part_of_the_folder(tmp_path):
    model = apply(tiny_classifier(), QuantizeConfig(scheme="fp8-e5m2", fake_activations=True))
    plain = apply(tiny_classifier(), QuantizeConfig(scheme="fp8-e5m2"))
    found = logits(load_quantized(saved(tmp_path, model)))
    assert torch.equal(found, logits(model))
    assert not torch.equal(found, logits(plain))


def test_layers_are_excluded_by_pattern_and_have_schemes_of_their_own(tmp_path):
    described = QuantizedFormat(
        scheme="int4-weight", exclude=["encoder.layer.0.*", "*position*"], layers={"pooler.dense": "int8-dynamic"}
    )
    model = load_quantized(saved(tmp_path, quantize(tiny_classifier(), described)))
    kinds = {name: type(module).__name__ for name, module in model.base_model.named_modules()}
    assert kinds["encoder.layer.0.output.dense"] == "Linear"
    assert kinds["encoder.layer.1.output.dense"] == "CodedLinear"
    assert kinds["embeddings.position_embeddings"] == "Embedding"
    assert kinds["embeddings.word_embeddings"] == "CodedEmbedding"
    assert kinds["pooler.dense"] == "Int8Linear"


def test_names_that_fit_nothing_are_refused_with_the_nearest():
    with pytest.raises(UserError, match=r"fits no layer.*did you mean 'pooler\.dense'"):
        apply(tiny_classifier(), QuantizeConfig(exclude=["pooler.dens"]))
    with pytest.raises(UserError, match="no linear layer that could be quantized: all are excluded"):
        apply(tiny_classifier(), QuantizeConfig(exclude=["*"]))


@pytest.mark.parametrize("scheme", WITHOUT_DATA)
def test_numbers_that_no_format_holds_are_refused(scheme):
    broken = tiny_classifier()
    broken.bert.pooler.dense.weight.data[0, 0] = float("nan")
    with pytest.raises(UserError, match=r"pooler\.dense\.weight is not finite"):
        apply(broken, QuantizeConfig(scheme=scheme))
    with pytest.raises(UserError, match="quantized already"):
        apply(apply(tiny_classifier(), QuantizeConfig(scheme=scheme)), QuantizeConfig(scheme=scheme))


def test_weights_beyond_fp16_are_refused():
    large = tiny_classifier()
    large.bert.pooler.dense.weight.data[0, 0] = 7e4
    with pytest.raises(UserError, match="beyond 65504, the largest of fp16: use bf16"):
        apply(large, QuantizeConfig(scheme="fp16"))


def test_options_that_mean_nothing_are_refused():
    with pytest.raises(ValidationError, match="fake_activations is for fp8"):
        QuantizeConfig(fake_activations=True)
    with pytest.raises(ValidationError, match="bf16 casts the whole model"):
        QuantizeConfig(scheme="bf16", exclude=["pooler.*"])


def test_a_folder_from_before_there_were_schemes_still_loads(tmp_path):
    model = quantize(tiny_classifier(), QuantizedFormat(embeddings=False))
    folder = saved(tmp_path / "one", model)
    path = folder / "config.json"
    old = {"quant_method": "bertpress-int8", "embeddings": False}
    path.write_text(json.dumps({**json.loads(path.read_text()), "quantization_config": old}))
    assert torch.equal(logits(load_quantized(folder)), logits(model))


@pytest.mark.parametrize("scheme", WITHOUT_DATA)
def test_weights_of_another_number_format_are_refused_and_not_cast(tmp_path, scheme):
    folder = saved(tmp_path, apply(tiny_classifier(), QuantizeConfig(scheme=scheme)))
    name = "bert.pooler.dense.weight"
    change_weights(folder, lambda tensors: tensors.update({name: tensors[name].float()}))
    with pytest.raises(CheckpointError, match=r"bert\.pooler\.dense\.weight is stored as F32, not as"):
        load_quantized(folder)


def test_numbers_that_are_none_are_refused(tmp_path):
    folder = saved(tmp_path, apply(tiny_classifier(), QuantizeConfig(scheme="fp8-e4m3")))
    change_weights(folder, lambda tensors: tensors["bert.pooler.dense.weight"].view(torch.uint8)[0].fill_(127))
    with pytest.raises(CheckpointError, match=r"bert\.pooler\.dense does not hold finite weights"):
        load_quantized(folder)
    folder = saved(tmp_path / "other", apply(tiny_classifier(), QuantizeConfig()))
    change_weights(folder, lambda tensors: tensors["bert.pooler.dense.weight_scale"].fill_(-1))
    with pytest.raises(CheckpointError, match=r"bert\.pooler\.dense does not hold finite scales"):
        load_quantized(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scheme": "int3-weight"}, "scheme 'int3-weight'"),
        ({"layers": {"pooler.dense": "wrong"}}, "scheme 'wrong'"),
        ({"group_size": 0}, "group_size"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_description_that_means_nothing_is_refused(tmp_path, changes, message):
    folder = saved(tmp_path, apply(tiny_classifier(), QuantizeConfig(scheme="int4-weight")))
    change_config(folder, **changes)
    with pytest.raises(CheckpointError, match=message):
        load_quantized(folder)


def _codec(scheme):
    from compression.quantization.weight_codecs import weight_codec

    return weight_codec(scheme, 64)
