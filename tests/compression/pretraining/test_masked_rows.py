import numpy as np
import pytest
import torch
from vocabularies import SPECIAL, vocabulary

from compression.data.packed_corpus import PackedCorpus, PackedWriter
from compression.pretraining.config import MaskingConfig
from compression.pretraining.rows import MaskedRows

OBJECTIVES = ("masked_lm", "masked_lm+sentence_order", "masked_lm+next_sentence")


@pytest.fixture
def packed(tmp_path) -> PackedCorpus:
    random = np.random.default_rng(0)
    writer = PackedWriter(tmp_path / "packed", vocabulary_size=1000, body_length=20, separator=None, limit=None)
    for length in random.integers(3, 60, 60):
        writer.add([random.integers(SPECIAL, 1000, length)])
    return writer.finish("owner")


def rows(packed, objective="masked_lm", seed=0, **masking) -> MaskedRows:
    return MaskedRows(packed, vocabulary(), MaskingConfig(probability=0.3, **masking), objective, seed)


def restored(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The batch with its targets put back."""
    pieces = batch["input_ids"].clone()
    pieces.view(-1)[batch["positions"]] = batch["targets"]
    return pieces


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_sequences_segments_and_targets(packed, objective):
    made = rows(packed, objective)
    numbers = np.array([4, 0, 17, 3])
    [batch] = made.tensors(5, [numbers], [0])
    pieces, mask = restored(batch), batch["attention_mask"].bool()
    for place, number in enumerate(numbers):
        real = pieces[place][mask[place]].tolist()
        assert (real[0], real[-1]) == (2, 3)
        body = real[1:-1]
        if objective == "masked_lm":
            assert body == packed.sequence(number).tolist()
            assert len(real) == made.lengths[number]
            continue
        middle = body.index(3)
        types = batch["token_type_ids"][place][mask[place]].tolist()
        assert types == [0] * (middle + 2) + [1] * (len(real) - middle - 2)
        first, second = body[:middle], body[middle + 1 :]
        whole = packed.sequence(number).tolist()
        if batch["labels"][place] == 0:
            assert first + second == whole
        elif objective == "masked_lm+sentence_order":
            assert second + first == whole
    assert (pieces[~mask] == 0).all()
    assert not set(batch["positions"].tolist()) & set(torch.nonzero(~mask.view(-1)).view(-1).tolist())
    assert (batch["targets"] >= SPECIAL).all()
    assert float(batch["targets_a_row"]) == pytest.approx(len(batch["targets"]) / 4)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("choice", ["uniform", "frequency_smoothed"])
def test_micro_batches_have_no_influence(packed, objective, choice):
    made = rows(packed, objective, choice=choice)
    numbers = np.arange(20)
    [whole] = made.tensors(1, [numbers], [0])
    parts = made.tensors(1, [numbers[:7], numbers[7:8], numbers[8:]], [0, 1, 2])
    longest = whole["input_ids"].shape[1]

    def column(name):
        padded = [torch.nn.functional.pad(part[name], (0, longest - part[name].shape[1])) for part in parts]
        return torch.cat(padded)

    assert torch.equal(column("input_ids"), whole["input_ids"])
    assert torch.equal(torch.cat([part["targets"] for part in parts]), whole["targets"])
    assert {float(part["targets_a_row"]) for part in parts} == {float(whole["targets_a_row"])}
    if objective != "masked_lm":
        assert torch.equal(torch.cat([part["labels"] for part in parts]), whole["labels"])


def test_a_step_is_a_function_of_seed_and_step(packed):
    numbers = np.arange(10)
    [first], [again] = rows(packed).tensors(3, [numbers], [0]), rows(packed).tensors(3, [numbers], [0])
    assert all(torch.equal(first[name], again[name]) for name in first)
    for other in (rows(packed).tensors(4, [numbers], [0]), rows(packed, seed=1).tensors(3, [numbers], [0])):
        assert not torch.equal(first["input_ids"], other[0]["input_ids"])


def test_a_step_without_a_target_does_not_divide_by_zero(packed):
    made = MaskedRows(packed, vocabulary(), MaskingConfig(probability=1e-9), "masked_lm", 0)
    [batch] = made.tensors(0, [np.array([1])], [0])
    assert len(batch["targets"]) == 0
    assert float(batch["targets_a_row"]) == 1


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_processes_see_parts_of_the_same_masks(packed, objective):
    made = rows(packed, objective)
    parts = [np.arange(5), np.arange(5, 6), np.arange(6, 12)]
    whole = made.tensors(2, parts, [0, 1, 2])
    for number in range(3):
        [own] = made.tensors(2, parts, [number])
        assert own.keys() == whole[number].keys()
        assert all(torch.equal(own[name], whole[number][name]) for name in own)
