"""The quantize and evaluate stages: what they leave in their folder, and what travels in their summary."""

import json
import subprocess
import sys
from pathlib import Path

import pandas
import pytest
from tiny_models import sentences, tiny_classifier, tiny_tokenizer

from compression.architecture.checkpoint import save_checkpoint
from compression.data.config import TaskConfig
from compression.errors import CheckpointError, UserError
from compression.evaluation.config import EvaluateConfig
from compression.evaluation.metrics import compute
from compression.quantization import load_quantized
from compression.quantization.config import QuantizeConfig
from compression.runtime import Runtime
from tasks.invocation import StageInvocation, implementation_of
from tasks.stages.base import StageRequest
from tasks.stages.evaluate import Evaluate
from tasks.stages.quantize import Quantize


@pytest.fixture
def classifier(tmp_path):
    model = tiny_classifier()
    model.config.id2label, model.config.label2id = {0: "bad", 1: "good"}, {"bad": 0, "good": 1}
    save_checkpoint(model, tiny_tokenizer(), tmp_path / "classifier")
    return tmp_path / "classifier"


def run(stage, config, model, folder, name="product", **given):
    output = folder / name
    output.mkdir()
    work = folder / "work"
    work.mkdir(exist_ok=True)
    return stage.run(StageRequest(config=config, inputs={"model": model}, output=output, work=work, **given)), output


def task(folder):
    texts, labels = sentences(60, seed=4)
    names = [("bad", "good")[label] for label in labels]
    pandas.DataFrame({"text": texts, "label": names}).to_csv(folder / "films.csv", index=False)
    return TaskConfig(name="films", files={"train": "films.csv"}, evaluation_fraction=0.4)


def test_quantize_writes_an_ordinary_smaller_folder(classifier, tmp_path):
    summary, output = run(Quantize(), QuantizeConfig(), classifier, tmp_path)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in output.iterdir()}
    assert summary["bytes"] < summary["bytes_before"]
    assert summary["parameters"] == sum(weight.numel() for weight in tiny_classifier().parameters())
    load_quantized(output)


def test_quantize_gives_the_same_bytes_every_time(classifier, tmp_path):
    _, one = run(Quantize(), QuantizeConfig(), classifier, tmp_path, "one")
    _, two = run(Quantize(), QuantizeConfig(), classifier, tmp_path, "two")
    assert {path.name: path.read_bytes() for path in one.iterdir()} == {
        path.name: path.read_bytes() for path in two.iterdir()
    }


def test_quantizing_twice_is_refused(classifier, tmp_path):
    _, once = run(Quantize(), QuantizeConfig(), classifier, tmp_path)
    with pytest.raises(CheckpointError, match="quantized"):
        run(Quantize(), QuantizeConfig(), once, tmp_path, "twice")


@pytest.mark.parametrize("quantized", [False, True])
def test_evaluate_leaves_predictions_that_give_its_metrics(classifier, tmp_path, quantized):
    model = run(Quantize(), QuantizeConfig(), classifier, tmp_path, "int8")[1] if quantized else classifier
    config = EvaluateConfig(latency_length=8, latency_warmup=1, latency_repeats=5)
    summary, output = run(Evaluate(), config, model, tmp_path, task=task(tmp_path), roots=(tmp_path,))
    table = pandas.read_parquet(output / "predictions.parquet")
    assert len(table) == summary["examples"][""] == 24
    logits = table[["logit_0", "logit_1"]].to_numpy()
    scores = compute(["accuracy", "macro_f1"], table["gold"].to_numpy(), logits, "classification")
    assert summary["metrics"] == pytest.approx(scores)
    assert len(summary["efficiency"]["latency_ms"]["samples"]) == 5
    assert bool(summary["environment"]["kernel"]) == quantized
    # The summary travels as JSON; the folder holds only what is the same on every machine and every day.
    assert json.loads(json.dumps(summary)) == summary
    stored = json.loads((output / "metrics.json").read_text())
    assert stored["metrics"] == summary["metrics"]
    assert "latency_ms" not in json.dumps(stored)


