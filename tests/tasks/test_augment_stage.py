"""The augment stage: its inputs, its product, and the stages that train on it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from tiny_models import WORDS, frame, tiny_classifier, tiny_config, tiny_encoder_folder, tiny_tokenizer
from transformers import BertForMaskedLM

from compression.architecture.checkpoint import load_classifier, save_checkpoint
from compression.augmentation.config import AugmentConfig
from compression.augmentation.shards import read_rows
from compression.data.config import TaskConfig
from compression.data.load import load_task
from compression.distillation.config import TaskDistillConfig
from compression.errors import UserError
from compression.training.finetune_config import FinetuneConfig
from tasks.stages.augment import Augment
from tasks.stages.base import External, StageRequest
from tasks.stages.finetune import Finetune
from tasks.stages.task_distill import TaskDistill

TASK = TaskConfig(name="films", files={"train": "films.csv"}, max_length=24)
FAST = {"epochs": 1, "batch_size": 8, "learning_rate": 1e-2}


@pytest.fixture
def roots(tmp_path) -> tuple[Path, ...]:
    rows = frame(60, 1)
    rows["label"] = np.where(rows["label"] == 1, "good", "bad")
    rows[["text", "label"]].to_csv(tmp_path / "films.csv", index=False)
    lines = [f"{word} {number} {number % 3} 1" for number, word in enumerate(WORDS[5:])]
    (tmp_path / "vectors.txt").write_text("\n".join(lines))
    return (tmp_path,)


@pytest.fixture
def models(tmp_path) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_checkpoint(BertForMaskedLM(tiny_config(initializer_range=0.5)), tiny_tokenizer(), tmp_path / "masked")
    teacher = tiny_classifier(seed=3, initializer_range=0.5)
    teacher.config.id2label, teacher.config.label2id = {0: "bad", 1: "good"}, {"bad": 0, "good": 1}
    save_checkpoint(teacher, tiny_tokenizer(), tmp_path / "teacher")
    return tmp_path


def request(roots, config, inputs, name="output", **changes) -> StageRequest:
    output, work = roots[0] / name, roots[0] / f"{name}-work"
    output.mkdir()
    work.mkdir(exist_ok=True)
    return StageRequest(config, inputs, output, work, task=TASK, roots=roots, cache=roots[0] / "cache", **changes)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("config", "roles", "external"),
    [
        ({}, ("encoder",), {"vectors", "vocabulary"}),
        ({"masked_lm": "chain"}, ("model",), {"vectors", "vocabulary"}),
        ({"masked_lm": "bert-base-uncased", "vectors": "glove.txt"}, (), {"masked_lm", "vectors"}),
        ({"method": "glove"}, (), {"vectors", "vocabulary"}),
        ({"method": "mlm"}, ("encoder",), set()),
        ({"method": "eda"}, (), set()),
        ({"method": "eda", "max_shift": 0.3}, ("teacher",), set()),
        ({"method": "none", "quality_sample": 5}, ("teacher",), set()),
        ({"method": "unlabelled", "unlabelled": "more.txt"}, ("teacher",), {"unlabelled"}),
    ],
)
def test_inputs_follow_from_the_configuration(config, roles, external):
    made = AugmentConfig(**config)
    assert Augment().roles(made) == roles
    assert set(Augment().external(made)) == external


def test_external_inputs():
    config = AugmentConfig(masked_lm="bert-base-uncased", masked_lm_revision="main", vectors="glove.txt")
    assert Augment().external(config) == {
        "masked_lm": External("model", "bert-base-uncased", "main"),
        "vectors": External("file", "glove.txt"),
    }


@pytest.mark.parametrize(
    ("config", "random"),
    [({}, True), ({"method": "eda"}, True), ({"seed": 3}, False), ({"method": "none"}, False), ({"copies": 0}, False)],
)
def test_what_depends_on_the_seed(config, random):
    assert Augment().is_random(AugmentConfig(**config)) is random


def test_rows_and_report(roots, models):
    config = AugmentConfig(copies=3, candidates=4, vectors="vectors.txt", quality_sample=10)
    inputs = {"encoder": models / "masked", "teacher": models / "teacher", "vectors": roots[0] / "vectors.txt"}
    asked = request(roots, config, inputs)
    summary = Augment().run(asked)
    assert {path.name for path in asked.output.iterdir()} == {"train-00000.parquet", "quality.json"}
    train = load_task(TASK, roots).train
    rows = read_rows(asked.output)
    pandas.testing.assert_frame_equal(
        rows[rows["copy"] == 0].drop(columns="copy").reset_index(drop=True), train.reset_index(drop=True)
    )
    assert len(rows) > 2 * len(train)
    assert json.loads(json.dumps(summary)) == summary
    assert summary["quality"]["rows"] == len(rows)
    assert summary["quality"]["judged"] > 0
    assert "examples" in json.loads((asked.output / "quality.json").read_text())


def test_candidates_are_shared_by_what_differs_in_seed_copies_and_filter_alone(roots, models, monkeypatch):
    from compression.augmentation.masked_words import MaskedWordModel

    asked_texts = []
    read = MaskedWordModel.read
    monkeypatch.setattr(
        MaskedWordModel, "read", lambda self, texts, stop: asked_texts.append(len(texts)) or read(self, texts, stop)
    )
    inputs = {"encoder": models / "masked", "teacher": models / "teacher", "vectors": roots[0] / "vectors.txt"}
    outputs = []
    for number, (seed, changes) in enumerate(
        [(0, {}), (1, {}), (0, {"copies": 5, "max_shift": 0.5}), (0, {"candidates": 3})]
    ):
        config = AugmentConfig(**{"copies": 3, "candidates": 4, "vectors": "vectors.txt", **changes})
        made = request(roots, config, inputs, name=f"o{number}", seed=seed)
        Augment().run(made)
        outputs.append(content(made.output))
    assert len(asked_texts) == 2, "anew for another number of candidates alone"
    assert len({output["train-00000.parquet"] for output in outputs}) == 4
    shutil.rmtree(roots[0] / "cache")
    made = request(roots, AugmentConfig(copies=3, candidates=4, vectors="vectors.txt"), inputs, name="again")
    Augment().run(made)
    assert content(made.output) == outputs[0], "the cache may vanish"


def test_one_seed_for_the_whole_study(roots, models):
    config = AugmentConfig(method="mlm", copies=3, candidates=4, seed=7)
    for name, seed in (("a", 0), ("b", 1)):
        Augment().run(request(roots, config, {"encoder": models / "masked"}, name=name, seed=seed))
    assert content(roots[0] / "a") == content(roots[0] / "b")
    other = config.model_copy(update={"seed": 8})
    Augment().run(request(roots, other, {"encoder": models / "masked"}, name="c"))
    assert content(roots[0] / "a") != content(roots[0] / "c")


@pytest.mark.parametrize("stage", [Finetune(), TaskDistill()], ids=lambda stage: stage.kind)
def test_later_stages_train_on_the_rows(roots, models, stage):
    Augment().run(
        request(roots, AugmentConfig(method="mlm", copies=3, candidates=4), {"encoder": models / "masked"}, name="rows")
    )
    config_model = FinetuneConfig if stage.kind == "finetune" else TaskDistillConfig
    inputs = {
        "encoder": tiny_encoder_folder(roots[0] / "encoder"),
        "teacher": models / "teacher",
        "data": roots[0] / "rows",
    }
    asked = request(roots, config_model(student={"layers": [0]}, **FAST), inputs)
    summary = stage.run(asked)
    rows = read_rows(roots[0] / "rows")
    assert summary["training"]["steps"] == -(-len(rows) // 8)
    assert load_classifier(asked.output).config.num_hidden_layers == 1
    plain = request(roots, config_model(student={"layers": [0]}, **FAST), inputs | {"data": None}, name="plain")
    plain.inputs.pop("data")
    assert stage.run(plain)["training"]["steps"] < summary["training"]["steps"]


def test_rows_can_be_augmented_again(roots, models):
    Augment().run(request(roots, AugmentConfig(method="eda", copies=2), {}, name="first"))
    again = request(roots, AugmentConfig(method="eda", copies=1), {"data": roots[0] / "first"}, name="second")
    Augment().run(again)
    first, second = read_rows(roots[0] / "first"), read_rows(again.output)
    assert len(second) > len(first) > len(load_task(TASK, roots).train)
    assert set(first["text"]) <= set(second["text"])


def test_the_numbers_of_the_released_code():
    config = AugmentConfig(copies="tinybert")
    assert Augment().for_task(config, TaskConfig(name="rte")).copies == 30
    with pytest.raises(UserError, match="no number for task 'films'"):
        Augment().for_task(config, TASK)
