import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from compression.distillation.losses.kl_divergence import kl_divergence
from compression.distillation.losses.masked_language_model import masked_language_model
from compression.distillation.losses.mean_squared_error import mean_squared_error
from compression.distillation.losses.soft_binary_cross_entropy import soft_binary_cross_entropy
from compression.distillation.losses.soft_cross_entropy import soft_cross_entropy
from compression.distillation.losses.span_soft_cross_entropy import span_soft_cross_entropy

LOGITS = arrays(np.float64, (4, 3), elements=st.floats(-10, 10))
TEMPERATURES = st.floats(0.5, 10)


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


@settings(max_examples=40, deadline=None)
@given(LOGITS, LOGITS, TEMPERATURES)
def test_soft_cross_entropy_is_the_mean_over_examples_times_the_squared_temperature(student, teacher, temperature):
    expected = -(softmax(teacher / temperature) * np.log(softmax(student / temperature))).sum() / 4 * temperature**2
    loss = soft_cross_entropy(torch.from_numpy(student), torch.from_numpy(teacher), temperature)
    assert loss.item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


@settings(max_examples=40, deadline=None)
@given(LOGITS, LOGITS, TEMPERATURES)
def test_its_gradient_is_that_of_the_divergence(student, teacher, temperature):
    """d/dz T^2 KL = T (softmax(z/T) - softmax(t/T)) / b (Hinton et al. 2015, eq. 2 times T^2)."""
    logits = torch.from_numpy(student).requires_grad_()
    soft_cross_entropy(logits, torch.from_numpy(teacher), temperature).backward()
    expected = temperature * (softmax(student / temperature) - softmax(teacher / temperature)) / 4
    np.testing.assert_allclose(logits.grad.numpy(), expected, atol=1e-4)


def test_it_does_not_depend_on_the_number_of_classes_by_a_factor():
    """TinyBERT's released code divides by the number of classes as well."""
    certain = torch.tensor([[9.0, 0.0, 0.0, 0.0]]) * 10
    student = torch.tensor([[0.0, 0.0, 0.0, 0.0]])
    assert soft_cross_entropy(student, certain).item() == pytest.approx(np.log(4))


@settings(max_examples=20, deadline=None)
@given(LOGITS, LOGITS, TEMPERATURES)
def test_released_soft_cross_entropy_averages_over_classes_too(student, teacher, temperature):
    """TinyBERT: (- softmax(t / T) * log_softmax(s / T)).mean(), without a factor."""
    expected = -(softmax(teacher / temperature) * np.log(softmax(student / temperature))).mean()
    loss = soft_cross_entropy(torch.from_numpy(student), torch.from_numpy(teacher), temperature, form="released")
    assert loss.item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(LOGITS, LOGITS, TEMPERATURES)
def test_soft_binary_cross_entropy_takes_each_label_by_itself(student, teacher, temperature):
    own, taught = (1 / (1 + np.exp(-logits / temperature)) for logits in (student, teacher))
    expected = -(taught * np.log(own) + (1 - taught) * np.log(1 - own)).mean() * temperature**2
    loss = soft_binary_cross_entropy(torch.from_numpy(student), torch.from_numpy(teacher), temperature)
    assert loss.item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.floats(0.3, 5), st.integers(0, 1000))
def test_spans_are_distributions_over_real_word_pieces(lengths, temperature, seed):
    student, teacher = np.random.default_rng(seed).normal(size=(2, len(lengths), max(lengths), 2)) * 5
    total = 0.0
    for row, length in enumerate(lengths):
        own, taught = (softmax(logits[row, :length].T / temperature) for logits in (student, teacher))
        total -= (taught * np.log(own)).sum() / 2
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    own = torch.from_numpy(student).requires_grad_()
    loss = span_soft_cross_entropy(own, torch.from_numpy(teacher), mask, temperature)
    assert loss.item() == pytest.approx(total / len(lengths) * temperature**2, rel=1e-4, abs=1e-5)
    loss.backward()
    assert (own.grad[~mask] == 0).all()
    assert torch.isfinite(own.grad).all()