def test_evaluate_gives_the_same_folder_every_time(classifier, tmp_path):
    config = EvaluateConfig(latency_length=8, latency_warmup=1, latency_repeats=5)
    given = {"task": task(tmp_path), "roots": (tmp_path,)}
    _, one = run(Evaluate(), config, classifier, tmp_path, "one", **given)
    _, two = run(Evaluate(), config, classifier, tmp_path, "two", **given)
    for name in ("predictions.parquet", "metrics.json"):
        assert (one / name).read_bytes() == (two / name).read_bytes()


def test_planning_loads_no_heavy_library():
    code = (
        "import sys, tasks.stages.evaluate, tasks.stages.quantize\n"
        "heavy = {'torch', 'transformers', 'sklearn', 'scipy', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="instruction sets are read on Linux")
def test_the_key_of_evaluate_knows_what_chooses_the_int8_kernel():
    import torch

    found = {name for name, there in torch.cpu.get_capabilities().items() if there}
    instructions = Evaluate().environment(Runtime())["int8_instructions"]
    assert set(instructions.split()) == found & {"avx2", "avx512_vnni", "avx_vnni"}
    assert "int8_instructions" not in Evaluate().environment(Runtime(device="cuda"))
    assert "int8_instructions" not in Quantize().environment(Runtime())
    invocation = StageInvocation(implementation=implementation_of(Evaluate()), config={})
    assert invocation.key_parts(Runtime())["environment"]["int8_instructions"] == instructions


def test_quantize_reads_what_its_scheme_needs_and_no_more():
    stage = Quantize()
    assert stage.reads(QuantizeConfig()) == ()
    assert stage.reads(QuantizeConfig(scheme="int8-static")) == ("train",)
    assert stage.reads(QuantizeConfig(scheme="int8-qat")) == ("train", "selection")
    assert stage.reads(QuantizeConfig(scheme="int4-weight", mixed={})) == ("selection",)
    assert stage.reads(QuantizeConfig(scheme="int4-weight", mixed={"fallback": "int8-static"})) == (
        "train",
        "selection",
    )
    assert [stage.is_random(QuantizeConfig(scheme=scheme)) for scheme in ("int8-static", "int8-qat")] == [False, True]


def test_outputs_that_cannot_be_compared_are_refused_before_a_run():
    spans, classes = TaskConfig(name="squad"), TaskConfig(name="sst2")
    for config in (QuantizeConfig(mixed={}), QuantizeConfig(scheme="int8-qat", qat={"soft_weight": 1})):
        assert Quantize().for_task(config, classes) == config
        with pytest.raises(UserError, match="not of span: leave them out"):
            Quantize().for_task(config, spans)
    Quantize().for_task(QuantizeConfig(scheme="int8-static"), spans)


@pytest.mark.parametrize(
    "options", [{"scheme": "int8-static", "backend": "onnxruntime"}, {"scheme": "int8-qat", "qat": {"epochs": 1}}]
)
def test_schemes_that_look_at_data_leave_the_same_folder_every_time(classifier, tmp_path, options):
    given = {"task": task(tmp_path), "roots": (tmp_path,)}
    config = QuantizeConfig(**options)
    summary, one = run(Quantize(), config, classifier, tmp_path, "one", **given)
    _, two = run(Quantize(), config, classifier, tmp_path, "two", **given)
    assert {path.name: path.read_bytes() for path in one.iterdir()} == {
        path.name: path.read_bytes() for path in two.iterdir()
    }
    assert json.loads(json.dumps(summary)) == summary
    assert ("training" in summary) == ((one / "history.jsonl").exists()) == (options["scheme"] == "int8-qat")
    measured = EvaluateConfig(latency_length=8, latency_warmup=1, latency_repeats=5)
    found = run(Evaluate(), measured, one, tmp_path, "measured", **given)[0]
    assert found["environment"]["kernel"].startswith("onnxruntime") == ("backend" in options)
    assert found["efficiency"]["parameters"] == summary["parameters"]
    assert found["efficiency"]["bytes"] == summary["bytes"]
