"""Task distillation of layers: TinyBERT's two steps, mixtures, and what becomes of the student."""

import copy
import itertools
import json

import numpy as np
import pytest
import torch
from tiny_models import tiny_classifier, tiny_task, tiny_tokenizer
from torch.nn import functional
from transformers import DistilBertConfig, DistilBertForSequenceClassification

from compression.architecture.conversion import to_bertpress
from compression.architecture.labels import label_fields
from compression.control import Control, Progress
from compression.data.encoding import collate, encode
from compression.distillation import task
from compression.distillation.comparing import Comparing
from compression.distillation.config import ObjectivesConfig, TaskDistillConfig
from compression.distillation.objectives import weighted
from compression.errors import Interrupted, UserError
from compression.runtime import Runtime

TINYBERT = {"embedding": 1, "hidden": 1, "attention": 1}
FAST = {"epochs": 1, "batch_size": 8, "learning_rate": 1e-2, "evaluations_per_epoch": 0}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def labelled(model, labels=("bad", "good"), problem="classification"):
    for name, value in label_fields(labels, problem).items():
        setattr(model.config, name, value)
    return model


def teacher(seed=9, **changes):
    return labelled(tiny_classifier(seed=seed, num_hidden_layers=4, **changes))


def student(**changes):
    """Narrower than its teacher, with half its layers."""
    return tiny_classifier(seed=5, **{"num_hidden_layers": 2, "hidden_size": 8, **NO_DROPOUT, **changes})


