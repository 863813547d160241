"""Conversion of model folders from the command line."""

import sys

import pytest
import torch
from tiny_models import tiny_encoder_folder
from transformers import AutoModel

from compression.errors import UserError
from flows.command_line import main
from flows.model_folders import convert_folder

INPUTS = {"input_ids": torch.tensor([[2, 5, 9, 3]])}


def hidden(folder):
    with torch.inference_mode():
        return AutoModel.from_pretrained(folder).eval()(**INPUTS).last_hidden_state


def test_there_and_back_by_folders(tmp_path):
    source = tiny_encoder_folder(tmp_path / "bert")
    ours, back = tmp_path / "ours", tmp_path / "back"
    assert convert_folder(str(source), ours, "bertpress", code=True).startswith("BertpressModel as bertpress: ")
    assert (ours / "modeling_bertpress.py").is_file()
    convert_folder(str(ours), back, "plain")
    assert type(AutoModel.from_pretrained(ours)).__name__ == "BertpressModel"
    assert type(AutoModel.from_pretrained(back)).__name__ == "BertModel"
    torch.testing.assert_close(hidden(source), hidden(ours), atol=1e-5, rtol=0)
    assert torch.equal(hidden(source), hidden(back))
    assert (source / "model.safetensors").read_bytes() == (back / "model.safetensors").read_bytes()


def test_what_cannot_be_written_is_refused_and_leaves_nothing(tmp_path):
    source = str(tiny_encoder_folder(tmp_path / "bert"))
    for target, form, code, message in (
        (tmp_path / "new", "onyx", False, "unknown form 'onyx'; allowed: bertpress, plain, onnx; did you mean 'onnx'"),
        (tmp_path / "new", "plain", True, "needs no code of bertpress"),
        (tmp_path, "plain", False, "is there already"),
    ):
        with pytest.raises(UserError, match=message):
            convert_folder(source, target, form, code=code)
    assert [path.name for path in tmp_path.iterdir()] == ["bert"]


def test_the_command(tmp_path, monkeypatch, capsys):
    source = tiny_encoder_folder(tmp_path / "bert")
    monkeypatch.setattr(sys, "argv", ["bertpress", "convert", str(source), str(tmp_path / "ours")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (0, None)
    assert "BertpressModel as bertpress" in capsys.readouterr().out
    assert (tmp_path / "ours" / "config.json").is_file()
