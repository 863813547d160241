"""The `prune` stage: from folder to folder, in chains, in the cache key."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import frame, tiny_classifier, tiny_encoder_folder, tiny_tokenizer

from compression.architecture.checkpoint import load_classifier, load_tokenizer, save_checkpoint
from compression.architecture.editing import load_editable
from compression.data.config import TaskConfig
from compression.pruning.config import PruneConfig
from compression.training.finetune_config import FinetuneConfig
from flows.chain_rules import broken_rule
from tasks.stages.base import StageRequest
from tasks.stages.finetune import Finetune
from tasks.stages.prune import Prune
from tasks.stages.registry import stages

TASK = TaskConfig(name="films", files={"train": "films.csv"}, max_length=24)
TRAINING = {"epochs": 0.5, "batch_size": 8, "learning_rate": 1e-2}


@pytest.fixture
def roots(tmp_path) -> tuple[Path, ...]:
    folder = tmp_path / "data"
    folder.mkdir()
    rows = frame(60, 1)
    rows["label"] = np.where(rows["label"] == 1, "good", "bad")
    rows[["text", "label"]].to_csv(folder / "films.csv", index=False)
    return (folder,)


@pytest.fixture
def teacher(tmp_path) -> Path:
    model = tiny_classifier(seed=3)
    model.config.id2label, model.config.label2id = {0: "bad", 1: "good"}, {"bad": 0, "good": 1}
    save_checkpoint(model, tiny_tokenizer(), tmp_path / "teacher")
    return tmp_path / "teacher"


def run(tmp_path, roots, stage, config, inputs, name="output", **changes):
    output, work = tmp_path / name, tmp_path / f"{name}-work"
    output.mkdir()
    work.mkdir()
    summary = stage.run(StageRequest(config, inputs, output, work, task=TASK, roots=roots, **changes))
    assert json.loads(json.dumps(summary)) == summary
    return output, summary


@pytest.mark.parametrize(
    "fields",
    [
        {"heads": {"count": 3}},
        {"structured": {"sparsity": 0.5}},
        {"layers": {"count": 1, "strategy": "contribution"}},
        {"weights": {"sparsity": 0.5}},
        {"vocabulary": {}},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_leaves_an_ordinary_checkpoint_and_the_same_bytes_for_the_same_request(tmp_path, roots, teacher, fields):
    config = PruneConfig(**fields)
    outputs = [run(tmp_path, roots, Prune(), config, {"model": teacher}, name)[0] for name in ("a", "b")]
    first, second = ({path.name: path.read_bytes() for path in output.iterdir()} for output in outputs)
    assert first == second
    assert set(first) == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "pruning.json"}
    model, tokenizer = load_classifier(outputs[0]), load_tokenizer(outputs[0])
    assert model.config.id2label == {0: "bad", 1: "good"}
    with torch.inference_mode():
        assert torch.isfinite(model(**tokenizer("good film", return_tensors="pt")).logits).all()


def test_a_pruned_model_can_be_recovered_and_pruned_again(tmp_path, roots, teacher):
    pruned, _ = run(tmp_path, roots, Prune(), PruneConfig(heads={"count": 3}), {"model": teacher}, "pruned")
    tuned, _ = run(tmp_path, roots, Finetune(), FinetuneConfig(**TRAINING), {"model": pruned}, "tuned")
    assert load_editable(tuned).config.attention_heads == load_editable(pruned).config.attention_heads
    again, summary = run(tmp_path, roots, Prune(), PruneConfig(neurons={"sparsity": 0.5}), {"model": tuned}, "again")
    assert summary["removed"]["heads"] == [0, 0, 0]
    assert sum(load_editable(again).config.attention_heads) == 3


def test_an_encoder_without_a_head_stays_one(tmp_path, roots):
    encoder = tiny_encoder_folder(tmp_path / "encoder")
    config = PruneConfig(neurons={"sparsity": 0.5, "importance": "magnitude"})
    output, _ = run(tmp_path, roots, Prune(), config, {"model": encoder})
    assert type(load_editable(output)).__name__ == "BertpressModel"


def test_gradual_pruning_tells_of_its_training(tmp_path, roots, teacher):
    config = PruneConfig(weights={"training": TRAINING})
    output, summary = run(tmp_path, roots, Prune(), config, {"model": teacher})
    assert (output / "history.jsonl").exists()
    assert summary["training"]["steps"] == 4
    assert {"loss", "selection_accuracy"} == summary["final"].keys()


def test_what_is_read_and_what_is_random():
    stage = Prune()
    cases = {
        "heads": ({"heads": {"count": 1}}, ("train",), False),
        "random": ({"heads": {"count": 1, "importance": "random"}}, (), True),
        "layers": ({"layers": {"count": 1}}, (), False),
        "rounds": ({"heads": {"count": 2}, "iterations": 2, "recovery": {}}, ("train", "selection"), True),
    }
    for name, (fields, splits, random) in cases.items():
        config = PruneConfig(**fields)
        assert (stage.reads(config), stage.is_random(config)) == (splits, random), name
    corpus = PruneConfig(vocabulary={}, corpus="more.txt")
    assert stage.corpus(corpus).files == ("more.txt",)


def test_order_of_stages_is_judged_by_what_the_configuration_needs():
    def broken(fields):
        configs = [PruneConfig(**fields), FinetuneConfig(), None]
        chain = [("prune", False), ("finetune", False), ("evaluate", False)]
        return broken_rule(chain, finetuned=False, registry=stages(), configs=configs)

    assert broken({"layers": {"count": 1}}) is None
    needs_loss = "`prune` cannot follow the pretrained encoder: it needs a classifier's loss to tell importance"
    assert broken({"heads": {"count": 1}}) == (0, needs_loss)
    assert broken({"weights": {"training": {}}})[1].endswith("it needs a classifier to train")
    assert broken_rule([("prune", False), ("evaluate", False)], finetuned=False, registry=stages())[0] == 1


def test_a_plan_says_what_its_sizes_leave_open():
    def remarks(fields):
        return Prune().remarks(PruneConfig(**fields), None, None)

    assert "80% of the layers' weights become 0" in remarks({"weights": {"sparsity": 0.8}})[0]
    assert remarks({"structured": {"sparsity": 0.5}})
    assert remarks({"vocabulary": {}})
    assert remarks({"heads": {"count": 1}}) == ()


def test_planning_imports_neither_torch_nor_transformers():
    code = (
        "import sys, tasks.stages.prune;"
        "print([name for name in ('torch', 'transformers', 'pandas', 'accelerate') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert done.stdout.strip() == "[]"
