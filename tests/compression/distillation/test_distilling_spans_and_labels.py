"""Task distillation where the outputs are spans, or labels of which several may hold."""

import json

import numpy as np
import pandas
import pytest
import torch
from tiny_models import BAD, GOOD, NEUTRAL, tiny_classifier, tiny_config, tiny_task, tiny_tokenizer
from transformers import BertForQuestionAnswering, BertTokenizerFast

from compression.architecture.labels import label_fields
from compression.control import Control
from compression.data.config import TaskConfig
from compression.data.encoding import collate
from compression.data.load import TaskData
from compression.distillation import task
from compression.distillation.config import TaskDistillConfig
from compression.errors import CheckpointError
from compression.runtime import Runtime
from compression.training.predict import encode_for, task_logits

FAST = {"epochs": 6, "batch_size": 8, "learning_rate": 1e-2, "evaluations_per_epoch": 0}


def questions(count, seed):
    """The answer is the one word that says whether the film is good."""
    random = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        words = [*random.choice(NEUTRAL, random.integers(2, 9)), str(random.choice([*GOOD, *BAD]))]
        random.shuffle(words)
        place = next(index for index, word in enumerate(words) if word in GOOD + BAD)
        start = sum(len(word) + 1 for word in words[:place])
        context = " ".join(words)
        answer = (start, start + len(words[place]))
        rows.append({"id": number, "text": "was the film good", "text_pair": context, "label": answer,
                     "answers": (words[place],), "name": str(number)})  # fmt: skip
    return pandas.DataFrame(rows)


def span_task(count=60):
    return TaskData(
        config=TaskConfig(name="answers", files={"train": "a.json"}, problem="span", max_length=20),
        labels=(),
        pair=True,
        metrics=("f1", "exact_match"),
        train=questions(count, 1),
        selection=questions(16, 2),
        evaluation={"": questions(16, 3)},
    )


def span_model(seed, **changes):
    torch.manual_seed(seed)
    model = BertForQuestionAnswering(tiny_config(**changes)).eval()
    for name, value in label_fields((), "span").items():
        setattr(model.config, name, value)
    return model


def fast_tokenizer():
    tokenizer = tiny_tokenizer()
    return tokenizer if tokenizer.is_fast else BertTokenizerFast(vocab=tokenizer.get_vocab())


def distil(folder, data, own, taught, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    options = {"seed": 0, "runtime": Runtime(), "work": folder, "control": Control(), "history": folder / "h.jsonl"}
    config = TaskDistillConfig(**{**FAST, **changes})
    result = task.apply(own, taught, fast_tokenizer(), data, config, **options)
    return result, [json.loads(line) for line in (folder / "h.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("layers", [{}, {"objectives": {"hidden": 1, "attention": 1}, "intermediate": {"epochs": 2}}])
def test_a_student_learns_its_teachers_spans(tmp_path, layers):
    data, taught, own = span_task(), span_model(9), span_model(5, num_hidden_layers=1)
    taught.qa_outputs.weight.data *= 30  # a random teacher with strong opinions that are not the gold spans
    _, records = distil(tmp_path, data, own, taught, soft_weight=1, hard_weight=0, epochs=16, **layers)
    last = [record for record in records if "soft" in record]
    assert last[-1]["soft"] < last[0]["soft"]
    encoded = encode_for(own, data.train, fast_tokenizer(), data.config, Control())
    agreeing = []
    for row in range(len(encoded)):
        pieces = collate(encoded, np.array([row]), 0)
        with torch.no_grad():
            starts = [task_logits(model, pieces)[0, :, 0].argmax().item() for model in (own, taught)]
        agreeing.append(starts[0] == starts[1])
    assert np.mean(agreeing) > 0.9


def test_distilberts_second_distillation_weighs_both_the_same(tmp_path):
    _, records = distil(tmp_path, span_task(16), span_model(5), span_model(9), recipe="distilbert", epochs=1)
    for record in records:
        assert record["loss"] == pytest.approx(0.5 * record["soft"] + 0.5 * record["hard"], rel=1e-5)


def test_span_distillation_is_measured_on_answers(tmp_path):
    result, records = distil(tmp_path, span_task(), span_model(5), span_model(9), evaluations_per_epoch=1, epochs=1)
    assert result.best_score is not None
    assert "selection_score" in records[-1]


def test_teachers_of_spans_are_averaged(tmp_path):
    data, teachers = span_task(12), [span_model(seed) for seed in (1, 2)]
    encoded = encode_for(teachers[0], data.train, fast_tokenizer(), data.config, Control())
    place = task.OutputPlace(0, Runtime(), tmp_path, None, Control())
    outputs = task.teacher_outputs(teachers, [[0, 1]] * 2, encoded, "span", place)
    rows = np.array([3, 0])
    taken = outputs(rows)["teacher_logits"]
    assert taken.shape == (2, int(encoded.lengths[rows].max()), 2)
    for position, row in enumerate(rows):
        pieces = collate(encoded, np.array([row]), 0)
        with torch.no_grad():
            expected = torch.stack([task_logits(model, pieces)[0] for model in teachers]).mean(dim=0)
        length = int(encoded.lengths[row])
        torch.testing.assert_close(taken[position, :length], expected, atol=1e-5, rtol=1e-4)
        assert (taken[position, length:] == 0).all()


def test_a_classifier_cannot_teach_spans(tmp_path):
    with pytest.raises(CheckpointError, match="does not answer questions by spans"):
        distil(tmp_path, span_task(12), span_model(5), tiny_classifier())


def test_labels_that_do_not_exclude_each_other(tmp_path):
    data = tiny_task(40)
    several = TaskData(
        config=TaskConfig(name="tags", files={"train": "a.jsonl"}, problem="multi_label", max_length=24),
        labels=("bad", "good", "long"),
        pair=False,
        metrics=("micro_f1",),
        train=data.train.assign(
            label=[np.array([label == 0, label == 1, len(text) > 30], np.float32) for text, label in
                   zip(data.train["text"], data.train["label"], strict=True)]
        ),
        selection=data.selection.iloc[:0],
        evaluation={},
    )  # fmt: skip
    models = [tiny_classifier(seed=seed, labels=3) for seed in (9, 5)]
    for model in models:
        for name, value in label_fields(several.labels, "multi_label").items():
            setattr(model.config, name, value)
    taught, own = models
    taught.classifier.weight.data *= 50
    _, records = distil(tmp_path, several, own, taught, soft_weight=1, hard_weight=0)
    assert records[-1]["soft"] < records[0]["soft"]
    probabilities = []
    for model in (own, taught):
        with torch.no_grad():
            logits = [model(**tiny_tokenizer()(text, return_tensors="pt")).logits[0] for text in several.train["text"]]
        probabilities.append(torch.stack(logits).sigmoid())
    agree = (probabilities[0] > 0.5) == (probabilities[1] > 0.5)
    assert agree.float().mean() > 0.8
