"""Losses on attention and values against their equations, text by text without padding."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from padded_batches import batches, divergence, softmax, tensor

from compression.distillation.heads import average_groups
from compression.distillation.losses.attention_distribution_divergence import attention_distribution_divergence
from compression.distillation.losses.attention_score_mean_squared_error import attention_score_mean_squared_error
from compression.distillation.losses.value_relation_divergence import value_relation_divergence

HEADS = st.integers(1, 3)
QUICK = settings(max_examples=15, deadline=None)


def both(batch, *shape):
    return batch.draw(*shape), batch.draw(*shape, which=1)


def agree(batch, loss, student, teacher, by_text):
    """`by_text`: what the equation gives for each text."""
    for average, expected in (("examples", batch.mean_over_texts), ("tokens", batch.mean_over_tokens)):
        value = loss(tensor(student), tensor(teacher), batch.mask, average=average)
        assert value.item() == pytest.approx(expected(by_text), rel=1e-4, abs=1e-5)


@QUICK
@given(batches, HEADS)
def test_score_error_is_equation_7_on_real_queries_and_keys(batch, heads):
    student, teacher = both(batch, "b", heads, "l", "l")
    by_text = [
        np.mean([((student[text, head] - teacher[text, head])[:length, :length] ** 2).mean() for head in range(heads)])
        for text, length in enumerate(batch.lengths)
    ]
    agree(batch, attention_score_mean_squared_error, student, teacher, by_text)


@QUICK
@given(batches, HEADS, st.booleans())
def test_released_score_error(batch, heads, extreme):
    """Mask of -10000 added, everything up to -100 set to 0, mean over all pairs: padded keys 0, padded queries kept."""
    student, teacher = both(batch, "b", heads, "l", "l")
    if extreme:
        student[:, :, 0, 0], teacher[:, :, -1, 0] = -100.0, -250.0
    mask = (1 - batch.mask.numpy())[:, None, None, :] * -10000.0
    masked = [np.where(scores + mask <= -1e2, 0.0, scores + mask) for scores in (student, teacher)]
    value = attention_score_mean_squared_error(tensor(student), tensor(teacher), batch.mask, form="released")
    assert value.item() == pytest.approx(((masked[0] - masked[1]) ** 2).mean(), rel=1e-5)


def test_real_scores_below_minus_100_count_in_the_papers_form():
    student, teacher = torch.zeros(1, 1, 1, 1), torch.full((1, 1, 1, 1), -200.0)
    assert attention_score_mean_squared_error(student, teacher).item() == 40000
    assert attention_score_mean_squared_error(student, teacher, form="released").item() == 0


@QUICK
@given(batches, HEADS)
def test_attention_divergence_is_the_mean_over_heads_and_queries(batch, heads):
    student, teacher = both(batch, "b", heads, "l", "l")
    by_text = []
    for text, length in enumerate(batch.lengths):
        real = (text, slice(None), slice(length), slice(length))
        by_text.append(divergence(softmax(teacher[real]), softmax(student[real])).sum() / (heads * length))
    agree(batch, attention_distribution_divergence, student, teacher, by_text)


@QUICK
@given(batches, HEADS, st.integers(1, 4), st.integers(1, 4))
def test_value_divergence_compares_relations_of_any_width(batch, heads, own, taught):
    student, teacher = batch.draw("b", heads, "l", own), batch.draw("b", heads, "l", taught, which=1)
    by_text = []
    for text, length in enumerate(batch.lengths):
        relations = []
        for values in (student, teacher):
            real = values[text, :, :length]
            relations.append(softmax(np.einsum("hid,hjd->hij", real, real) / np.sqrt(values.shape[-1])))
        by_text.append(divergence(relations[1], relations[0]).sum() / (heads * length))
    agree(batch, value_relation_divergence, student, teacher, by_text)


def test_unequal_heads_are_averaged_by_neighbouring_groups():
    values = torch.randn(2, 6, 3, 4, generator=torch.Generator().manual_seed(0))
    scores = values @ values.transpose(-1, -2)
    grouped = average_groups(scores, 3)
    for group in range(2):
        torch.testing.assert_close(grouped[:, group], scores[:, 3 * group : 3 * group + 3].mean(dim=1))
    relations = average_groups(scores / 2, 3)
    expected = attention_distribution_divergence(torch.zeros(2, 2, 3, 3), relations)
    value = value_relation_divergence(torch.zeros(2, 2, 3, 5), values, groups=(1, 3))
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)


LOSSES = {
    "scores": (attention_score_mean_squared_error, ("b", 2, "l", "l"), ((0, 0), (0, 0), (0, 3), (0, 3))),
    "distributions": (attention_distribution_divergence, ("b", 2, "l", "l"), ((0, 0), (0, 0), (0, 3), (0, 3))),
    "values": (value_relation_divergence, ("b", 2, "l", 3), ((0, 0), (0, 0), (0, 3), (0, 0))),
}


@pytest.mark.parametrize("name", LOSSES)
@QUICK
@given(batches)
def test_padding_has_no_influence_and_receives_no_gradient(name, batch):
    loss, shape, wider = LOSSES[name]
    student, teacher = both(batch, *shape)
    own = tensor(student, gradient=True)
    value = loss(own, tensor(teacher), batch.mask)
    value.backward()
    padded = batch.mask == 0
    assert (own.grad.transpose(1, 2)[padded] == 0).all()  # queries, or values
    if name != "values":
        assert (own.grad.permute(0, 3, 1, 2)[padded] == 0).all()  # keys
    assert torch.isfinite(own.grad).all()
    mask = torch.nn.functional.pad(batch.mask, (0, 3))
    padded = [tensor(np.pad(array, wider, constant_values=9.0)) for array in (student, teacher)]
    assert loss(*padded, mask).item() == pytest.approx(value.item(), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("name", ["scores", "distributions"])
def test_padded_scores_may_hold_a_mask_already(name):
    """Scores with an additive mask in them, as some models give them, do not poison the loss."""
    loss = LOSSES[name][0]
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    lowest = torch.finfo(torch.float32).min
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 2, 2, 3, 3, generator=generator)
    clean = loss(student, teacher, mask)
    student[0, :, :, 2] = teacher[0, :, :, 2] = lowest
    own = student.clone().requires_grad_()
    value = loss(own, teacher, mask)
    value.backward()
    assert value.item() == pytest.approx(clean.item(), rel=1e-6)
    assert torch.isfinite(own.grad).all()


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_finite_differences(name):
    loss, shape, _ = LOSSES[name]
    sizes = [{"b": 2, "l": 3}.get(size, size) for size in shape]
    student, teacher = torch.randn(2, *sizes, generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    own = student.clone().requires_grad_()
    loss(own, teacher, mask).backward()
    for place in ((0, 0, 0, 0), (0, 1, 2, 1), (1, 0, 1, 0)):
        step = torch.zeros_like(student)
        step[place] = 1e-2
        slope = (loss(student + step, teacher, mask) - loss(student - step, teacher, mask)).item() / 2e-2
        assert own.grad[place].item() == pytest.approx(slope, abs=3e-4)


@pytest.mark.parametrize("name", LOSSES)
def test_bf16_tensors_give_the_loss_of_fp32_within_their_precision(name):
    loss, shape, _ = LOSSES[name]
    sizes = [{"b": 4, "l": 16}.get(size, size) for size in shape]
    student, teacher = torch.randn(2, *sizes, generator=torch.Generator().manual_seed(2))
    mask = (torch.arange(16) < torch.tensor([9, 12, 15, 16])[:, None]).long()
    exact, rounded = loss(student, teacher, mask), loss(student.bfloat16(), teacher.bfloat16(), mask)
    assert rounded.dtype == torch.float32
    assert rounded.item() == pytest.approx(exact.item(), rel=0.02)


@pytest.mark.parametrize("name", LOSSES)
def test_a_student_that_is_its_teacher_has_no_loss(name):
    loss, shape, _ = LOSSES[name]
    sizes = [{"b": 2, "l": 4}.get(size, size) for size in shape]
    same = torch.randn(*sizes, generator=torch.Generator().manual_seed(3))
    assert loss(same, same.clone(), torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])).item() == pytest.approx(0, abs=1e-6)


def test_no_gradient_reaches_the_teacher():
    for loss, shape, _ in LOSSES.values():
        sizes = [{"b": 1, "l": 2}.get(size, size) for size in shape]
        student, teacher = torch.zeros(sizes, requires_grad=True), torch.ones(sizes, requires_grad=True)
        loss(student, teacher).backward()
        assert teacher.grad is None


def test_unequal_numbers_of_heads_are_refused_rather_than_broadcast():
    for loss in (attention_score_mean_squared_error, attention_distribution_divergence):
        with pytest.raises(ValueError, match="attention scores"):
            loss(torch.zeros(2, 1, 3, 3), torch.zeros(2, 4, 3, 3))
