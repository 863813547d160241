"""Relational losses against their sums over pairs and triples of examples."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compression.distillation.losses.relational_angle import relational_angle
from compression.distillation.losses.relational_distance import relational_distance

QUICK = settings(max_examples=12, deadline=None)
SIZES = (st.integers(2, 5), st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**32 - 1))


def huber(difference):
    size = abs(difference)
    return size**2 / 2 if size <= 1 else size - 0.5


def points(count, own, taught, seed):
    random = np.random.default_rng(seed)
    return random.normal(size=(count, own)), random.normal(size=(count, taught))


@QUICK
@given(*SIZES)
def test_distances_of_all_pairs(count, own, taught, seed):
    student, teacher = points(count, own, taught, seed)
    pairs = list(itertools.permutations(range(count), 2))
    distances = [{(i, j): np.linalg.norm(x[i] - x[j]) for i, j in pairs} for x in (student, teacher)]
    means = [np.mean(list(by_pair.values())) for by_pair in distances]
    expected = np.mean([huber(distances[0][pair] / means[0] - distances[1][pair] / means[1]) for pair in pairs])
    value = relational_distance(torch.from_numpy(student), torch.from_numpy(teacher))
    assert value.item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


@QUICK
@given(st.integers(3, 5), *SIZES[1:])
def test_angles_of_all_triples(count, own, taught, seed):
    student, teacher = points(count, own, taught, seed)

    def cosine(x, i, j, k):
        first, second = x[i] - x[j], x[k] - x[j]
        return first @ second / (np.linalg.norm(first) * np.linalg.norm(second))

    triples = list(itertools.permutations(range(count), 3))
    expected = np.mean([huber(cosine(student, *triple) - cosine(teacher, *triple)) for triple in triples])
    value = relational_angle(torch.from_numpy(student), torch.from_numpy(teacher))
    assert value.item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("loss", [relational_distance, relational_angle])
def test_size_and_rotation_do_not_count(loss):
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(5, 3, generator=generator)
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator))
    assert loss(4 * teacher @ rotation + 1, teacher).item() == pytest.approx(0, abs=1e-6)
    assert loss(torch.randn(5, 3, generator=generator), teacher).item() > 0.01


@pytest.mark.parametrize("loss", [relational_distance, relational_angle])
def test_equal_examples_and_tiny_batches_give_finite_gradients(loss):
    for count in (1, 2, 4):
        student = torch.ones(count, 3, requires_grad=True)
        value = loss(student, torch.randn(count, 2, generator=torch.Generator().manual_seed(1)))
        value.backward()
        assert torch.isfinite(value)
        assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize("loss", [relational_distance, relational_angle])
def test_other_examples_are_refused(loss):
    with pytest.raises(ValueError, match="student has 3 examples, teacher 4"):
        loss(torch.zeros(3, 2), torch.zeros(4, 2))
