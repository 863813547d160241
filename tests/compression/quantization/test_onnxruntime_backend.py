"""Int8 models that ONNX Runtime runs: as torch computes them, in folders that load back or are refused with the reason."""

import hashlib
import importlib.util
import json
import shutil
from pathlib import Path

import onnx
import pytest
import torch
from pydantic import ValidationError
from test_int8_static import surroundings
from test_schemes import change_config, uneven
from tiny_models import tiny_classifier, tiny_tokenizer
from torch import nn
from transformers import DistilBertConfig, DistilBertForSequenceClassification

from compression.architecture.checkpoint import count_parameters, load_tokenizer, save_checkpoint, save_tokenizer
from compression.errors import CheckpointError, UserError
from compression.evaluation.efficiency import bytes_on_disk
from compression.quantization import load_quantized, onnxruntime_backend
from compression.quantization.checkpoint import multiplier
from compression.quantization.config import QuantizeConfig
from compression.quantization.int8_modules import Int8Embedding, Int8Linear
from compression.quantization.onnx_graph import put_codes
from compression.quantization.onnxruntime_backend import OnnxClassifier, save_for_onnxruntime
from compression.quantization.quantize import apply

LONGEST = 24


def distilbert():
    shape = DistilBertConfig(vocab_size=17, dim=16, n_layers=2, n_heads=2, hidden_dim=32, max_position_embeddings=32)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return DistilBertForSequenceClassification(shape).eval()


def quantized(tmp_path, scheme, plain=None, **options):
    config = QuantizeConfig(scheme=scheme, calibration={"observer": "min-max"}, **options)
    return apply(plain or tiny_classifier(), config, surroundings(tmp_path)).model


def saved(folder, model):
    save_for_onnxruntime(model, folder)
    save_tokenizer(tiny_tokenizer(), folder)
    return folder


@pytest.fixture(scope="module")
def static(tmp_path_factory):
    """A model in int8-static, and its folder; exporting takes seconds."""
    folder = tmp_path_factory.mktemp("static")
    model = quantized(folder, "int8-static", uneven())
    return model, all_logits(model), saved(folder / "onnx", model)


