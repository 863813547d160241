import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import frame, tiny_classifier, tiny_config, tiny_encoder_folder, tiny_tokenizer
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    BertTokenizer,
    DistilBertForMaskedLM,
)

from compression.architecture.checkpoint import count_parameters, load_classifier, save_checkpoint
from compression.control import Control
from compression.data.config import TaskConfig
from compression.distillation.config import TaskDistillConfig
from compression.distillation.general_config import GeneralDistillConfig
from compression.errors import CheckpointError, Interrupted, UserError
from compression.training.finetune_config import FinetuneConfig
from tasks.stages.base import StageRequest
from tasks.stages.finetune import Finetune
from tasks.stages.general_distill import GeneralDistill
from tasks.stages.task_distill import TaskDistill

FAST = {"epochs": 1, "batch_size": 8, "learning_rate": 1e-2}
TASK = TaskConfig(name="films", files={"train": "films.csv"}, max_length=24)


@pytest.fixture
def roots(tmp_path) -> tuple[Path, ...]:
    folder = tmp_path / "data"
    folder.mkdir()
    rows = frame(60, 1)
    rows["label"] = np.where(rows["label"] == 1, "good", "bad")
    rows[["text", "label"]].to_csv(folder / "films.csv", index=False)
    return (folder,)


@pytest.fixture
def encoder(tmp_path) -> Path:
    return tiny_encoder_folder(tmp_path / "encoder")


@pytest.fixture
def teacher(tmp_path) -> Path:
    model = tiny_classifier(seed=3)
    model.config.id2label, model.config.label2id = {0: "bad", 1: "good"}, {"bad": 0, "good": 1}
    save_checkpoint(model, tiny_tokenizer(), tmp_path / "teacher")
    return tmp_path / "teacher"


def request(tmp_path, roots, config, inputs, name="output", work="work", **changes) -> StageRequest:
    output, work_folder = tmp_path / name, tmp_path / work
    output.mkdir()
    work_folder.mkdir(exist_ok=True)
    return StageRequest(config, inputs, output, work_folder, task=TASK, roots=roots, **changes)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_finetune_leaves_an_ordinary_checkpoint(tmp_path, roots, encoder):
    asked = request(tmp_path, roots, FinetuneConfig(**FAST), {"model": encoder})
    summary = Finetune().run(asked)
    files = {path.name for path in asked.output.iterdir()}
    assert files == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "history.jsonl"}
    model = AutoModelForSequenceClassification.from_pretrained(asked.output)
    assert model.config.id2label == {0: "bad", 1: "good"}
    assert AutoTokenizer.from_pretrained(asked.output)("good film")["input_ids"] == [2, 5, 12, 3]
    assert json.loads(json.dumps(summary)) == summary
    assert summary["parameters"] == count_parameters(model)
    assert summary["training"]["steps"] == 7
    assert summary["final"]["selection_accuracy"] == summary["training"]["best_score"]


def test_finetune_can_start_a_student(tmp_path, roots, encoder):
    config = FinetuneConfig(student={"layers": [0, 2]}, **FAST)
    assert Finetune().roles(config) == ("encoder",)
    asked = request(tmp_path, roots, config, {"encoder": encoder})
    Finetune().run(asked)
    assert load_classifier(asked.output).config.num_hidden_layers == 2


