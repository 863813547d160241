"""What is counted and how passes are timed; never how long they took."""

import gc
import json

import pytest
import torch
from tiny_models import WORDS, tiny_classifier, tiny_tokenizer
from torch import nn

from compression.architecture.checkpoint import save_checkpoint
from compression.control import Control
from compression.errors import Interrupted
from compression.evaluation.efficiency import bytes_on_disk, environment, latency, latency_inputs
from compression.training.precision import torch_threads


class Watching(nn.Module):
    """Notes under which conditions it was called."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, input_ids, attention_mask):
        self.calls.append((torch.get_num_threads(), gc.isenabled(), torch.is_inference_mode_enabled()))
        return input_ids


@pytest.fixture
def inputs():
    return latency_inputs(tiny_tokenizer(), 8)


def test_bytes_are_those_of_config_and_weights_alone(tmp_path):
    save_checkpoint(tiny_classifier(), tiny_tokenizer(), tmp_path)
    (tmp_path / "history.jsonl").write_text("{}" * 100)
    expected = sum((tmp_path / name).stat().st_size for name in ("config.json", "model.safetensors"))
    assert bytes_on_disk(tmp_path) == expected
    assert (tmp_path / "tokenizer.json").stat().st_size > 0


def test_inputs_are_fixed_real_word_pieces_between_the_special_tokens(inputs):
    ids = inputs["input_ids"]
    assert ids.shape == inputs["attention_mask"].shape == (1, 8)
    assert inputs["attention_mask"].all()
    words = [WORDS[index] for index in ids[0].tolist()]
    assert (words[0], words[-1]) == ("[CLS]", "[SEP]")
    assert all(word.isalpha() for word in words[1:-1])
    assert len(set(words[1:-1])) > 1
    assert latency_inputs(tiny_tokenizer(), 8)["input_ids"].equal(ids)


def test_passes_are_warmed_up_pinned_and_counted(inputs):
    threads, model = torch.get_num_threads(), Watching()
    timing = latency(model, inputs, warmup=3, repeats=6, threads=2, control=Control())
    assert model.calls == [(2, False, True)] * 9
    assert (torch.get_num_threads(), gc.isenabled()) == (threads, True)
    assert len(timing["samples"]) == 6
    assert (timing["repeats"], timing["threads"], timing["length"]) == (6, 2, 8)


def test_summary_is_the_quartiles_of_the_passes(inputs):
    timing = latency(tiny_classifier(), inputs, warmup=1, repeats=9, threads=1)
    ordered = sorted(timing["samples"])
    assert (timing["q1"], timing["median"], timing["q3"]) == pytest.approx(
        (ordered[2], ordered[4], ordered[6]), abs=1e-3
    )
    assert ordered[7] - 1e-3 <= timing["p95"] <= ordered[8] + 1e-3
    assert timing["cpu_median"] > 0
    json.dumps(timing)


def test_threads_and_garbage_collector_are_restored_when_a_pass_fails(inputs):
    class Broken(nn.Module):
        def forward(self, input_ids, attention_mask):
            raise RuntimeError

    threads = torch.get_num_threads()
    with pytest.raises(RuntimeError):
        latency(Broken(), inputs, warmup=1, repeats=5, threads=threads + 1)
    assert (torch.get_num_threads(), gc.isenabled()) == (threads, True)


def test_a_stop_request_is_honoured_between_passes(inputs):
    model = Watching()
    with pytest.raises(Interrupted):
        latency(
            model, inputs, warmup=1, repeats=99, threads=1, control=Control(should_stop=lambda: len(model.calls) >= 4)
        )
    assert len(model.calls) == 4


def test_pinned_threads_nest():
    before = torch.get_num_threads()
    with torch_threads(1), torch_threads(2):
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == before


def test_environment_names_the_machine():
    machine = environment("cpu")
    assert machine["cpu"]
    assert machine["accelerator"] is None
    json.dumps(machine)
