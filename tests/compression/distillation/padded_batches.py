"""Random padded batches for tests of losses, and what an equation gives on them, text by text without padding."""

from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import strategies as st


@dataclass(frozen=True)
class PaddedBatch:
    """Lengths of the texts of a batch that is padded to `width`, and random tensors for it."""

    lengths: tuple[int, ...]
    width: int
    seed: int

    @property
    def mask(self) -> torch.Tensor:
        return torch.tensor([[int(place < length) for place in range(self.width)] for length in self.lengths])

    def draw(self, *shape: int | str, which: int = 0) -> np.ndarray:
        """Normal numbers; "b" and "l" in the shape stand for batch and padded length."""
        sizes = [{"b": len(self.lengths), "l": self.width}.get(size, size) for size in shape]
        return np.random.default_rng([self.seed, which]).normal(size=sizes) * 2

    def mean_over_texts(self, values: list[float]) -> float:
        return float(np.mean(values))

    def mean_over_tokens(self, values: list[float]) -> float:
        return float(np.dot(values, self.lengths) / sum(self.lengths))


batches = st.builds(
    lambda lengths, extra, seed: PaddedBatch(tuple(lengths), max(lengths) + extra, seed),
    st.lists(st.integers(1, 5), min_size=1, max_size=3),
    st.integers(0, 2),
    st.integers(0, 2**32 - 1),
)


def tensor(array: np.ndarray, *, gradient: bool = False) -> torch.Tensor:
    return torch.from_numpy(array.copy()).requires_grad_(gradient)


def softmax(scores: np.ndarray) -> np.ndarray:
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def divergence(teacher: np.ndarray, student: np.ndarray) -> np.ndarray:
    """KL(teacher || student) along the last axis."""
    return (teacher * (np.log(teacher) - np.log(student))).sum(axis=-1)