@pytest.fixture(scope="module")
def dynamic(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dynamic")
    model = quantized(folder, "int8-dynamic", exclude=["encoder.layer.0.*"], embeddings=False)
    return model, all_logits(model), saved(folder / "onnx", model)


@pytest.fixture
def copied(dynamic, tmp_path):
    return shutil.copytree(dynamic[2], tmp_path / "copy")


def batches(seed=0):
    """Random sentences of every length, alone and padded."""
    generator = torch.Generator().manual_seed(seed)
    for length in range(1, LONGEST + 1):
        ids = torch.randint(5, 15, (3, length), generator=generator)
        mask = torch.ones_like(ids)
        mask[1, (length + 1) // 2 :] = 0
        yield {"input_ids": ids, "attention_mask": mask}


def all_logits(model):
    with torch.inference_mode():
        return torch.cat([model(**batch).logits for batch in batches()])


def test_static_models_compute_what_torch_does_at_every_length(static):
    model, expected, folder = static
    loaded = load_quantized(folder)
    agree(all_logits(loaded), expected)
    assert count_parameters(loaded) == count_parameters(model)
    assert load_tokenizer(folder)("good film")["input_ids"] == [2, 5, 12, 3]


@pytest.mark.slow
@pytest.mark.parametrize("make", [tiny_classifier, distilbert])
def test_other_architectures_do_too(tmp_path, make):
    model = quantized(tmp_path, "int8-static", make())
    agree(all_logits(load_quantized(saved(tmp_path / "onnx", model))), all_logits(model))


def agree(found, expected):
    # Sums before a rounding differ in their last bits, which now and then gives a neighbouring code.
    assert (found - expected).abs().max() < 0.02 * expected.abs().max()
    assert (found - expected).abs().median() < 1e-3 * expected.abs().max()


def test_dynamic_models_are_near_torch_whose_scales_are_finer(dynamic):
    _, expected, folder = dynamic
    assert (all_logits(load_quantized(folder)) - expected).norm() < 0.05 * expected.norm()


def test_codes_are_in_the_graph_and_plain_layers_stay_plain(static, dynamic):
    for (model, _, folder), kind in ((static, "QuantizeLinear"), (dynamic, "MatMulInteger")):
        graph = onnx.load(folder / "model.onnx").graph
        assert kind in {node.op_type for node in graph.node}
        codes = sorted(tuple(tensor.dims) for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.INT8)
        coded = [module for module in model.modules() if isinstance(module, Int8Linear | Int8Embedding)]
        shapes = [each.weight.T if isinstance(each, Int8Linear) else each.weight for each in coded]
        assert codes == sorted(tuple(each.shape) for each in shapes)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["int8-static", "int8-dynamic"])
def test_the_file_is_small(tmp_path, scheme):
    sizes = {"hidden_size": 128, "intermediate_size": 512, "vocab_size": 8000}
    save_checkpoint(tiny_classifier(**sizes), tiny_tokenizer(), tmp_path / "fp32")
    folder = saved(tmp_path / scheme, quantized(tmp_path, scheme, tiny_classifier(**sizes)))
    assert bytes_on_disk(folder) < 0.29 * bytes_on_disk(tmp_path / "fp32")


def test_saving_leaves_the_model_as_it_was_and_names_no_folder_of_this_machine(dynamic):
    model, before, folder = dynamic
    assert torch.equal(all_logits(model), before)
    assert multiplier(model, "cpu").startswith(("onednn", "torch"))
    assert str(Path(torch.__file__).parent).encode() not in (folder / "model.onnx").read_bytes()


def test_a_loaded_model_gives_the_same_outputs_again_and_follows_torchs_threads(dynamic):
    loaded, again = load_quantized(dynamic[2]), load_quantized(dynamic[2])
    assert isinstance(loaded, OnnxClassifier)
    assert torch.equal(all_logits(loaded), all_logits(again))
    assert multiplier(loaded, "cpu").startswith("onnxruntime-")
    options = loaded.session(2).get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)


def test_damaged_missing_and_foreign_graphs_are_refused(copied):
    folder = copied
    path = folder / "model.onnx"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        load_quantized(folder)
    path.unlink()
    with pytest.raises(CheckpointError, match=r"lacks model\.onnx"):
        load_quantized(folder)
    path.write_bytes(b"no graph")
    change_config(folder, sha256=hashlib.sha256(b"no graph").hexdigest())
    with pytest.raises(CheckpointError, match="cannot be loaded by ONNX Runtime"):
        load_quantized(folder)
    change_config(folder, backend="tensorrt")
    with pytest.raises(CheckpointError, match="'tensorrt'; allowed: torch, onnxruntime"):
        load_quantized(folder)


def test_missing_packages_are_named_with_the_command_that_installs_them(dynamic, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs onnx, onnxscript, onnxruntime: pip install 'bertpress\[onnx\]'"):
        load_quantized(dynamic[2])
    with pytest.raises(UserError, match="pip install"):
        onnxruntime_backend.check_installed()


def test_a_graph_of_another_model_is_not_rewritten(dynamic):
    with pytest.raises(ValueError, match="no node of elsewhere"):
        put_codes(onnx.load(dynamic[2] / "model.onnx"), {"elsewhere": nn.Linear(2, 2)})


def test_schemes_that_the_backend_does_not_run_are_refused():
    for options in ({"scheme": "int4-weight"}, {"scheme": "bf16"}, {"scheme": "int8-dynamic", "mixed": {}}):
        with pytest.raises(ValidationError, match="backend onnxruntime runs int8-dynamic"):
            QuantizeConfig(backend="onnxruntime", **options)


def test_config_json_is_that_of_the_model(static):
    declared = json.loads((static[2] / "config.json").read_text())
    assert declared["architectures"] == ["BertpressForSequenceClassification"]
    assert declared["quantization_config"]["scheme"] == "int8-static"