def test_same_request_same_bytes_other_seed_other_bytes(tmp_path, roots, encoder):
    config = FinetuneConfig(**FAST)
    requests = [
        request(tmp_path, roots, config, {"model": encoder}, name=name, work=f"work-{name}", seed=seed)
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    for asked in requests:
        Finetune().run(asked)
    first, second, other = (content(asked.output) for asked in requests)
    assert first == second
    assert first["model.safetensors"] != other["model.safetensors"]


@pytest.mark.parametrize("stage", [Finetune(), TaskDistill()], ids=lambda stage: stage.kind)
def test_a_stopped_stage_goes_on_into_a_new_output_folder(tmp_path, roots, encoder, teacher, stage):
    config = stage.config_model(student={"layers": [1]}, **FAST)
    inputs = {"encoder": encoder, "teacher": teacher}
    undisturbed = request(tmp_path, roots, config, inputs, name="undisturbed", work="other")
    stage.run(undisturbed)
    looks = iter(range(1000))
    stopped = request(
        tmp_path, roots, config, inputs, name="stopped", control=Control(should_stop=lambda: next(looks) == 8)
    )
    with pytest.raises(Interrupted):
        stage.run(stopped)
    resumed = request(tmp_path, roots, config, inputs, name="resumed")
    stage.run(resumed)
    assert content(resumed.output) == content(undisturbed.output)


def test_task_distill(tmp_path, roots, encoder, teacher):
    config = TaskDistillConfig(student="bert-tiny", **FAST)
    assert TaskDistill().roles(config) == ("teacher", "encoder")
    asked = request(tmp_path, roots, config, {"encoder": encoder, "teacher": teacher})
    summary = TaskDistill().run(asked)
    records = [json.loads(line) for line in (asked.output / "history.jsonl").read_text().splitlines()]
    assert {"soft", "hard", "loss"} <= set(records[0])
    model = AutoModelForSequenceClassification.from_pretrained(asked.output)
    assert model.config.hidden_size == 128
    assert summary["parameters"] == sum(parameter.numel() for parameter in model.parameters())


def test_task_distill_trains_the_chains_own_model(tmp_path, roots, teacher):
    config = TaskDistillConfig(**FAST)
    assert TaskDistill().roles(config) == ("teacher",)
    own = tiny_encoder_folder(tmp_path / "own", num_hidden_layers=1)
    asked = request(tmp_path, roots, config, {"model": own, "teacher": teacher})
    TaskDistill().run(asked)
    assert load_classifier(asked.output).config.num_hidden_layers == 1


def test_task_distill_in_two_steps_leaves_an_ordinary_checkpoint(tmp_path, roots, encoder, teacher):
    config = TaskDistillConfig(
        student={"layers": "uniform", "count": 1},
        objectives={"embedding": 1, "hidden": 1, "attention": 1},
        intermediate={"epochs": 2},
        **FAST,
    )
    asked = request(tmp_path, roots, config, {"encoder": encoder, "teacher": teacher})
    summary = TaskDistill().run(asked)
    files = {path.name for path in asked.output.iterdir()}
    assert files == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "history.jsonl"}
    model = load_classifier(asked.output)
    assert type(model) is BertForSequenceClassification
    assert summary["parameters"] == count_parameters(model)
    assert json.loads(json.dumps(summary)) == summary
    assert summary["training"]["intermediate"]["steps"] == 14
    again = request(tmp_path, roots, config, {"encoder": encoder, "teacher": teacher}, name="again", work="other")
    TaskDistill().run(again)
    assert content(again.output) == content(asked.output)


def test_students_of_one_teacher_share_its_outputs(tmp_path, roots, encoder, teacher, monkeypatch):
    cache = tmp_path / "cache"
    layers = {"objectives": {"hidden": 1}, "intermediate": {"epochs": 2}, **FAST}
    inputs = {"encoder": encoder, "teacher": teacher}
    first = TaskDistillConfig(student={"layers": [0]}, **layers)
    alone = request(tmp_path, roots, first, inputs, name="alone", work="work-alone")
    TaskDistill().run(alone)
    asked = request(tmp_path, roots, first, inputs, name="first", cache=cache)
    TaskDistill().run(asked)
    assert content(asked.output) == content(alone.output)
    (folder,) = cache.iterdir()
    assert {path.name.partition("-")[0] for path in folder.iterdir()} == {"teacher_states", "teacher_logits"}
    monkeypatch.setattr("compression.distillation.teacher_states._write", lambda *args, **options: pytest.fail("again"))
    monkeypatch.setattr(
        "compression.distillation.teacher_outputs.predict", lambda *args, **options: pytest.fail("again")
    )
    second = TaskDistillConfig(student={"layers": [2]}, **layers)
    TaskDistill().run(request(tmp_path, roots, second, inputs, name="second", work="work-second", cache=cache))


def test_task_distill_averages_the_teachers_of_several_seeds(tmp_path, roots, encoder, teacher):
    other = tiny_classifier(seed=4)
    other.config.id2label, other.config.label2id = {0: "bad", 1: "good"}, {"bad": 0, "good": 1}
    save_checkpoint(other, tiny_tokenizer(), tmp_path / "other-teacher")
    config = TaskDistillConfig(student={"layers": [0]}, teacher_seeds=[3, 4], **FAST)
    assert TaskDistill().roles(config) == ("teacher@3", "teacher@4", "encoder")
    both = {"encoder": encoder, "teacher@3": teacher, "teacher@4": tmp_path / "other-teacher"}
    outputs = []
    for name, inputs in (("both", both), ("one", {"encoder": encoder, "teacher": teacher})):
        asked = request(tmp_path, roots, config, inputs, name=name, work=f"work-{name}")
        TaskDistill().run(asked)
        outputs.append(content(asked.output)["model.safetensors"])
    assert outputs[0] != outputs[1]


def test_a_teacher_with_another_tokenizer_is_refused(tmp_path, roots, encoder):
    vocabulary = tiny_tokenizer().get_vocab()
    vocabulary["good"], vocabulary["bad"] = vocabulary["bad"], vocabulary["good"]
    save_checkpoint(tiny_classifier(), BertTokenizer(vocab=vocabulary), tmp_path / "stranger")
    inputs = {"model": encoder, "teacher": tmp_path / "stranger"}
    with pytest.raises(UserError, match="need the same tokenizer"):
        TaskDistill().run(request(tmp_path, roots, TaskDistillConfig(**FAST), inputs))


