"""What is captured of a teacher for every training row, kept on disk and mapped into memory."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compression.architecture.shape import EncoderShape
from compression.control import Control
from compression.data.encoding import Encoded
from compression.distillation.capture import Captured, capture
from compression.distillation.comparison import Wanted
from compression.errors import UserError
from compression.training.checkpoint_file import identity
from compression.training.predict import batches_for

if TYPE_CHECKING:
    from compression.architecture.encoder.modeling_bertpress import BertpressPreTrainedModel

_KINDS = ("hidden_states", "first_states", "scores", "values")
# numpy has no bf16: the same bits as whole numbers.
_STORED = {torch.bfloat16: (np.uint16, torch.uint16), torch.float16: (np.uint16, torch.uint16)}


@dataclass(frozen=True)
class StatesLayout:
    """How what is captured of one row lies in the file: one piece after the other, padding left out.

    Attributes:
        wanted: what is captured.
        hidden_size: width of the hidden states.
        head_size: width of a value vector.
        heads: for each layer its number of heads.
        dtype: number format, the teacher's own.

    Example:
        >>> layout = StatesLayout(Wanted((0, 2), scores=(1,)), 8, 4, (2, 2), torch.bfloat16)
        >>> layout.numbers(3), layout.gigabytes(np.array([3, 3])) * 1e9
        (66, 264.0)
    """

    wanted: Wanted
    hidden_size: int
    head_size: int
    heads: tuple[int, ...]
    dtype: torch.dtype

    @classmethod
    def of(cls, wanted: Wanted, shape: EncoderShape, dtype: torch.dtype) -> "StatesLayout":
        """Layout for a teacher.

        Args:
            wanted: what is captured.
            shape: the teacher's shape.
            dtype: its number format.

        Returns:
            The layout.
        """
        heads = tuple(shape.attention_heads[block] for block in shape.attention_blocks)
        return cls(wanted, shape.hidden_size, shape.head_size, heads, dtype)

    def pieces(self, length: int) -> Iterator[tuple[str, int, tuple[int, ...]]]:
        """Pieces of a row in their order.

        Args:
            length: word pieces of the row.

        Yields:
            Kind, place among its kind, shape.
        """
        for place in range(len(self.wanted.hidden_states)):
            yield "hidden_states", place, (length, self.hidden_size)
        for place in range(len(self.wanted.first_states)):
            yield "first_states", place, (self.hidden_size,)
        for place, layer in enumerate(self.wanted.scores):
            yield "scores", place, (self.heads[layer], length, length)
        for place, layer in enumerate(self.wanted.values):
            yield "values", place, (self.heads[layer], length, self.head_size)

    def numbers(self, length: int) -> int:
        """How many numbers a row takes.

        Args:
            length: word pieces of the row.

        Returns:
            Their count.
        """
        return sum(int(np.prod(shape)) for _, _, shape in self.pieces(length))

    def gigabytes(self, lengths: NDArray[np.int64]) -> float:
        """Size of the file for rows of given lengths, in 10^9 bytes.

        Args:
            lengths: word pieces of each row.

        Returns:
            The size.
        """
        different, counts = np.unique(lengths, return_counts=True)
        numbers = sum(self.numbers(int(length)) * int(count) for length, count in zip(different, counts, strict=True))
        return numbers * self.dtype.itemsize / 1e9


class TeacherStates:
    """A file of captured states, read row by row.

    Args:
        path: the file.
        layout: how a row lies in it.
        lengths: (rows,) word pieces of each row.
    """

    def __init__(self, path: Path, layout: StatesLayout, lengths: NDArray[np.int64]) -> None:
        self._layout, self._lengths = layout, lengths
        by_length = {int(length): layout.numbers(int(length)) for length in np.unique(lengths)}
        sizes = np.fromiter((by_length[length] for length in lengths.tolist()), np.int64, len(lengths))
        self._ends = np.cumsum(sizes)
        self._starts = self._ends - sizes
        stored = _STORED.get(layout.dtype, (np.float32, torch.float32))[0]
        self._numbers = np.memmap(path, stored, mode="c", shape=(int(self._ends[-1]),))  # "c": torch wants it writable

    def batch(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        """States of some rows, padded with zeros to the longest among them.

        Args:
            rows: (batch,) row numbers.

        Returns:
            `teacher_hidden_states_0` and so on, as `captured_in` reads them.
        """
        lengths = self._lengths[rows]
        longest = int(lengths.max())
        padded = {
            (kind, place): torch.zeros(len(rows), *shape, dtype=self._layout.dtype)
            for kind, place, shape in self._layout.pieces(longest)
        }
        for position, (row, length) in enumerate(zip(rows.tolist(), lengths.tolist(), strict=True)):
            numbers = torch.from_numpy(self._numbers[self._starts[row] : self._ends[row]]).view(self._layout.dtype)
            start = 0
            for kind, place, shape in self._layout.pieces(length):
                size = int(np.prod(shape))
                target = padded[kind, place][position]
                target[tuple(slice(extent) for extent in shape)] = numbers[start : start + size].view(shape)
                start += size
        return {f"teacher_{kind}_{place}": tensor for (kind, place), tensor in padded.items()}


def captured_in(batch: dict[str, Tensor], wanted: Wanted) -> Captured:
    """What `TeacherStates.batch` put into a batch.

    Args:
        batch: tensors by name.
        wanted: what was captured.

    Returns:
        The tensors.

    Example:
        >>> captured_in({"teacher_scores_0": torch.zeros(1, 2, 3, 3)}, Wanted(scores=(5,))).scores[0].shape
        torch.Size([1, 2, 3, 3])
    """
    kinds = {
        kind: tuple(batch[f"teacher_{kind}_{place}"] for place in range(len(getattr(wanted, kind)))) for kind in _KINDS
    }
    return Captured(kinds["hidden_states"], kinds["first_states"], kinds["scores"], kinds["values"])


def keep_teacher_states(
    teacher: "BertpressPreTrainedModel",
    encoded: Encoded,
    layout: StatesLayout,
    *,
    pad_token_id: int,
    device: str,
    folder: Path,
    alone: bool,
    control: Control,
) -> TeacherStates:
    """Run the teacher over all rows once and keep what is wanted of it; taken from the folder when it is there.

    Args:
        teacher: in evaluation mode, on its device.
        encoded: the training rows.
        layout: what is kept.
        pad_token_id: token that fills short sequences.
        device: name of the teacher's device, part of what tells files apart.
        folder: where the file is.
        alone: whether other such files in the folder are leftovers, to be removed.
        control: where to report progress, and whether to stop.

    Returns:
        The kept states.

    Raises:
        Interrupted: a stop was asked for; nothing is kept then.
        UserError: the disk is full.
    """
    owner = identity(teacher, encoded.digest(), device, repr(layout))
    path = folder / f"teacher_states-{owner[:32]}.bin"
    if not path.exists():
        for outdated in folder.glob("teacher_states-*") if alone else ():
            outdated.unlink()
        partial = path.with_suffix(f".{os.getpid()}.partial")
        try:
            _write(partial, teacher, encoded, layout, pad_token_id=pad_token_id, control=control)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise UserError(
                f"the teacher's states take {layout.gigabytes(encoded.lengths):.1f} GB in {folder}, and writing them "
                f"failed ({error.strerror}): lower teacher_states_gigabytes, and they are computed anew at every step"
            ) from error
        partial.replace(path)
    return TeacherStates(path, layout, encoded.lengths)


def _write(
    path: Path,
    teacher: "BertpressPreTrainedModel",
    encoded: Encoded,
    layout: StatesLayout,
    *,
    pad_token_id: int,
    control: Control,
) -> None:
    """Rows come from long to short; each is written to its place."""
    sizes = [layout.numbers(length) * layout.dtype.itemsize for length in encoded.lengths.tolist()]
    starts = np.cumsum([0, *sizes])
    control.progress.start("teacher's states", len(encoded), unit="row")
    with path.open("wb") as file, torch.no_grad():
        for rows, batch in batches_for(teacher, encoded, pad_token_id=pad_token_id, control=control):
            taken = capture(teacher, batch, layout.wanted)
            for position, row in enumerate(rows.tolist()):
                file.seek(int(starts[row]))
                for piece in _row_pieces(taken, layout, position, int(encoded.lengths[row])):
                    file.write(piece.data)
            control.progress.advance(len(rows), tokens=int(encoded.lengths[rows].sum()))
        file.flush()
        os.fsync(file.fileno())
    control.progress.finish()


def _row_pieces(taken: Captured, layout: StatesLayout, position: int, length: int) -> Iterator[NDArray[Any]]:
    for kind, place, shape in layout.pieces(length):
        tensor: Tensor = getattr(taken, kind)[place][position][tuple(slice(extent) for extent in shape)]
        numbers = tensor.to("cpu", layout.dtype).contiguous()
        yield numbers.view(_STORED.get(layout.dtype, (np.float32, torch.float32))[1]).numpy()
