"""The rows of a masked-language training: packed sequences, paired and masked anew in every step."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from compression.data.encoding import Encoded, collate
from compression.data.packed_corpus import PackedCorpus
from compression.pretraining.config import MaskingConfig, Objective
from compression.pretraining.masking import Tokens, generator, mask_tokens, smoothed_weights
from compression.pretraining.sentence_pairs import PairObjective, make_pairs
from compression.pretraining.vocabulary import Vocabulary

_MASKS, _PAIRS = 1, 2  # purposes of random numbers


@dataclass
class MaskedRows:
    """Packed sequences as `TrainingRows`: what a step sees of them is a function of (seed, step) and of its rows.

    It does not depend on the micro-batches that the step is computed in, nor on worker processes.

    Attributes:
        corpus: the sequences.
        vocabulary: the tokenizer's vocabulary.
        masking: shares and way of choosing.
        objective: whether sequences are cut into pairs.
        seed: seed of masks and pairs.
        counts: (vocabulary,) occurrences for frequency-smoothed choice; the corpus's own when None.
    """

    corpus: PackedCorpus
    vocabulary: Vocabulary
    masking: MaskingConfig
    objective: Objective
    seed: int
    counts: NDArray[np.int64] | None = None
    lengths: NDArray[np.int64] = field(init=False)
    _weights: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        counts = self.corpus.counts if self.counts is None else self.counts
        self.lengths = self.corpus.lengths + special_tokens(self.objective)
        self._weights = smoothed_weights(counts, self.masking.smoothing)

    def identity(self) -> str:
        """Digest of the sequences; masks follow from the training's own configuration and seed."""
        return self.corpus.digest

    def tensors(
        self, step: int, parts: Sequence[NDArray[np.int64]], wanted: Sequence[int]
    ) -> list[dict[str, torch.Tensor]]:
        """The tensors of a step, see `TrainingRows`.

        Args:
            step: number of the step.
            parts: row numbers of each micro-batch.
            wanted: numbers of the parts to make.

        Returns:
            For each wanted micro-batch of b sequences `input_ids` and `attention_mask` (b, length); for pairs
            `token_type_ids` and `labels` (b,); `positions` (n,), indices of the pieces to predict among all b × length
            positions, and `targets` (n,), those pieces; `targets_a_row`, the mean number of targets over all rows of
            the step, which parts of the step have in common.
        """
        rows = np.concatenate(list(parts))
        sequences, types, labels = self._sequences(rows, step)
        lengths = np.array([len(sequence) for sequence in sequences], np.int64)
        tokens = np.concatenate(sequences)
        bits = generator(self.seed, step, _MASKS)
        seen, chosen = mask_tokens(tokens, bits, self.masking, self.vocabulary, self._weights)
        ends = np.cumsum(lengths)
        encoded = Encoded(np.split(seen.astype(np.int32), ends[:-1]), types, labels, lengths)
        targets_a_row = torch.tensor(max(1, int(chosen.sum())) / len(rows), dtype=torch.float32)
        made = []
        firsts = np.cumsum([0, *map(len, parts)])
        for number in wanted:
            first, last = int(firsts[number]), int(firsts[number + 1])
            batch = collate(encoded, np.arange(first, last), self.vocabulary.pad)
            flat = slice(int(ends[first] - lengths[first]), int(ends[last - 1]))
            places = np.flatnonzero(batch["attention_mask"].numpy())
            batch["positions"] = torch.from_numpy(places[chosen[flat]])
            batch["targets"] = torch.from_numpy(tokens[flat][chosen[flat]])
            batch["targets_a_row"] = targets_a_row
            made.append(batch)
        return made

    def _sequences(
        self, rows: NDArray[np.int64], step: int
    ) -> tuple[list[Tokens], list[NDArray[np.int32]] | None, NDArray[np.int64] | None]:
        """Sequences with their special tokens, and segments and labels of pairs."""
        cls, sep = np.array([self.vocabulary.cls]), np.array([self.vocabulary.sep])
        if self.objective == "masked_lm":
            return [np.concatenate([cls, self.corpus.sequence(row), sep]) for row in rows.tolist()], None, None
        objective = cast(PairObjective, self.objective.removeprefix("masked_lm+"))
        pairs, labels = make_pairs(self.corpus, rows, generator(self.seed, step, _PAIRS), objective, self.vocabulary)
        sequences = [np.concatenate([cls, first, sep, second, sep]) for first, second in pairs]
        types = [np.repeat(np.array([0, 1], np.int32), [len(first) + 2, len(second) + 1]) for first, second in pairs]
        return sequences, types, labels


def special_tokens(objective: Objective) -> int:
    """Special tokens of a sequence: [CLS] … [SEP], or [CLS] … [SEP] … [SEP].

    Args:
        objective: whether sequences are pairs.

    Returns:
        Their number.

    Example:
        >>> special_tokens("masked_lm"), special_tokens("masked_lm+sentence_order")
        (2, 3)
    """
    return 2 if objective == "masked_lm" else 3
