"""Models with a head for a task, loaded by what they are or by what is asked for."""

import pytest
import torch
from tiny_models import tiny_classifier, tiny_encoder_folder, tiny_span_model, tiny_tokenizer

from compression.architecture.checkpoint import load_question_answering, load_task_model, save_checkpoint
from compression.architecture.config import StudentConfig
from compression.architecture.conversion import to_bertpress
from compression.architecture.student import build_student
from compression.errors import CheckpointError
from compression.quantization.checkpoint import load_quantized
from compression.quantization.quantize import quantize
from compression.training.predict import task_logits

BATCH = {"input_ids": torch.tensor([[2, 5, 11, 3]]), "attention_mask": torch.ones(1, 4, dtype=torch.long)}


@pytest.mark.parametrize("form", [lambda model: model, to_bertpress], ids=["plain", "bertpress"])
def test_a_span_model_comes_back_as_it_was(tmp_path, form):
    model = form(tiny_span_model())
    save_checkpoint(model, tiny_tokenizer(), tmp_path)
    for loaded in (
        load_task_model(tmp_path),
        load_question_answering(tmp_path),
        load_task_model(tmp_path, problem="span"),
    ):
        assert type(loaded) is type(model)
        assert torch.equal(task_logits(loaded, BATCH), task_logits(model, BATCH))


def test_a_quantized_span_model_comes_back_bit_for_bit(tmp_path):
    model = quantize(tiny_span_model())
    save_checkpoint(model, tiny_tokenizer(), tmp_path)
    loaded = load_quantized(tmp_path)
    assert type(loaded).__name__ == "BertForQuestionAnswering"
    with torch.no_grad():
        assert torch.equal(task_logits(loaded, BATCH), task_logits(model, BATCH))


def test_an_encoder_is_given_a_head_of_the_problem_and_keeps_its_weights(tmp_path):
    folder = tiny_encoder_folder(tmp_path)
    model = load_task_model(folder, problem="span", seed=3)
    assert (model.config.num_labels, model.config.id2label) == (2, {0: "start", 1: "end"})
    encoder = load_task_model(folder, labels=("a", "b"), problem="multi_label")
    assert encoder.config.problem_type == "multi_label_classification"
    for name, tensor in model.bert.state_dict().items():
        assert torch.equal(tensor, encoder.bert.state_dict()[name])
    again, other = (load_task_model(folder, problem="span", seed=seed) for seed in (3, 4))
    assert torch.equal(model.qa_outputs.weight, again.qa_outputs.weight)
    assert not torch.equal(model.qa_outputs.weight, other.qa_outputs.weight)


def test_a_folder_without_a_span_head_is_refused_where_none_may_be_fresh(tmp_path):
    with pytest.raises(CheckpointError, match="no head that fits"):
        load_question_answering(tiny_encoder_folder(tmp_path / "encoder"))
    save_checkpoint(tiny_classifier(), tiny_tokenizer(), tmp_path / "classifier")
    assert type(load_task_model(tmp_path / "classifier")).__name__ == "BertForSequenceClassification"
    assert type(load_task_model(tmp_path / "classifier", problem="span")).__name__ == "BertForQuestionAnswering"


@pytest.mark.parametrize(
    "config",
    [{"layers": [0, 2]}, {"layers": [0, 2], "token_types": False, "pooler": False}, {"preset": "bert-tiny"}],
    ids=["layers", "distilbert", "preset"],
)
def test_students_that_answer_questions(tmp_path, config):
    folder = tiny_encoder_folder(tmp_path)
    student = build_student(StudentConfig(**config), folder, labels=(), problem="span", seed=1)
    assert task_logits(student, BATCH).shape == (1, 4, 2)
    assert student.config.num_hidden_layers == 2
    save_checkpoint(student, tiny_tokenizer(), tmp_path / "student")
    assert torch.equal(task_logits(load_task_model(tmp_path / "student"), BATCH), task_logits(student, BATCH))
