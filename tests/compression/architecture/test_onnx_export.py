"""ONNX: the exported graph gives the encoder's outputs, at any batch size and length."""

import importlib.util

import onnxruntime
import pytest
import torch
from encoder_shapes import POSITIONS, VOCABULARY
from test_encoder import SHARED, build

from compression.architecture import onnx_export
from compression.architecture.encoder.modeling_bertpress import BertpressForSequenceClassification, BertpressModel
from compression.errors import UserError


@pytest.mark.parametrize(
    ("made", "shape", "inputs", "output"),
    [
        (BertpressForSequenceClassification, SHARED, ["input_ids", "attention_mask", "token_type_ids"], "logits"),
        (BertpressModel, SHARED.edited(type_vocab_size=0, intermediate_sizes=(0,), ranks={}), ["input_ids", "attention_mask"], "last_hidden_state"),
    ],
)  # fmt: skip
def test_an_exported_encoder_gives_the_same_outputs_at_any_size(tmp_path, made, shape, inputs, output):
    model = build(made, shape)
    session = onnxruntime.InferenceSession(onnx_export.export_onnx(model, tmp_path / "folder" / "model.onnx"))
    assert [given.name for given in session.get_inputs()] == inputs
    assert [given.name for given in session.get_outputs()] == [output]
    for rows, length in ((1, 1), (3, POSITIONS), (5, 2)):
        ids = torch.randint(0, VOCABULARY, (rows, length))
        mask = torch.ones_like(ids)
        mask[0, 1:] = 0
        batch = {"input_ids": ids, "attention_mask": mask, "token_type_ids": ids % 2}
        batch = {name: batch[name] for name in inputs}
        found = session.run(None, {name: tensor.numpy() for name, tensor in batch.items()})[0]
        with torch.inference_mode():
            torch.testing.assert_close(torch.from_numpy(found), model(**batch)[output], atol=1e-5, rtol=1e-5)


def test_missing_packages_are_named_with_the_command_that_installs_them(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs onnx, onnxscript: pip install 'bertpress\[onnx\]'"):
        onnx_export.export_onnx(build(BertpressModel, SHARED), tmp_path / "model.onnx")
