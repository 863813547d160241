"""Which word pieces a corpus needs, and a tokenizer that has no others."""

import itertools
import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compression.architecture.checkpoint import load_tokenizer, save_tokenizer
from compression.control import Control
from compression.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TEXTS_A_CALL = 1024


def needed_pieces(
    tokenizer: "PreTrainedTokenizerBase", texts: Iterable[str], least_count: int, control: Control
) -> NDArray[np.int64]:
    """Word pieces to keep.

    These are kept: pieces that the texts use; special and added tokens; all pieces of a single character; pieces with a
    character that is no piece by itself; and what the tokenizer looks at before it gives a word of the texts up as
    unknown. So the texts are cut as before, and no word of other texts becomes unknown that was not.

    Args:
        tokenizer: the tokenizer; WordPiece or Unigram.
        texts: the corpus.
        least_count: occurrences from which on a piece counts as used.
        control: whether to stop.

    Returns:
        Their numbers, ascending.

    Raises:
        UserError: a tokenizer of another kind.
        Interrupted: a stop was asked for.
    """
    document = _document(tokenizer)
    pieces = _pieces(document["model"])
    counts: NDArray[np.int64] = np.zeros(max(tokenizer.get_vocab().values()) + 1, np.int64)
    in_vain: set[str] = set()
    stream = iter(texts)
    while part := list(itertools.islice(stream, _TEXTS_A_CALL)):
        control.check()
        cut = tokenizer(part, add_special_tokens=False, truncation=False, padding=False)["input_ids"]
        counts += np.bincount(np.concatenate([np.asarray(ids, np.int64) for ids in cut]), minlength=len(counts))
        unknown = [text for text, ids in zip(part, cut, strict=True) if tokenizer.unk_token_id in ids]
        in_vain |= _tried_in_vain(tokenizer, document["model"], pieces, unknown)
    kept = set(np.flatnonzero(counts >= least_count).tolist())
    kept |= {token["id"] for token in document["added_tokens"]} | set(tokenizer.all_special_ids)
    kept |= _indispensable(document["model"], pieces)
    kept |= {pieces[piece] for piece in in_vain}
    return np.array(sorted(kept), np.int64)


def reduced(tokenizer: "PreTrainedTokenizerBase", kept: NDArray[np.int64]) -> "PreTrainedTokenizerBase":
    """A tokenizer of some of the word pieces, numbered anew in their old order.

    Args:
        tokenizer: the tokenizer; left as it is.
        kept: numbers of the pieces to keep, ascending.

    Returns:
        The new tokenizer.
    """
    number = {int(old): new for new, old in enumerate(kept)}
    with tempfile.TemporaryDirectory() as folder:
        save_tokenizer(tokenizer, Path(folder))
        path = Path(folder) / "tokenizer.json"
        document = json.loads(path.read_text(encoding="utf-8"))
        model = document["model"]
        if model["type"] == "WordPiece":
            model["vocab"] = {piece: number[old] for piece, old in model["vocab"].items() if old in number}
        else:
            model["vocab"] = [entry for old, entry in enumerate(model["vocab"]) if old in number]
            model["unk_id"] = number[model["unk_id"]]
        for token in document["added_tokens"]:
            token["id"] = number[token["id"]]
        document["post_processor"] = _renumbered(document["post_processor"], number)
        path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
        return load_tokenizer(Path(folder))


def _document(tokenizer: "PreTrainedTokenizerBase") -> dict[str, Any]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    document: dict[str, Any] = {} if backend is None else json.loads(backend.to_str())
    kind = document.get("model", {}).get("type")
    if kind not in ("WordPiece", "Unigram"):
        raise UserError(f"the vocabulary of a {kind or 'slow'} tokenizer cannot be pruned; allowed: WordPiece, Unigram")
    return document


def _pieces(model: Mapping[str, Any]) -> dict[str, int]:
    """Piece -> its number, of the tokenizer's model without added tokens."""
    if model["type"] == "WordPiece":
        return dict(model["vocab"])
    return {piece: number for number, (piece, _) in enumerate(model["vocab"])}


def _indispensable(model: Mapping[str, Any], pieces: Mapping[str, int]) -> set[int]:
    """Pieces of one character, and those that single characters could not stand in for."""
    prefix = model.get("continuing_subword_prefix", "")
    kept = set()
    for piece, number in pieces.items():
        continues = bool(prefix) and piece.startswith(prefix) and piece != prefix
        characters = piece.removeprefix(prefix) if continues else piece
        singles = [(prefix if place or continues else "") + character for place, character in enumerate(characters)]
        if len(singles) == 1 or any(single not in pieces for single in singles):
            kept.add(number)
    if model["type"] == "Unigram":  # what is unknown scores below the lowest of all pieces, which must not change
        kept.add(min(range(len(model["vocab"])), key=lambda number: model["vocab"][number][1]))
        kept.add(model["unk_id"])
    return kept


def _tried_in_vain(
    tokenizer: "PreTrainedTokenizerBase", model: Mapping[str, Any], pieces: Mapping[str, int], texts: Iterable[str]
) -> set[str]:
    """Pieces that WordPiece matches at the start of words before it gives them up; without them it might not."""
    if model["type"] != "WordPiece":
        return set()
    backend = tokenizer.backend_tokenizer
    words: set[str] = set()
    for text in texts:
        plain = backend.normalizer.normalize_str(text) if backend.normalizer else text
        parts = backend.pre_tokenizer.pre_tokenize_str(plain) if backend.pre_tokenizer else [(plain, None)]
        words.update(word for word, _ in parts)
    return {piece for word in words for piece in _longest_matches(word, pieces, model["continuing_subword_prefix"])}


def _longest_matches(word: str, pieces: Mapping[str, int], prefix: str) -> list[str]:
    """Greedy longest matches from the start of a word, until one fails."""
    found: list[str] = []
    start = 0
    while start < len(word):
        lead = prefix if start else ""
        end = next((end for end in range(len(word), start, -1) if lead + word[start:end] in pieces), None)
        if end is None:
            break
        found.append(lead + word[start:end])
        start = end
    return found


def _renumbered(processor: Any, number: Mapping[int, int]) -> Any:
    """A post-processor with the new numbers of its special tokens, whatever its kind."""
    if processor is None:
        return None
    made = dict(processor)
    for token in made.get("special_tokens", {}).values():  # TemplateProcessing
        token["ids"] = [number[old] for old in token["ids"]]
    for name in ("sep", "cls"):  # BertProcessing, RobertaProcessing
        if name in made:
            made[name] = [made[name][0], number[made[name][1]]]
    if "processors" in made:  # Sequence
        made["processors"] = [_renumbered(inner, number) for inner in made["processors"]]
    return made
