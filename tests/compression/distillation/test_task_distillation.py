import copy
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_models import WORDS, tiny_classifier, tiny_task, tiny_tokenizer
from transformers import BertTokenizer

from compression.architecture.labels import label_fields
from compression.control import Control
from compression.distillation import task, teacher_outputs
from compression.distillation.config import TaskDistillConfig
from compression.distillation.same_tokenizer import check_same_tokenizer
from compression.errors import CheckpointError, Interrupted, UserError
from compression.runtime import Runtime
from compression.training.finetune_config import FinetuneConfig


def labelled(model, labels=("bad", "good"), problem="classification"):
    for name, value in label_fields(labels, problem).items():
        setattr(model.config, name, value)
    return model


def distil(folder, data, teacher, control=None, runtime=None, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    student = tiny_classifier(seed=5, labels=max(1, len(data.labels)), num_hidden_layers=1)
    result = task.apply(
        student,
        teacher,
        tiny_tokenizer(),
        data,
        TaskDistillConfig(**{"epochs": 1, "batch_size": 8, "learning_rate": 1e-2, **changes}),
        seed=0,
        runtime=runtime or Runtime(),
        work=folder,
        control=control or Control(),
        history=folder / "history.jsonl",
    )
    return student, result


def weights(model):
    return {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}


def kept_logits(folder):
    return load_file(folder / "teacher_logits.safetensors")["logits"]


def reference_logits(teacher, data):
    model = copy.deepcopy(teacher).eval()
    with torch.no_grad():
        rows = [model(**tiny_tokenizer()(text, return_tensors="pt")).logits[0] for text in data.train["text"]]
    return torch.stack(rows)


def test_teacher_is_in_evaluation_mode_and_left_as_it_was(tmp_path):
    """TinyBERT's released code leaves the teacher's dropout on."""
    data, teacher = tiny_task(30), labelled(tiny_classifier(seed=9, hidden_dropout_prob=0.5)).train()
    before = weights(teacher)
    distil(tmp_path, data, teacher)
    torch.testing.assert_close(kept_logits(tmp_path), reference_logits(teacher, data), atol=1e-5, rtol=1e-5)
    assert teacher.training
    assert weights(teacher) == before


def test_the_loss_is_the_weighted_sum_of_its_parts(tmp_path):
    data, teacher = tiny_task(8), labelled(tiny_classifier(seed=9))
    config = TaskDistillConfig(temperature=3, soft_weight=0.7, hard_weight=0.4)
    student = tiny_classifier(seed=5)
    batch = dict(tiny_tokenizer()(data.train["text"].tolist(), padding=True, return_tensors="pt"))
    with torch.no_grad():
        batch |= {"labels": torch.tensor(data.train["label"].to_numpy()), "teacher_logits": teacher(**batch).logits}
        loss, parts = task.distillation_loss(config, "classification")(student, batch)
        logits = student(**{name: batch[name] for name in ("input_ids", "attention_mask")}).logits.double().numpy()
    teacher_probabilities = np.exp(batch["teacher_logits"].double().numpy() / 3)
    teacher_probabilities /= teacher_probabilities.sum(axis=1, keepdims=True)
    log_soft = logits / 3 - np.log(np.exp(logits / 3).sum(axis=1, keepdims=True))
    log_hard = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    soft = -9 * (teacher_probabilities * log_soft).sum(axis=1).mean()
    hard = -log_hard[np.arange(8), data.train["label"]].mean()
    assert parts["soft"].item() == pytest.approx(soft, rel=1e-5)
    assert parts["hard"].item() == pytest.approx(hard, rel=1e-5)
    assert loss.item() == pytest.approx(0.7 * soft + 0.4 * hard, rel=1e-5)


def test_regression_distils_the_teachers_outputs_not_the_gold_values(tmp_path):
    data, teacher = tiny_task(30, regression=True), labelled(tiny_classifier(seed=9, labels=1), (), "regression")
    first, _ = distil(tmp_path / "a", data, teacher, hard_weight=0, evaluations_per_epoch=0)
    data.train["label"] = data.train["label"] + 100
    second, _ = distil(tmp_path / "b", data, teacher, hard_weight=0, evaluations_per_epoch=0)
    assert weights(first) == weights(second)
    record = json.loads((tmp_path / "a" / "history.jsonl").read_text().splitlines()[-1])
    assert record["loss"] == pytest.approx(0.9 * record["soft"])
    assert "hard" not in record


def test_a_student_comes_to_agree_with_its_teacher(tmp_path):
    data = tiny_task(100)
    teacher = labelled(tiny_classifier(seed=9))
    teacher.classifier.weight.data *= 50  # a random teacher with strong opinions that are not the gold labels
    student, _ = distil(
        tmp_path, data, teacher, epochs=6, soft_weight=1, hard_weight=0, evaluations_per_epoch=0, temperature=1
    )
    own, taught = reference_logits(student, data), reference_logits(teacher, data)
    assert (own.argmax(dim=1) == taught.argmax(dim=1)).float().mean() > 0.9


def test_classes_are_matched_by_name(tmp_path):
    data = tiny_task(30)
    aligned = labelled(tiny_classifier(seed=9))
    turned = labelled(copy.deepcopy(aligned), ("GOOD", "BAD"))
    turned.classifier.weight.data = aligned.classifier.weight.data.flip(0)
    turned.classifier.bias.data = aligned.classifier.bias.data.flip(0)
    first, _ = distil(tmp_path / "a", data, aligned)
    second, _ = distil(tmp_path / "b", data, turned)
    torch.testing.assert_close(first.state_dict(), second.state_dict())


def test_a_teacher_of_another_task_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="3 outputs"):
        distil(tmp_path, tiny_task(8), labelled(tiny_classifier(labels=3), ("a", "b", "c")))