def distil(folder, *, own=None, taught=None, data=None, control=None, runtime=None, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    own = own or student()
    result = task.apply(
        own,
        taught or teacher(),
        tiny_tokenizer(),
        data or tiny_task(30),
        TaskDistillConfig(**{**FAST, **changes}),
        seed=0,
        runtime=runtime or Runtime(),
        work=folder,
        control=control or Control(),
        history=folder / "history.jsonl",
    )
    return own, result


def comparing(folder, own, taught, data=None, **changes):
    config = TaskDistillConfig(**changes)
    encoded = encode((data or tiny_task(12)).train, tiny_tokenizer(), 24)
    options = {"pad_token_id": 0, "seed": 0, "runtime": Runtime(), "work": folder, "control": Control()}
    made = Comparing.prepare(own, taught, config, encoded, epochs=changes.get("epochs", 1), **options)
    return made, encoded


def records(folder):
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


def weights(model):
    return {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}


def reference(own, taught, projections, encoded, *, released):
    """TinyBERT's losses from transformers' own models, text by text (equations) or padded (released code)."""

    def outputs(model, batch):
        kept = {"query": [], "key": []}
        hooks = [
            module.register_forward_hook(lambda _, __, output, kept=kept[name]: kept.append(output))
            for path, module in model.named_modules()
            for name in kept
            if path.endswith(f"self.{name}")
        ]
        given = {name: batch[name] for name in ("input_ids", "attention_mask")}
        states = model(**given, output_hidden_states=True).hidden_states
        for hook in hooks:
            hook.remove()
        heads = [[tensor.unflatten(-1, (2, -1)).transpose(1, 2) for tensor in kept[name]] for name in kept]
        scores = [query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5 for query, key in zip(*heads, strict=True)]
        return states, scores

    count = len(encoded)
    parts = [np.arange(count)] if released else [np.array([row]) for row in range(count)]
    total = dict.fromkeys(TINYBERT, 0.0)
    for rows in parts:
        batch = collate(encoded, rows, 0)
        with torch.no_grad():
            (own_states, own_scores), (states, scores) = outputs(own, batch), outputs(taught, batch)
            fit = [projections.embedding, projections.hidden, projections.hidden]
            pairs = [functional.mse_loss(fit[m](own_states[m]), states[2 * m]).item() for m in range(3)]
            if released:
                mask = (1 - batch["attention_mask"][:, None, None, :]) * -10000.0
                both = ((own_scores[m] + mask, scores[2 * m + 1] + mask) for m in range(2))
                zeroed = [[torch.where(side <= -1e2, 0.0, side) for side in pair] for pair in both]
                attention = sum(functional.mse_loss(*pair).item() for pair in zeroed)
            else:
                attention = sum(functional.mse_loss(own_scores[m], scores[2 * m + 1]).item() for m in range(2))
        total["embedding"] += pairs[0] / len(parts)
        total["hidden"] += (pairs[1] + pairs[2]) / len(parts)
        total["attention"] += attention / len(parts)
    return total


@pytest.mark.parametrize("released", [False, True])
@pytest.mark.parametrize("kept", [False, True])
def test_the_objectives_are_tinyberts(tmp_path, released, kept):
    own, taught = student(), teacher()
    options = {"reference_code": released, "objectives": TINYBERT, "epochs": 2 if kept else 1}
    made, encoded = comparing(tmp_path, own, taught, **options)
    # The released losses count padding, which is not kept: its states are always computed anew.
    assert bool(list(tmp_path.glob("teacher_states-*.bin"))) == (kept and not released)
    made.module.eval()
    batch = collate(encoded, np.arange(len(encoded)), 0) | made.rows(np.arange(len(encoded)))
    with torch.no_grad():
        logits, parts = made.losses(made.module, batch)
        plain = own(**{name: batch[name] for name in ("input_ids", "attention_mask")}).logits
    expected = reference(own, taught, made.module.projections, encoded, released=released)
    assert {name: value.item() for name, value in parts.items()} == pytest.approx(expected, rel=1e-4)
    torch.testing.assert_close(logits, plain, atol=1e-5, rtol=1e-4)


def test_two_steps_train_layers_first_and_outputs_then(tmp_path):
    own, result = distil(tmp_path, objectives=TINYBERT, intermediate={"epochs": 3, "learning_rate": 2e-3})
    assert result.intermediate.steps == 12
    assert result.steps == 4
    lines = records(tmp_path)
    first = [line for line in lines if "intermediate_loss" in line]
    assert lines[: len(first)] == first
    assert {"step", "epoch", "intermediate_embedding", "intermediate_hidden", "intermediate_attention"} <= set(first[0])
    for line in first:
        parts = sum(line[f"intermediate_{name}"] for name in TINYBERT)
        assert line["intermediate_loss"] == pytest.approx(parts, rel=1e-5)
        assert line["intermediate_learning_rate"] == 2e-3  # constant
    assert first[-1]["intermediate_hidden"] < first[0]["intermediate_hidden"]
    assert set(lines[-1]) == {"step", "epoch", "loss", "learning_rate", "soft", "hard"}
    assert weights(own).keys() == weights(student()).keys()
    summary = result.summary()
    assert json.loads(json.dumps(summary)) == summary
    assert summary["intermediate"]["steps"] == 12
    assert not (tmp_path / "intermediate").exists()


def test_the_first_step_leaves_the_head_alone_and_the_second_starts_from_it(tmp_path):
    own, _ = distil(
        tmp_path,
        objectives={"hidden": 1},
        intermediate={"epochs": 2},
        learning_rate=1e-9,
        batch_size=30,
        weight_decay=0,
    )
    before, after = student().state_dict(), own.state_dict()
    torch.testing.assert_close(after["classifier.weight"], before["classifier.weight"], atol=1e-7, rtol=0)
    moved, _ = distil(tmp_path / "b", objectives={"hidden": 1}, intermediate={"epochs": 2, "learning_rate": 1e-2})
    name = "bert.encoder.layer.0.output.dense.weight"
    assert not torch.allclose(moved.state_dict()[name], before[name], atol=1e-3)


def test_a_mixture_is_the_weighted_sum_of_outputs_and_objectives(tmp_path):
    distil(tmp_path, objectives={"attention": 0.5, "embedding": 2}, soft_weight=0.7, hard_weight=0.2)
    for line in records(tmp_path):
        total = 0.7 * line["soft"] + 0.2 * line["hard"] + 0.5 * line["attention"] + 2 * line["embedding"]
        assert line["loss"] == pytest.approx(total, rel=1e-5)
    assert "hidden" not in records(tmp_path)[0]


@pytest.mark.parametrize("name", ObjectivesConfig.model_fields)
def test_every_objective_is_learned(tmp_path, name):
    """Same widths, so that all can be compared; a large weight, so that it rules the mixture."""
    own = student(hidden_size=16)
    distil(tmp_path, own=own, objectives={name: 100}, layer_mapping="top", epochs=5, learning_rate=3e-3)
    lines = records(tmp_path)
    assert lines[-1][name] < 0.9 * lines[0][name]


def test_states_that_were_kept_and_states_computed_anew_train_the_same(tmp_path):
    options = {"objectives": TINYBERT, "epochs": 2}
    kept, _ = distil(tmp_path / "kept", **options)
    anew, _ = distil(tmp_path / "anew", teacher_states_gigabytes=0, **options)
    assert list((tmp_path / "kept").glob("teacher_states-*"))
    assert not list((tmp_path / "anew").glob("teacher_states-*"))
    for name, tensor in kept.state_dict().items():
        torch.testing.assert_close(tensor, anew.state_dict()[name], atol=1e-4, rtol=1e-3)


def test_micro_batches_train_like_whole_batches(tmp_path):
    options = {"objectives": TINYBERT, "length_bucketing": False}
    whole, _ = distil(tmp_path / "a", **options)
    parts, _ = distil(tmp_path / "b", accumulation_steps=4, **options)
    assert records(tmp_path / "a")[0]["attention"] == pytest.approx(records(tmp_path / "b")[0]["attention"], rel=1e-4)
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(tensor, parts.state_dict()[name], atol=2e-3, rtol=0)


def test_bf16_losses_are_near_fp32_ones(tmp_path):
    options = {"objectives": TINYBERT, "epochs": 2, "learning_rate": 1e-4}
    distil(tmp_path / "exact", **options)
    distil(tmp_path / "rounded", runtime=Runtime(precision="bf16"), **options)
    exact, rounded = records(tmp_path / "exact"), records(tmp_path / "rounded")
    for name in ("embedding", "hidden", "attention", "soft"):
        assert rounded[0][name] == pytest.approx(exact[0][name], rel=0.03)


class Counting(Progress):
    def __init__(self):
        self.phases = []

    def start(self, description, total, **options):
        self.phases.append(description)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_stop_in_any_step_leaves_no_trace(tmp_path, share):
    options = {"objectives": TINYBERT, "intermediate": {"epochs": 2}, "data": tiny_task(30)}
    looks = itertools.count()
    undisturbed, _ = distil(tmp_path / "a", control=Control(should_stop=lambda: next(looks) < 0), **options)
    stop = int(share * next(looks))
    left = itertools.count()
    with pytest.raises(Interrupted):
        distil(tmp_path / "b", control=Control(should_stop=lambda: next(left) == stop), **options)
    first_step_done = (tmp_path / "b" / "intermediate.safetensors").exists()
    assert first_step_done == (share == 0.9)
    progress = Counting()
    resumed, _ = distil(tmp_path / "b", control=Control(progress), **options)
    assert weights(resumed) == weights(undisturbed)
    assert (tmp_path / "a" / "history.jsonl").read_bytes() == (tmp_path / "b" / "history.jsonl").read_bytes()
    assert ("distilling layers" in progress.phases) == (not first_step_done)


def test_a_distilbert_student_and_one_of_ours_learn_from_a_teacher_with_token_types(tmp_path):
    torch.manual_seed(2)
    sizes = {"vocab_size": 17, "dim": 8, "n_layers": 2, "n_heads": 2, "hidden_dim": 16, "max_position_embeddings": 32}
    sizes |= {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0}
    distilbert = DistilBertForSequenceClassification(DistilBertConfig(**sizes)).eval()
    ours = to_bertpress(copy.deepcopy(distilbert))
    for name, own in (("distilbert", distilbert), ("ours", ours)):
        before = weights(own)
        trained, _ = distil(tmp_path / name, own=own, objectives=TINYBERT, intermediate={"epochs": 1})
        assert trained is own
        assert weights(own).keys() == before.keys()
        assert weights(own) != before
    batch = {"input_ids": torch.tensor([[2, 5, 12, 3]])}
    with torch.no_grad():
        torch.testing.assert_close(distilbert(**batch).logits, ours(**batch).logits, atol=1e-4, rtol=1e-3)


def test_the_teacher_is_left_as_it_was(tmp_path):
    taught = teacher(hidden_dropout_prob=0.5).train()
    before = weights(taught)
    distil(tmp_path, taught=taught, objectives=TINYBERT, intermediate={"epochs": 2})
    assert weights(taught) == before
    assert taught.training


def test_regression_distils_layers_and_the_teachers_outputs(tmp_path):
    data = tiny_task(30, regression=True)
    taught = labelled(tiny_classifier(seed=9, labels=1, num_hidden_layers=4), (), "regression")
    options = {"objectives": TINYBERT, "intermediate": {"epochs": 1}, "hard_weight": 0, "taught": taught}
    first, _ = distil(tmp_path / "a", own=student(labels=1), data=data, **options)
    data.train["label"] = data.train["label"] + 100
    second, _ = distil(tmp_path / "b", own=student(labels=1), data=data, **options)
    assert weights(first) == weights(second)


def test_the_outputs_of_several_teachers_are_averaged(tmp_path, monkeypatch):
    teachers = [teacher(seed=seed) for seed in (1, 2, 3)]
    turned = labelled(copy.deepcopy(teachers[2]), ("good", "bad"))  # numbers its classes the other way round
    for parameter in (turned.classifier.weight, turned.classifier.bias):
        parameter.data = parameter.data.flip(0)
    seen = {}

    def taken(own, loss, encoded, *, extra_batch, **options):
        seen["logits"] = extra_batch(np.arange(len(encoded)))["teacher_logits"]
        return train_on_task(own, loss, encoded, extra_batch=extra_batch, **options)

    train_on_task = task.train_on_task
    monkeypatch.setattr(task, "train_on_task", taken)
    data = tiny_task(20)
    distil(tmp_path, taught=[*teachers[:2], turned], data=data)
    with torch.no_grad():
        rows = [tiny_tokenizer()(text, return_tensors="pt") for text in data.train["text"]]
        expected = [torch.stack([model(**row).logits[0] for row in rows]) for model in teachers]
    torch.testing.assert_close(seen["logits"], torch.stack(expected).mean(dim=0), atol=1e-5, rtol=1e-4)


def test_layers_that_cannot_be_paired_are_refused_before_the_teacher_is_asked(tmp_path):
    progress = Counting()
    with pytest.raises(UserError, match="4 heads in the student's layer, 2 in the teacher's"):
        distil(
            tmp_path,
            own=student(num_attention_heads=4),
            objectives=TINYBERT,
            intermediate={},
            control=Control(progress),
        )
    assert progress.phases == []


def test_unequal_heads_by_group_mean(tmp_path):
    own = student(num_attention_heads=4, hidden_size=16)
    distil(tmp_path, own=own, objectives={"attention": 1, "value_relation": 1}, heads="group-mean")
    made, encoded = comparing(tmp_path, own, teacher(), objectives={"attention": 1}, heads="group-mean")
    batch = collate(encoded, np.array([0]), 0)
    made.module.eval()
    with torch.no_grad():
        parts = made.losses(made.module, batch)[1]
        captured = [made.module(batch["input_ids"], compared=True).captured.scores, made.taught(batch).scores]
    expected = sum(
        functional.mse_loss((mine[:, ::2] + mine[:, 1::2]) / 2, theirs) for mine, theirs in zip(*captured, strict=True)
    )
    assert parts["attention"].item() == pytest.approx(expected.item(), rel=1e-4)


def test_a_recipes_settings_for_the_task_are_applied(tmp_path):
    data = tiny_task(16)
    _, result = distil(
        tmp_path,
        data=data,
        recipe="tinybert",
        intermediate={"epochs": 2},
        epochs=1,
        batch_size=8,
        learning_rate=1e-3,
    )
    assert result.intermediate.steps == 2  # 16 rows, 2 epochs: the recipe's batches of 32 for this step
    assert result.steps == 2
    assert "hard" not in records(tmp_path)[-1]


def test_recipes_by_task():
    epochs = {"cola": 50, "mnli": 10, "qqp": 10, "qnli": 10, "sst2": 20, "rte": 20, None: 20}
    for name, count in epochs.items():
        assert TaskDistillConfig(recipe="tinybert").for_task(name).intermediate.epochs == count
    released = {"cola": 50, "mnli": 5, "mrpc": 20, "sst2": 10, "stsb": 20, "qqp": 5, "qnli": 10, "rte": 20}
    for name, count in released.items():
        made = TaskDistillConfig(recipe="tinybert-code").for_task(name)
        assert (made.intermediate.epochs, made.reference_code, made.intermediate.schedule) == (count, True, "constant")
    own = TaskDistillConfig(recipe="tinybert", intermediate={"learning_rate": 1e-3}, epochs=7, soft_weight=0.9)
    settled = own.for_task("cola")
    assert (settled.intermediate.epochs, settled.intermediate.learning_rate) == (50, 1e-3)
    assert (settled.epochs, settled.soft_weight, settled.learning_rate) == (7, 0.9, 3e-5)
    assert settled.objectives.chosen() == ("embedding", "hidden", "attention")
    again = TaskDistillConfig.model_validate(settled.model_dump(mode="json"))
    assert again.for_task("mnli") == settled
    alone = TaskDistillConfig(recipe="tinybert", intermediate=None)
    assert alone.for_task("cola").intermediate is None
    assert TaskDistillConfig(epochs=2).for_task("cola") == TaskDistillConfig(epochs=2)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"recipe": "tinybret"}, "did you mean 'tinybert'"),
        ({"intermediate": {}}, "has nothing to train"),
        ({"recipe": "tinybert", "objectives": {"embedding": 0, "hidden": 0, "attention": 0}}, "has nothing to train"),
        ({"teacher_seeds": [0, 1], "objectives": {"hidden": 1}}, "no layers"),
        ({"teacher_seeds": [0, 1], "recipe": "tinybert"}, "no layers"),
        ({"objectives": {"hidden": -1}}, "greater than or equal to 0"),
        ({"layer_mapping": "unifrom"}, "Input should be 'uniform'"),
    ],
)
def test_contradictions_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        TaskDistillConfig(**fields)


def test_the_weights_of_objectives_count():
    parts = {"hidden": torch.tensor(2.0), "attention": torch.tensor(3.0)}
    assert weighted(parts, ObjectivesConfig(hidden=0.5, attention=4)).item() == 13
