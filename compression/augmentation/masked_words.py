"""What a masked language model expects in the place of a word: batched, its head computed at the mask alone."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from compression.architecture.masked_lm import MaskedLanguageModel
from compression.augmentation.words import Word, replaceable_words
from compression.control import Control
from compression.errors import CheckpointError, UserError
from compression.runtime import Runtime
from compression.training.precision import DTYPES
from compression.training.predict import TOKENS_A_BATCH, longest_input, model_inputs

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MaskedInput = Literal["sentence", "two-copies"]

_KNOWN_WORD = "the"


@dataclass(frozen=True)
class MaskedText:
    """A text in word pieces, and which of its words may be asked for.

    Attributes:
        pieces: (length,) int32 word pieces, without special tokens.
        words: numbers of the replaceable words that are one known word piece, in the order of `replaceable_words`.
        positions: the word piece of each.
    """

    pieces: NDArray[np.int32]
    words: tuple[int, ...]
    positions: tuple[int, ...]


class MaskedWordModel:
    """A masked language model that is asked for whole words.

    Args:
        model: a masked LM of any architecture that transformers knows; moved to the runtime's device and precision.
        tokenizer: its tokenizer, a fast one.
        masked_input: `sentence` reads the sentence with the mask (TinyBERT's paper); `two-copies` reads the sentence
            itself as second segment (its released code).
        runtime: device and precision.
        tokens_a_batch: word pieces that are computed at once; by default what suits the device.

    Attributes:
        spellings: how each vocabulary entry is written.
        is_word: (vocabulary,) whether it is a whole word.

    Raises:
        UserError: the tokenizer has no mask token or no offsets, or does not belong to the model.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        *,
        masked_input: MaskedInput,
        runtime: Runtime,
        tokens_a_batch: int | None = None,
    ) -> None:
        if tokenizer.mask_token_id is None:
            raise UserError("the masked LM's tokenizer has no mask token: the model was not trained to fill masks")
        if not tokenizer.is_fast:
            raise UserError("the masked LM's tokenizer tells no offsets; save it as a fast one, with a tokenizer.json")
        if len(tokenizer) > model.config.vocab_size:
            raise CheckpointError(
                f"the tokenizer does not belong to the masked LM: it has {len(tokenizer)} word pieces, "
                f"the model's vocabulary {model.config.vocab_size}"
            )
        self._tokenizer = tokenizer
        self._model = MaskedLanguageModel(model.to(device=runtime.device, dtype=DTYPES[runtime.precision]).eval())
        self._tokens_a_batch = tokens_a_batch or TOKENS_A_BATCH[runtime.device]
        self._template = _Template.of(tokenizer, masked_input, longest_input(model.config))
        self.spellings, self.is_word = _whole_words(tokenizer)

    def read(self, texts: Sequence[str], stop_words: Collection[str]) -> list[MaskedText]:
        """Cut texts into word pieces and find the words that are one of them.

        Args:
            texts: any texts.
            stop_words: words to leave out, in lower case.

        Returns:
            The texts in the same order.
        """
        # An empty list has no encoding.
        encoded = _encode(self._tokenizer, list(texts), return_offsets_mapping=True) if texts else {}
        return [
            _masked_text(replaceable_words(text, stop_words), pieces, offsets, self._tokenizer.unk_token_id)
            for text, pieces, offsets in zip(
                texts, encoded.get("input_ids", ()), encoded.get("offset_mapping", ()), strict=True
            )
        ]

    def most_probable(
        self, texts: Sequence[MaskedText], count: int, *, exclude_original: bool = False, control: Control | None = None
    ) -> list[NDArray[np.int32]]:
        """Ask for the most probable whole words in the place of each word of some texts.

        Equal questions are asked once. Only inputs of the same length are computed together, so none is padded, and
        what a row gives does not depend on the others in its batch, as far as the device's kernels allow.

        Args:
            texts: texts in word pieces.
            count: words to find.
            exclude_original: leave out the word that stands there.
            control: where to report progress (by word pieces), and whether to stop.

        Returns:
            For each text (words, count) vocabulary numbers, in ascending order; fewer columns when the vocabulary has
            fewer whole words.

        Raises:
            Interrupted: a stop was asked for.
            CheckpointError: the model's scores are not finite.
        """
        control = control or Control()
        asked: dict[tuple[bytes, int], int] = {}
        numbers = []
        questions: list[tuple[NDArray[np.int32], int]] = []
        for text in texts:
            whole = text.pieces.tobytes()
            numbers.append([asked.setdefault((whole, position), len(asked)) for position in text.positions])
            questions += [
                (text.pieces, position)
                for position, number in zip(text.positions, numbers[-1], strict=True)
                if number >= len(questions)
            ]
        answers = self._answers(questions, count, exclude_original, control)
        return [answers[number] for number in numbers]

    def _answers(
        self, questions: Sequence[tuple[NDArray[np.int32], int]], count: int, exclude_original: bool, control: Control
    ) -> NDArray[np.int32]:
        """(questions, words) best words of each."""
        count = min(count, int(self.is_word.sum()) - exclude_original)
        answers = np.empty((len(questions), count), np.int32)
        inputs = [self._template.fill(pieces, position) for pieces, position in questions]
        lengths = np.fromiter((len(row.input_ids) for row in inputs), np.int64, len(inputs))
        for length in np.unique(lengths).tolist():
            rows = np.flatnonzero(lengths == length)
            size = max(1, self._tokens_a_batch // length)
            for part in np.split(rows, range(size, len(rows), size)):
                control.check()
                originals = [int(questions[row][0][questions[row][1]]) for row in part] if exclude_original else None
                answers[part] = self._best([inputs[row] for row in part], originals, count)
                control.progress.advance(0, tokens=len(part) * length)
        return answers

    @torch.inference_mode()
    def _best(self, inputs: "Sequence[_Filled]", originals: list[int] | None, count: int) -> NDArray[np.int32]:
        batch = {
            "input_ids": torch.from_numpy(np.stack([row.input_ids for row in inputs])),
            "token_type_ids": torch.from_numpy(np.stack([row.token_type_ids for row in inputs])),
        }
        batch["attention_mask"] = torch.ones_like(batch["input_ids"])
        model = self._model.model
        masks = torch.tensor([row.mask for row in inputs]) + torch.arange(len(inputs)) * len(inputs[0].input_ids)
        given = {name: tensor.to(model.device) for name, tensor in model_inputs(model, batch).items()}
        scores = self._model(masks.to(model.device), **given)[0].float()
        if not torch.isfinite(scores).all():
            raise CheckpointError("the masked LM's scores are not finite: it is damaged, or needs another precision")
        # A model's vocabulary may be longer than its tokenizer's.
        is_word = torch.from_numpy(np.pad(self.is_word, (0, scores.shape[1] - len(self.is_word))))
        scores.masked_fill_(~is_word.to(scores.device), -torch.inf)
        if originals is not None:
            scores.scatter_(1, torch.tensor(originals, device=scores.device)[:, None], -torch.inf)
        best = scores.topk(count, dim=1, sorted=False).indices
        ascending: NDArray[np.int32] = best.sort(dim=1).values.to("cpu", torch.int32).numpy()
        return ascending


def _encode(tokenizer: "PreTrainedTokenizerBase", texts: list[str], **options: Any) -> Any:
    """Word pieces without special tokens, however long."""
    return tokenizer(texts, add_special_tokens=False, truncation=False, padding=False, verbose=False, **options)


def _masked_text(
    words: Sequence[Word], pieces: Sequence[int], offsets: Sequence[tuple[int, int]], unknown: int | None
) -> MaskedText:
    """Find the words that one word piece stands for; a piece for anything unknown stands for none."""
    places: dict[tuple[int, int], list[int]] = {}
    for place, (start, end) in enumerate(offsets):
        places.setdefault((start, end), []).append(place)
    found = [places.get((word.start, word.end), []) for word in words]
    # Several pieces at one offset are bytes of one letter.
    single = [(number, at[0]) for number, at in enumerate(found) if len(at) == 1 and pieces[at[0]] != unknown]
    return MaskedText(np.asarray(pieces, np.int32), tuple(word for word, _ in single), tuple(at for _, at in single))


def _whole_words(tokenizer: "PreTrainedTokenizerBase") -> tuple[list[str], NDArray[np.bool_]]:
    """How each vocabulary entry is written, and whether it is a word: letters alone, and one piece after a space.

    Going by the tokenizer's own behaviour serves word pieces (`##ing`), byte pairs (`Ġword`) and SentencePiece alike.
    """
    numbers = list(range(len(tokenizer)))
    spellings = [text.strip() for text in tokenizer.batch_decode([[number] for number in numbers])]
    letters = [number for number in numbers if spellings[number].isalpha()]
    before = _encode(tokenizer, [_KNOWN_WORD])["input_ids"][0]
    is_word = np.zeros(len(numbers), np.bool_)
    after_word = _encode(tokenizer, [f"{_KNOWN_WORD} {spellings[number]}" for number in letters])["input_ids"]
    for number, pieces in zip(letters, after_word, strict=True):
        is_word[number] = pieces == [*before, number]
    is_word[[number for number in tokenizer.all_special_ids if number < len(is_word)]] = False
    if not is_word.any():
        raise CheckpointError("the masked LM's vocabulary has no whole words")
    return spellings, is_word


@dataclass(frozen=True)
class _Filled:
    """One input of the model, and the position of its mask."""

    input_ids: NDArray[np.int64]
    token_type_ids: NDArray[np.int64]
    mask: int


@dataclass(frozen=True)
class _Template:
    """Where special tokens stand around one segment, or two.

    Attributes:
        specials: the special tokens before, between and after the segments.
        types: segment number of each special token, in the same grouping.
        segment_types: segment number of each segment's pieces.
        mask_token: the mask.
        room: pieces that fit into each segment.
    """

    specials: tuple[tuple[int, ...], ...]
    types: tuple[tuple[int, ...], ...]
    segment_types: tuple[int, ...]
    mask_token: int
    room: int

    @classmethod
    def of(cls, tokenizer: "PreTrainedTokenizerBase", masked_input: MaskedInput, longest: float) -> "_Template":
        """Learn from the tokenizer where it puts special tokens."""
        segments = 2 if masked_input == "two-copies" else 1
        encoded = tokenizer(*([_KNOWN_WORD] * segments), return_special_tokens_mask=True, return_token_type_ids=True)
        specials: list[list[int]] = [[]]
        types: list[list[int]] = [[]]
        segment_types: list[int] = []
        columns = encoded["input_ids"], encoded["token_type_ids"], encoded["special_tokens_mask"]
        inside = False
        for piece, kind, special in zip(*columns, strict=True):
            if special:
                specials[-1].append(piece)
                types[-1].append(kind)
            elif not inside:
                specials.append([])
                types.append([])
                segment_types.append(kind)
            inside = not special
        taken = sum(map(len, specials))
        room = int(min(longest, 1 << 20) - taken) // segments
        return cls(
            tuple(map(tuple, specials)), tuple(map(tuple, types)), tuple(segment_types), tokenizer.mask_token_id, room
        )

    def fill(self, pieces: NDArray[np.int32], position: int) -> _Filled:
        """Put a text with a mask into the template; of one that is too long, the part around the mask."""
        start = min(max(0, position - self.room // 2), max(0, len(pieces) - self.room))
        window = pieces[start : start + self.room].astype(np.int64)
        masked = window.copy()
        masked[position - start] = self.mask_token
        ids: list[NDArray[np.int64]] = [np.array(self.specials[0], np.int64)]
        types = [np.array(self.types[0], np.int64)]
        for number, kind in enumerate(self.segment_types):
            ids += [masked if number == 0 else window, np.array(self.specials[number + 1], np.int64)]
            types += [np.full(len(window), kind, np.int64), np.array(self.types[number + 1], np.int64)]
        return _Filled(np.concatenate(ids), np.concatenate(types), len(self.specials[0]) + position - start)
