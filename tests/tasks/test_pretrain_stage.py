import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import WORDS, frame, tiny_encoder_folder, tiny_tokenizer
from transformers import AutoModelForMaskedLM, AutoTokenizer

from compression.architecture.checkpoint import load_classifier
from compression.architecture.masked_lm import load_masked_lm
from compression.control import Control
from compression.data.config import TaskConfig
from compression.errors import Interrupted, UserError
from compression.pretraining.config import PretrainConfig
from compression.training.finetune_config import FinetuneConfig
from tasks.stages.base import StageRequest
from tasks.stages.finetune import Finetune
from tasks.stages.pretrain import Pretrain

TASK = TaskConfig(name="films", files={"train": "films.csv"}, max_length=24)


@pytest.fixture
def roots(tmp_path) -> tuple[Path, ...]:
    folder = tmp_path / "data"
    folder.mkdir()
    random = np.random.default_rng(0)
    (folder / "texts.txt").write_text(
        "\n".join(" ".join(random.choice(WORDS[5:], random.integers(3, 30))) for _ in range(60))
    )
    rows = frame(60, 1)
    rows["label"] = np.where(rows["label"] == 1, "good", "bad")
    rows[["text", "label"]].to_csv(folder / "films.csv", index=False)
    return (folder,)


@pytest.fixture
def encoder(tmp_path) -> Path:
    return tiny_encoder_folder(tmp_path / "encoder")


def config(**changes) -> PretrainConfig:
    corpus = {"files": "texts.txt", "validation_fraction": 0.2, **changes.pop("corpus", {})}
    return PretrainConfig(corpus=corpus, **{"batch_size": 8, "max_length": 16, "learning_rate": 1e-2, **changes})


def request(tmp_path, roots, settings, inputs, name="output", **changes) -> StageRequest:
    output, work = tmp_path / name, tmp_path / changes.pop("work", f"work-{name}")
    output.mkdir()
    work.mkdir(exist_ok=True)
    return StageRequest(settings, inputs, output, work, roots=roots, **changes)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_it_leaves_an_encoder_with_its_head(tmp_path, roots, encoder):
    before = content(encoder)
    asked = request(tmp_path, roots, config(), {"model": encoder})
    summary = Pretrain().run(asked)
    assert set(content(asked.output)) == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "history.jsonl"}  # fmt: skip
    assert AutoTokenizer.from_pretrained(asked.output)("good film")["input_ids"] == [2, 5, 12, 3]
    model = AutoModelForMaskedLM.from_pretrained(asked.output)
    assert summary["parameters"] == sum(p.numel() for p in load_masked_lm(asked.output).parameters())
    assert summary["parameters"] > sum(p.numel() for p in model.parameters()), "the pooler is there as well"
    assert json.loads(json.dumps(summary)) == summary
    assert set(summary["final"]) == {"loss", "validation_loss", "validation_perplexity", "validation_accuracy"}
    assert summary["corpus"]["limited"] is False
    assert content(encoder) == before
    tuned = request(tmp_path, roots, FinetuneConfig(epochs=1), {"model": asked.output}, "tuned", task=TASK)
    Finetune().run(tuned)
    assert load_classifier(tuned.output).config.num_labels == 2


@pytest.mark.parametrize("objective", ["masked_lm", "masked_lm+sentence_order"])
def test_a_student_from_scratch(tmp_path, roots, encoder, objective):
    settings = config(student="bert-tiny", objective=objective, steps=2, corpus={"cross_documents": False})
    assert Pretrain().roles(settings) == ("encoder",)
    asked = request(tmp_path, roots, settings, {"encoder": encoder})
    summary = Pretrain().run(asked)
    assert ("validation_pair_accuracy" in summary["final"]) == (objective != "masked_lm")
    model = load_masked_lm(asked.output, sentence_head=objective != "masked_lm")
    assert (model.config.num_hidden_layers, model.config.hidden_size) == (2, 128)
    with pytest.raises(UserError, match="would discard"):
        Pretrain().run(request(tmp_path, roots, settings, {"encoder": encoder, "model": encoder}, "other"))


def test_same_request_same_bytes_other_seed_other_bytes(tmp_path, roots, encoder):
    outputs = []
    for name, seed, generator in (("a", 0, 1), ("b", 0, 2), ("c", 1, 1)):
        torch.manual_seed(generator)
        asked = request(tmp_path, roots, config(student="bert-tiny", steps=2), {"encoder": encoder}, name, seed=seed)
        Pretrain().run(asked)
        outputs.append(content(asked.output))
    assert outputs[0] == outputs[1]
    assert outputs[0]["model.safetensors"] != outputs[2]["model.safetensors"]


def test_a_stopped_stage_goes_on_into_a_new_output_folder(tmp_path, roots, encoder):
    undisturbed = request(tmp_path, roots, config(), {"model": encoder}, "undisturbed")
    Pretrain().run(undisturbed)
    looks = iter(range(1000))
    control = Control(should_stop=lambda: next(looks) == 6)
    with pytest.raises(Interrupted):
        Pretrain().run(request(tmp_path, roots, config(), {"model": encoder}, "stopped", work="w", control=control))
    resumed = request(tmp_path, roots, config(), {"model": encoder}, "resumed", work="w")
    Pretrain().run(resumed)
    assert content(resumed.output) == content(undisturbed.output)


def test_the_tasks_own_rows(tmp_path, roots, encoder):
    settings = config(corpus={"files": None, "task_rows": True})
    assert Pretrain().reads(settings) == ("train",)
    assert Pretrain().reads(config()) == ()
    asked = request(tmp_path, roots, settings, {"model": encoder}, task=TASK)
    summary = Pretrain().run(asked)
    from compression.data.load import load_task

    train = load_task(TASK, roots).train["text"]
    words = sum(len(tiny_tokenizer()(text)["input_ids"]) - 2 for text in train)
    assert summary["corpus"]["tokens"] + summary["corpus"]["validation_tokens"] == words
