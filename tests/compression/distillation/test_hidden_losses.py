"""Losses on hidden states against their equations, text by text without padding."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from padded_batches import batches, tensor

from compression.distillation.losses.averaging import average_tokens
from compression.distillation.losses.embedding_mean_squared_error import embedding_mean_squared_error
from compression.distillation.losses.hidden_cosine import hidden_cosine
from compression.distillation.losses.hidden_mean_squared_error import hidden_mean_squared_error
from compression.distillation.losses.patient_cls import patient_cls
from compression.distillation.projections import Projections

WIDTHS = st.integers(1, 4)
QUICK = settings(max_examples=15, deadline=None)


def projection(inputs, outputs, *, bias, seed=0):
    module = torch.nn.Linear(inputs, outputs, bias=bias, dtype=torch.float64)
    torch.nn.init.normal_(module.weight, generator=torch.Generator().manual_seed(seed))
    return module


@QUICK
@given(batches, WIDTHS, WIDTHS)
def test_hidden_error_is_equation_8_on_real_word_pieces(batch, own, taught):
    student, teacher = batch.draw("b", "l", own), batch.draw("b", "l", taught, which=1)
    learned = projection(own, taught, bias=False)
    matrix = learned.weight.detach().numpy().T
    by_text = [
        ((student[text, :length] @ matrix - teacher[text, :length]) ** 2).mean()
        for text, length in enumerate(batch.lengths)
    ]
    for average, expected in (("examples", batch.mean_over_texts), ("tokens", batch.mean_over_tokens)):
        for loss in (hidden_mean_squared_error, embedding_mean_squared_error):  # eq. 9 is the same on the embeddings
            value = loss(tensor(student), tensor(teacher), batch.mask, learned, average=average)
            assert value.item() == pytest.approx(expected(by_text), rel=1e-5, abs=1e-6)


@QUICK
@given(batches, WIDTHS, WIDTHS)
def test_released_hidden_error_counts_padding_and_has_a_bias(batch, own, taught):
    student, teacher = batch.draw("b", "l", own), batch.draw("b", "l", taught, which=1)
    learned = projection(own, taught, bias=True)
    fitted = student @ learned.weight.detach().numpy().T + learned.bias.detach().numpy()
    for loss in (hidden_mean_squared_error, embedding_mean_squared_error):
        value = loss(tensor(student), tensor(teacher), batch.mask, learned, form="released")
        assert value.item() == pytest.approx(((fitted - teacher) ** 2).mean(), rel=1e-5, abs=1e-6)


@QUICK
@given(batches, WIDTHS)
def test_cosine_is_the_mean_angle_of_real_word_pieces(batch, width):
    student, teacher = batch.draw("b", "l", width), batch.draw("b", "l", width, which=1)
    norms = np.linalg.norm(student, axis=-1) * np.linalg.norm(teacher, axis=-1)
    angles = 1 - (student * teacher).sum(axis=-1) / norms
    by_text = [angles[text, :length].mean() for text, length in enumerate(batch.lengths)]
    given_both = tensor(student), tensor(teacher), batch.mask
    assert hidden_cosine(*given_both).item() == pytest.approx(batch.mean_over_texts(by_text), abs=1e-5)
    assert hidden_cosine(*given_both, "tokens").item() == pytest.approx(batch.mean_over_tokens(by_text), abs=1e-5)


def test_cosine_is_that_of_the_released_distilbert():
    """CosineEmbeddingLoss over the word pieces that the attention mask selects."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 3, 5, 8, generator=generator)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]])
    real = mask.bool()
    released = torch.nn.CosineEmbeddingLoss()(student[real], teacher[real], torch.ones(int(real.sum())))
    assert hidden_cosine(student, teacher, mask, "tokens").item() == pytest.approx(released.item(), rel=1e-5, abs=1e-6)


@QUICK
@given(batches, WIDTHS, st.integers(1, 3))
def test_patient_loss_compares_normalised_states_of_all_layers(batch, width, layers):
    student, teacher = batch.draw("b", layers, width), batch.draw("b", layers, width, which=1)
    apart = student / np.linalg.norm(student, axis=-1, keepdims=True)
    apart = apart - teacher / np.linalg.norm(teacher, axis=-1, keepdims=True)
    assert patient_cls(tensor(student), tensor(teacher)).item() == pytest.approx(
        (apart**2).sum() / len(batch.lengths), rel=1e-5, abs=1e-9
    )
    released = patient_cls(tensor(student), tensor(teacher), "released").item()
    assert released == pytest.approx((apart**2).mean(), rel=1e-5, abs=1e-9)


