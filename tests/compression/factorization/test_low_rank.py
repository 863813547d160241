"""Truncated singular value decomposition against numpy, plain and weighted."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compression.factorization.low_rank import decompose, relative_error


def matrices(rows: int, columns: int, seed: int, deficient: bool = False) -> np.ndarray:
    random = np.random.default_rng(seed)
    if deficient:
        return random.normal(size=(rows, 1)) @ random.normal(size=(1, columns))
    return random.normal(size=(rows, columns))


def weights_of(kind: str, columns: int, seed: int) -> np.ndarray | None:
    random = np.random.default_rng(seed + 1)
    return {
        "none": None,
        "diagonal": random.uniform(0, 3, columns),
        "some zero": random.uniform(0, 3, columns) * (np.arange(columns) % 2),
        "full": np.tril(random.normal(size=(columns, columns))),
    }[kind]


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    seed=st.integers(0, 10_000),
    deficient=st.booleans(),
    kind=st.sampled_from(["none", "diagonal", "some zero", "full"]),
)
def test_the_error_is_the_tail_of_numpys_singular_values_and_falls_with_rank(rows, columns, seed, deficient, kind):
    matrix, weights = matrices(rows, columns, seed, deficient), weights_of(kind, columns, seed)
    weighted = matrix if weights is None else matrix @ (np.diag(weights) if weights.ndim == 1 else weights)
    values = np.linalg.svd(weighted, compute_uv=False)
    size = np.sqrt((values**2).sum())
    given_weights = None if weights is None else torch.from_numpy(weights)
    found = decompose(torch.from_numpy(matrix), given_weights)
    errors = []
    for rank in range(1, min(rows, columns) + 1):
        up, down = found.factors(rank)
        assert (up.shape, down.shape) == ((rows, rank), (rank, columns))
        expected = np.sqrt((values[rank:] ** 2).sum()) / size if size > 0 else 0.0
        measured = relative_error(torch.from_numpy(matrix), up @ down, given_weights)
        difference = weighted - (up @ down).double().numpy() @ (
            np.eye(columns) if weights is None else np.diag(weights) if weights.ndim == 1 else weights
        )
        assert found.tail(rank) == pytest.approx(expected, abs=1e-6)
        assert measured == pytest.approx(expected, abs=1e-5)
        assert measured == pytest.approx(np.linalg.norm(difference) / size if size > 0 else 0.0, abs=1e-6)
        errors.append(found.tail(rank))
    assert errors == sorted(errors, reverse=True)
    if kind in ("none", "diagonal"):
        np.testing.assert_allclose(up @ down, matrix, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 9), columns=st.integers(1, 9), seed=st.integers(0, 999), energy=st.floats(0.01, 1.0))
def test_energy_is_kept_by_the_smallest_rank_that_keeps_it(rows, columns, seed, energy):
    matrix = matrices(rows, columns, seed)
    squares = np.linalg.svd(matrix, compute_uv=False) ** 2
    kept = np.cumsum(squares) / squares.sum()
    rank = decompose(torch.from_numpy(matrix)).rank_for(energy)
    assert kept[rank - 1] >= energy - 1e-9
    assert rank == 1 or kept[rank - 2] < energy + 1e-9


def test_each_singular_value_is_split_evenly_between_the_factors():
    up, down = decompose(torch.from_numpy(matrices(7, 5, 3))).factors(4)
    torch.testing.assert_close(up.norm(dim=0), down.norm(dim=1))
    gram = up.T @ up
    torch.testing.assert_close(gram, torch.diag(gram.diagonal()), atol=1e-5, rtol=0)


def test_a_matrix_of_zeros_has_no_error_and_no_nan():
    found = decompose(torch.zeros(3, 4))
    up, down = found.factors(2)
    assert (up @ down).abs().max() == 0
    assert found.tail(1) == relative_error(torch.zeros(3, 4), up @ down) == 0.0
    assert found.rank_for(1.0) == 1
