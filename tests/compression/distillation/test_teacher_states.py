import errno

import numpy as np
import pytest
import torch
from tiny_models import tiny_classifier, tiny_rows

from compression.architecture.conversion import shape_of_model
from compression.control import Control
from compression.data.encoding import collate
from compression.distillation import teacher_states
from compression.distillation.capture import capture, frozen_teacher
from compression.distillation.comparison import Wanted
from compression.distillation.teacher_states import StatesLayout, captured_in, keep_teacher_states
from compression.errors import Interrupted, UserError

WANTED = Wanted((0, 2), (3, 1), (1, 2), (0,))
ROWS = tiny_rows(30)


def keep(folder, teacher=None, control=None, dtype=torch.float32):
    frozen = frozen_teacher(teacher or tiny_classifier(), dtype, "cpu")
    layout = StatesLayout.of(WANTED, shape_of_model(frozen), dtype)
    options = {"pad_token_id": 0, "device": "cpu", "folder": folder, "alone": True, "control": control or Control()}
    return frozen, layout, keep_teacher_states(frozen, ROWS, layout, **options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_kept_states_are_those_computed_anew(tmp_path, dtype):
    frozen, _, kept = keep(tmp_path, dtype=dtype)
    rows = np.array([7, 0, 29, 7])
    batch = collate(ROWS, rows, 0)
    given, anew = captured_in(kept.batch(rows), WANTED), capture(frozen, batch, WANTED)
    real = batch["attention_mask"].bool()
    pairs = (real[:, :, None] & real[:, None, :])[:, None].expand(-1, 2, -1, -1)
    without_padding = {
        "hidden_states": lambda states: states[real],
        "first_states": lambda states: states,
        "scores": lambda scores: scores[pairs],
        "values": lambda values: values.transpose(1, 2)[real],
    }
    tolerance = {"atol": 1e-5, "rtol": 1e-4} if dtype == torch.float32 else {"atol": 0.05, "rtol": 0.05}
    for kind in ("hidden_states", "first_states", "scores", "values"):
        for own, expected in zip(getattr(given, kind), getattr(anew, kind), strict=True):
            assert own.dtype == dtype
            assert own.shape == expected.shape
            torch.testing.assert_close(without_padding[kind](own), without_padding[kind](expected), **tolerance)


def test_padding_is_zero(tmp_path):
    _, _, kept = keep(tmp_path)
    shortest, longest = int(np.argmin(ROWS.lengths)), int(np.argmax(ROWS.lengths))
    length = int(ROWS.lengths[shortest])
    states = captured_in(kept.batch(np.array([shortest, longest])), WANTED)
    assert (states.hidden_states[0][0, length:] == 0).all()
    assert (states.scores[0][0, :, length:] == 0).all()
    assert (states.scores[0][0, :, :, length:] == 0).all()
    assert (states.values[0][0, :, length:] == 0).all()


def test_the_estimate_is_the_size_of_the_file(tmp_path):
    for dtype, size in ((torch.float32, 4), (torch.bfloat16, 2)):
        folder = tmp_path / str(size)
        folder.mkdir()
        _, layout, _ = keep(folder, dtype=dtype)
        (file,) = folder.iterdir()
        assert layout.gigabytes(ROWS.lengths) * 1e9 == pytest.approx(file.stat().st_size)
        # two hidden states and two first states of 16, scores of 2 layers and values of one, each of 2 heads
        lengths = ROWS.lengths
        assert file.stat().st_size == size * (2 * 16 * lengths + 2 * 16 + 2 * 2 * lengths**2 + 16 * lengths).sum()


def test_a_resume_takes_what_is_there_and_never_another_teachers(tmp_path, monkeypatch):
    _, _, first = keep(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(teacher_states, "batches_for", lambda *args, **options: pytest.fail("computed again"))
        _, _, again = keep(tmp_path)
    rows = np.array([3, 4])
    assert torch.equal(first.batch(rows)["teacher_scores_0"], again.batch(rows)["teacher_scores_0"])
    _, _, other = keep(tmp_path, teacher=tiny_classifier(seed=1))
    assert not torch.equal(first.batch(rows)["teacher_scores_0"], other.batch(rows)["teacher_scores_0"])
    assert len(list(tmp_path.iterdir())) == 1


def test_an_interruption_leaves_nothing_that_would_be_taken_for_whole(tmp_path):
    looks = iter(range(100))
    with pytest.raises(Interrupted):
        keep(tmp_path, control=Control(should_stop=lambda: next(looks) == 0))
    assert not list(tmp_path.glob("*.bin"))
    keep(tmp_path)


def test_a_full_disk_is_told_with_what_to_do(tmp_path, monkeypatch):
    def full(*args, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(teacher_states, "_write", full)
    with pytest.raises(UserError, match=r"No space left on device\): lower teacher_states_gigabytes"):
        keep(tmp_path)