def test_a_stop_in_training_resumes_without_asking_the_teacher_again(tmp_path, monkeypatch):
    data, teacher = tiny_task(), labelled(tiny_classifier(seed=9))
    undisturbed, _ = distil(tmp_path / "a", data, teacher)
    looks = iter(range(1000))
    with pytest.raises(Interrupted):
        distil(tmp_path / "b", data, teacher, Control(should_stop=lambda: next(looks) == 7))
    calls = []
    monkeypatch.setattr(teacher_outputs, "predict", lambda *args, **options: calls.append(args))
    resumed, _ = distil(tmp_path / "b", data, teacher)
    assert not calls
    assert weights(resumed) == weights(undisturbed)
    assert (tmp_path / "a" / "history.jsonl").read_bytes() == (tmp_path / "b" / "history.jsonl").read_bytes()


def test_another_teachers_outputs_are_never_taken(tmp_path):
    data = tiny_task(30)
    distil(tmp_path, data, labelled(tiny_classifier(seed=9)))
    other = labelled(tiny_classifier(seed=10))
    distil(tmp_path, data, other)
    torch.testing.assert_close(kept_logits(tmp_path), reference_logits(other, data), atol=1e-5, rtol=1e-5)


def test_the_teacher_computes_in_the_runtimes_precision(tmp_path):
    data, teacher = tiny_task(30), labelled(tiny_classifier(seed=9))
    distil(tmp_path, data, teacher, runtime=Runtime(precision="bf16"))
    exact, kept = reference_logits(teacher, data), kept_logits(tmp_path)
    assert not torch.equal(kept, exact)
    torch.testing.assert_close(kept, exact, atol=0.02, rtol=0.02)
    assert {parameter.dtype for parameter in teacher.parameters()} == {torch.float32}


def test_tokenizers_must_agree():
    tokenizer, used = tiny_tokenizer(), tiny_tokenizer()
    used(["good film"], truncation=True, max_length=4, padding="max_length")
    check_same_tokenizer(used, tokenizer)
    turned = BertTokenizer(vocab={word: index for index, word in enumerate([*WORDS[:5], *WORDS[:4:-1]])})
    with pytest.raises(UserError, match="vocabularies differ"):
        check_same_tokenizer(turned, tokenizer)
    cased = BertTokenizer(vocab=tokenizer.get_vocab(), do_lower_case=False)
    with pytest.raises(UserError, match="ways of cutting texts differ"):
        check_same_tokenizer(cased, tokenizer)


def test_the_gold_labels_alone_are_not_distillation():
    with pytest.raises(ValueError, match="use the `finetune` stage"):
        TaskDistillConfig(soft_weight=0)
    assert issubclass(TaskDistillConfig, FinetuneConfig.__mro__[1])