def hidden_losses():
    learned = projection(3, 3, bias=False).float()
    return {
        "hidden": lambda *given_both: hidden_mean_squared_error(*given_both, learned),
        "embedding": lambda *given_both: embedding_mean_squared_error(*given_both, learned),
        "cosine": hidden_cosine,
        "cosine by token": lambda *given_both: hidden_cosine(*given_both, "tokens"),
    }


@pytest.mark.parametrize("name", hidden_losses())
@QUICK
@given(batches)
def test_padding_has_no_influence_and_receives_no_gradient(name, batch):
    loss = hidden_losses()[name]
    student, teacher = batch.draw("b", "l", 3), batch.draw("b", "l", 3, which=1)
    own = tensor(student, gradient=True)
    value = loss(own.float(), tensor(teacher).float(), batch.mask)
    value.backward()
    assert (own.grad[batch.mask == 0] == 0).all()
    wider = ((0, 0), (0, 3), (0, 0))
    mask = torch.nn.functional.pad(batch.mask, (0, 3))
    padded = [tensor(np.pad(array, wider, constant_values=9.0)).float() for array in (student, teacher)]
    assert loss(*padded, mask).item() == pytest.approx(value.item(), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("name", hidden_losses())
def test_gradients_are_those_of_finite_differences(name):
    learned = projection(3, 3, bias=False)
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    generator = torch.Generator().manual_seed(1)
    student, teacher = torch.randn(2, 2, 3, 3, generator=generator)
    loss = hidden_losses()[name]
    own = student.clone().requires_grad_()
    loss(own, teacher, mask).backward()
    step = torch.zeros_like(student)
    for place in ((0, 0, 0), (0, 2, 1), (1, 0, 2)):
        step.zero_()[place] = 1e-2
        with torch.no_grad():
            slope = (loss(student + step, teacher, mask) - loss(student - step, teacher, mask)).item() / 2e-2
        assert own.grad[place].item() == pytest.approx(slope, abs=2e-4)
    assert learned.weight.grad is None


@pytest.mark.parametrize("name", hidden_losses())
def test_bf16_states_give_the_loss_of_fp32_within_their_precision(name):
    loss, generator = hidden_losses()[name], torch.Generator().manual_seed(2)
    student, teacher = torch.randn(2, 8, 20, 3, generator=generator)
    mask = (torch.arange(20) < torch.arange(13, 21)[:, None]).long()
    exact = loss(student, teacher, mask)
    rounded = loss(student.bfloat16().float(), teacher.bfloat16(), mask)
    assert rounded.dtype == torch.float32
    assert rounded.item() == pytest.approx(exact.item(), rel=0.01)


@QUICK
@given(batches)
def test_micro_batches_add_up_to_the_batch(batch):
    values, mask = tensor(batch.draw("b", "l")), batch.mask
    count = len(batch.lengths)
    parts = [average_tokens(values[row : row + 1], mask[row : row + 1]) / count for row in range(count)]
    assert sum(parts).item() == pytest.approx(average_tokens(values, mask).item(), abs=1e-12)


def test_a_text_without_real_word_pieces_is_nothing():
    values = torch.tensor([[2.0, 4.0], [7.0, 7.0]])
    assert average_tokens(values, torch.tensor([[1, 1], [0, 0]])).item() == 1.5
    assert average_tokens(values, torch.zeros(2, 2)).item() == 0
    assert average_tokens(values, torch.zeros(2, 2), "tokens").item() == 0


def test_widths_that_differ_need_a_projection():
    for loss in (hidden_mean_squared_error, hidden_cosine, embedding_mean_squared_error):
        with pytest.raises(ValueError, match=r"student hidden states \(1, 2, 3\), teacher's \(1, 2, 4\)"):
            loss(torch.zeros(1, 2, 3), torch.zeros(1, 2, 4))


def test_projections_of_paper_and_released_code():
    paper, released = Projections(4, 6, seed=0), Projections(4, 6, seed=0, form="released")
    assert {name: tuple(value.shape) for name, value in paper.named_parameters()} == {
        "hidden.weight": (6, 4),
        "embedding.weight": (6, 4),
    }
    assert not torch.equal(paper.hidden.weight, paper.embedding.weight)
    assert released.embedding is released.hidden
    assert released.hidden.bias.abs().sum() == 0
    square = Projections(5, 5, seed=0)
    assert torch.equal(square.hidden.weight, torch.eye(5))
    assert not torch.equal(Projections(5, 5, seed=0, form="released").hidden.weight, torch.eye(5))


def test_projections_follow_the_seed_and_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    first, again, other = (Projections(30, 60, seed=seed).hidden.weight for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.std().item() == pytest.approx(0.02, rel=0.1)