def test_a_student_after_another_model_or_nothing_to_train(tmp_path, roots, encoder):
    config = FinetuneConfig(student="bert-tiny", **FAST)
    with pytest.raises(UserError, match="would discard"):
        Finetune().run(request(tmp_path, roots, config, {"model": encoder, "encoder": encoder}))
    with pytest.raises(UserError, match="nothing to train"):
        Finetune().run(request(tmp_path, roots, FinetuneConfig(**FAST), {}, name="other"))


def test_inputs_are_left_as_they_are(tmp_path, roots, encoder, teacher):
    before = content(encoder), content(teacher)
    TaskDistill().run(request(tmp_path, roots, TaskDistillConfig(**FAST), {"model": encoder, "teacher": teacher}))
    assert (content(encoder), content(teacher)) == before


def test_training_does_not_depend_on_the_global_generator(tmp_path, roots, encoder):
    outputs = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        config = FinetuneConfig(student="bert-tiny", **{**FAST, "epochs": 0.2})
        asked = request(tmp_path, roots, config, {"encoder": encoder}, name=f"o{seed}", work=f"w{seed}")
        Finetune().run(asked)
        outputs.append(content(asked.output))
    assert outputs[0] == outputs[1]


def test_planning_imports_neither_torch_nor_transformers():
    code = (
        "import sys, tasks.stages.finetune, tasks.stages.task_distill;"
        "print([name for name in ('torch', 'transformers', 'pandas', 'accelerate') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert done.stdout.strip() == "[]"


CORPUS = {"corpus": {"files": ["texts.txt"], "validation_fraction": 0}, "max_length": 16}


@pytest.fixture
def texts(roots):
    (roots[0] / "texts.txt").write_text("\n".join(frame(40, 4)["text"]))
    return roots


def test_general_distill_leaves_an_encoder_that_tasks_start_from(tmp_path, texts, encoder):
    config = GeneralDistillConfig(
        student={"layers": "uniform", "count": 1}, objectives={"hidden": 1, "attention": 1}, **CORPUS, **FAST
    )
    assert GeneralDistill().roles(config) == ("encoder",)
    asked = request(tmp_path, texts, config, {"encoder": encoder})
    summary = GeneralDistill().run(asked)
    assert json.loads(json.dumps(summary)) == summary
    assert set(summary["final"]) == {"loss"}
    assert type(AutoModel.from_pretrained(asked.output)) is BertModel
    model = load_classifier(asked.output, labels=("bad", "good"))
    assert model.config.num_hidden_layers == 1
    assert AutoTokenizer.from_pretrained(asked.output)("good film")["input_ids"] == [2, 5, 12, 3]
    again = request(tmp_path, texts, config, {"encoder": encoder}, name="again", work="other")
    GeneralDistill().run(again)
    assert content(again.output) == content(asked.output)


def test_general_distill_needs_a_teacher_that_predicts_words(tmp_path, texts, encoder):
    config = GeneralDistillConfig(student={"layers": [0]}, objectives={"soft": 1}, **CORPUS, **FAST)
    with pytest.raises(CheckpointError, match=r"put \{pretrain: \{train: heads\}\} before this stage"):
        GeneralDistill().run(request(tmp_path, texts, config, {"encoder": encoder}))


def test_general_distill_makes_the_student_of_the_teacher_before_it(tmp_path, texts, encoder):
    """As after `pretrain`: the chain's model has a masked-LM head, teaches, and gives the student its layers."""
    source = BertForMaskedLM(tiny_config(num_hidden_layers=4)).eval()
    save_checkpoint(source, tiny_tokenizer(), tmp_path / "pretrained")
    config = GeneralDistillConfig(
        student={"layers": [0, 3], "token_types": False, "pooler": False},
        objectives={"soft": 5, "masked_lm": 2, "cosine": 1},
        layer_mapping="last",
        **CORPUS,
        **{**FAST, "learning_rate": 1e-6},
    )
    asked = request(tmp_path, texts, config, {"encoder": encoder, "model": tmp_path / "pretrained"})
    GeneralDistill().run(asked)
    student = AutoModelForMaskedLM.from_pretrained(asked.output)
    assert type(student) is DistilBertForMaskedLM
    trained, given = student.distilbert.transformer.layer[1].ffn.lin1.weight, source.bert.encoder.layer[3].intermediate
    torch.testing.assert_close(trained, given.dense.weight, atol=1e-3, rtol=0)


def test_general_distill_trains_the_chains_own_encoder(tmp_path, texts, encoder):
    own = tiny_encoder_folder(tmp_path / "own", seed=1, num_hidden_layers=1, hidden_size=8)
    config = GeneralDistillConfig(objectives={"embedding": 1, "hidden": 1}, **CORPUS, **FAST)
    asked = request(tmp_path, texts, config, {"encoder": encoder, "model": own})
    GeneralDistill().run(asked)
    assert AutoModel.from_pretrained(asked.output).config.hidden_size == 8
