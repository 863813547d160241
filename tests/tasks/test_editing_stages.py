"""The factorize and share stages: what they leave, what they read, and that other stages go on from there."""

import json
import subprocess
import sys

import pandas
import pytest
import torch
from tiny_models import WORDS, sentences, tiny_classifier, tiny_encoder_folder, tiny_tokenizer

from compression.architecture.checkpoint import load_classifier, save_checkpoint
from compression.architecture.conversion import shape_of_model
from compression.architecture.editing import load_editable
from compression.data.config import TaskConfig
from compression.factorization.config import FactorizeConfig
from compression.quantization import load_quantized
from compression.quantization.config import QuantizeConfig
from compression.sharing.config import ShareConfig
from compression.training.finetune_config import FinetuneConfig
from tasks.stages.base import StageRequest
from tasks.stages.factorize import Factorize
from tasks.stages.finetune import Finetune
from tasks.stages.quantize import Quantize
from tasks.stages.share import Share


@pytest.fixture
def classifier(tmp_path):
    model = tiny_classifier()
    model.config.id2label, model.config.label2id = {0: "bad", 1: "good"}, {"bad": 0, "good": 1}
    save_checkpoint(model, tiny_tokenizer(), tmp_path / "classifier")
    return tmp_path / "classifier"


@pytest.fixture
def films(tmp_path):
    texts, labels = sentences(60, seed=4)
    names = [("bad", "good")[label] for label in labels]
    pandas.DataFrame({"text": texts, "label": names}).to_csv(tmp_path / "films.csv", index=False)
    return {"task": TaskConfig(name="films", files={"train": "films.csv"}, max_length=24), "roots": (tmp_path,)}


def run(stage, config, model, folder, name="product", *, role="model", **given):
    output, work = folder / name, folder / "work"
    output.mkdir()
    work.mkdir(exist_ok=True)
    summary = stage.run(StageRequest(config=config, inputs={role: model}, output=output, work=work, **given))
    assert json.loads(json.dumps(summary)) == summary, "the summary travels as JSON"
    return summary, output


CONFIGS = [
    (Factorize(), FactorizeConfig(embedding={"rank": 4}, linear={"ratio": 0.5}), "factorization.json"),
    (Factorize(), FactorizeConfig(embedding={"energy": 0.4, "weighting": "frequency"}), "factorization.json"),
    (Factorize(), FactorizeConfig(linear={"rank": 3, "weighting": "activations"}), "factorization.json"),
    (Share(), ShareConfig(mode="ffn", initialisation="mean"), "sharing.json"),
    (Share(), ShareConfig(groups=3, initialisation="best"), "sharing.json"),
]


@pytest.mark.parametrize(("stage", "config", "details"), CONFIGS)
def test_a_classifier_stays_one_of_the_shape_that_was_foretold(classifier, films, tmp_path, stage, config, details):
    given = films if stage.reads(config) else {}
    summary, output = run(stage, config, classifier, tmp_path, **given)
    _, again = run(stage, config, classifier, tmp_path, "again", **given)
    assert {path.name: path.read_bytes() for path in output.iterdir()} == {
        path.name: path.read_bytes() for path in again.iterdir()
    }
    edited = load_classifier(output)
    assert edited.config.id2label == {0: "bad", 1: "good"}
    assert {"config.json", "model.safetensors", "tokenizer.json", details} <= {path.name for path in output.iterdir()}
    foretold = stage.reshape(config, shape_of_model(load_editable(classifier)))
    if not (config.model_dump().get("embedding") or {}).get("energy"):
        assert shape_of_model(edited) == foretold
    assert summary["parameters"] == sum(weight.numel() for weight in edited.parameters())
    assert json.loads((output / details).read_text())["parameters_after"] == summary["parameters"]


def test_a_bare_encoder_stays_one(tmp_path):
    folder = tiny_encoder_folder(tmp_path / "encoder")
    for stage, config in ((Share(), ShareConfig()), (Factorize(), FactorizeConfig(linear={"rank": 2}))):
        _, output = run(stage, config, folder, tmp_path, stage.kind)
        assert type(load_editable(output)).__name__ == "BertpressModel"


@pytest.mark.parametrize(("stage", "config", "details"), [CONFIGS[0], CONFIGS[3]])
def test_training_and_quantization_go_on_from_there(classifier, films, tmp_path, stage, config, details):
    _, edited = run(stage, config, classifier, tmp_path)
    _, tuned = run(Finetune(), FinetuneConfig(epochs=1, batch_size=8), edited, tmp_path, "tuned", **films)
    before, after = load_classifier(edited), load_classifier(tuned)
    assert shape_of_model(after) == shape_of_model(before)
    assert any(not torch.equal(*pair) for pair in zip(before.parameters(), after.parameters(), strict=True))
    _, small = run(Quantize(), QuantizeConfig(), tuned, tmp_path, "small")
    pieces = torch.tensor([[2, 5, len(WORDS) - 1, 3]])
    with torch.inference_mode():
        drift = (load_quantized(small)(pieces).logits - after(pieces).logits).abs().max()
    assert drift < 0.05
    assert not (tuned / details).exists()


def test_a_fresh_student_differs_by_seed_and_needs_no_model_before_it(tmp_path):
    folder = tiny_encoder_folder(tmp_path / "encoder")
    config = ShareConfig(student="bert-tiny")
    assert Share().is_random(config)
    assert Share().roles(config) == ("encoder",)
    made = [
        load_editable(run(Share(), config, folder, tmp_path, str(seed), role="encoder", seed=seed)[1])
        for seed in (0, 1)
    ]
    assert not torch.equal(made[0].attention[0].query.weight, made[1].attention[0].query.weight)
    shape = Share().reshape(config, shape_of_model(load_editable(folder)))
    assert shape_of_model(made[0]) == shape
    assert (shape.layers, len(shape.attention_heads)) == (2, 1)


@pytest.mark.parametrize(
    ("config", "random", "splits"),
    [
        (ShareConfig(), False, ()),
        (ShareConfig(initialisation="best"), False, ("train",)),
        (ShareConfig(initialisation="best", mode="none"), False, ()),
        (ShareConfig(student={"layers": [0, 2]}), False, ()),
        (ShareConfig(student={"layers": [0, 2], "pooler": False}), True, ()),
        (FactorizeConfig(embedding={"rank": 4}), False, ()),
        (FactorizeConfig(embedding={"rank": 4, "weighting": "frequency"}), False, ("train",)),
        (FactorizeConfig(linear={"rank": 4, "weighting": "activations"}), False, ("train",)),
    ],
)
def test_seed_and_task_enter_only_where_the_options_need_them(config, random, splits):
    stage = Share() if isinstance(config, ShareConfig) else Factorize()
    assert (stage.is_random(config), stage.reads(config)) == (random, splits)


def test_planning_loads_no_heavy_library():
    code = (
        "import sys, tasks.stages.factorize, tasks.stages.share\n"
        "heavy = {'torch', 'transformers', 'sklearn', 'scipy', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