def test_the_span_loss_has_the_gradient_of_the_released_distilbert():
    """0.5 * (KL_start + KL_end) with KLDivLoss(reduction="batchmean") times T^2."""
    student, teacher = torch.randn(2, 3, 5, 2, generator=torch.Generator().manual_seed(4))
    own, again = student.clone().requires_grad_(), student.clone().requires_grad_()
    span_soft_cross_entropy(own, teacher, temperature=2.0).backward()
    divergence = torch.nn.KLDivLoss(reduction="batchmean")
    released = [
        divergence((again[..., end] / 2).log_softmax(-1), (teacher[..., end] / 2).softmax(-1)) * 4 for end in (0, 1)
    ]
    (sum(released) / 2).backward()
    torch.testing.assert_close(own.grad, again.grad)


@settings(max_examples=40, deadline=None)
@given(LOGITS, LOGITS, TEMPERATURES, st.lists(st.booleans(), min_size=4, max_size=4))
def test_divergence_is_the_mean_over_selected_rows(student, teacher, temperature, selected):
    rows = np.flatnonzero(selected)
    taught, own = softmax(teacher[rows] / temperature), softmax(student[rows] / temperature)
    expected = temperature**2 * (taught * np.log(taught / own)).sum() / max(1, len(rows))
    given_both = [torch.from_numpy(logits).reshape(2, 2, 3) for logits in (student, teacher)]
    loss = kl_divergence(*given_both, temperature, torch.tensor(selected).reshape(2, 2))
    assert loss.item() == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_divergence_is_that_of_the_released_distilbert():
    """KLDivLoss(reduction="batchmean") over the selected word pieces, times T^2."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 3, 4, 11, generator=generator)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]])
    real = mask.bool()
    log_student = torch.log_softmax(student[real] / 2, dim=-1)
    released = torch.nn.KLDivLoss(reduction="batchmean")(log_student, torch.softmax(teacher[real] / 2, dim=-1)) * 4
    own = student.clone().requires_grad_()
    loss = kl_divergence(own, teacher, 2.0, mask)
    assert loss.item() == pytest.approx(released.item(), rel=1e-5)
    loss.backward()
    assert (own.grad[~real] == 0).all()


def test_divergence_and_cross_entropy_have_the_same_gradient():
    student, teacher = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1))
    gradients = []
    for loss in (kl_divergence, soft_cross_entropy):
        own = student.clone().requires_grad_()
        loss(own, teacher, 3.0).backward()
        gradients.append(own.grad)
    torch.testing.assert_close(*gradients)


def test_masked_language_model_is_the_mean_over_masked_word_pieces():
    logits = np.random.default_rng(0).normal(size=(2, 4, 7))
    labels = np.array([[-100, 3, -100, 6], [0, -100, -100, -100]])
    log = np.log(softmax(logits.reshape(8, 7))).reshape(2, 4, 7)
    expected = -np.mean([log[0, 1, 3], log[0, 3, 6], log[1, 0, 0]])
    assert masked_language_model(torch.tensor(logits), torch.tensor(labels)).item() == pytest.approx(expected, rel=1e-6)


def test_a_batch_in_which_nothing_was_masked_has_no_loss():
    logits = torch.randn(3, 7, requires_grad=True)
    loss = masked_language_model(logits, torch.full((3,), -100))
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("loss", [soft_cross_entropy, kl_divergence, mean_squared_error])
def test_bf16_logits_give_the_loss_of_fp32_within_their_precision(loss):
    student, teacher = torch.randn(2, 64, 5, generator=torch.Generator().manual_seed(3))
    rounded = loss(student.bfloat16(), teacher.bfloat16())
    assert rounded.dtype == torch.float32
    assert rounded.item() == pytest.approx(loss(student, teacher).item(), rel=0.01)


def test_no_gradient_reaches_the_teacher():
    teacher, student = torch.ones(2, 3, requires_grad=True), torch.zeros(2, 3, requires_grad=True)
    for loss in (soft_cross_entropy, mean_squared_error, kl_divergence):
        loss(student, teacher).backward()
    assert teacher.grad is None
    assert student.grad is not None


def test_mean_squared_error():
    student, teacher = np.random.default_rng(0).normal(size=(2, 5, 1))
    loss = mean_squared_error(torch.from_numpy(student), torch.from_numpy(teacher))
    assert loss.item() == pytest.approx(((student - teacher) ** 2).mean(), rel=1e-6)


@pytest.mark.parametrize("loss", [soft_cross_entropy, mean_squared_error])
def test_shapes_that_would_broadcast_are_refused(loss):
    with pytest.raises(ValueError, match="teacher's"):
        loss(torch.zeros(4, 1), torch.zeros(4))
