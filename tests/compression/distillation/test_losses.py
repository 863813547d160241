import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from compression.distillation.losses.mean_squared_error import mean_squared_error
from compression.distillation.losses.soft_cross_entropy import soft_cross_entropy

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


def test_no_gradient_reaches_the_teacher():
    teacher, student = torch.ones(2, 3, requires_grad=True), torch.zeros(2, 3, requires_grad=True)
    for loss in (soft_cross_entropy, mean_squared_error):
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
