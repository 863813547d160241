"""Whether two models read the same word pieces."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from compression.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def check_same_tokenizer(student: "PreTrainedTokenizerBase", teacher: "PreTrainedTokenizerBase") -> None:
    """Refuse a student that would read other word pieces than its teacher.

    Args:
        student: the student's tokenizer.
        teacher: the teacher's tokenizer.

    Raises:
        UserError: vocabulary, special tokens or the way of cutting texts differ.
    """
    for what, of in _TOKENIZER_PARTS.items():
        if of(student) != of(teacher):
            raise UserError(
                f"teacher and student need the same tokenizer, but their {what} differ: "
                "take the student from the encoder that the teacher was fine-tuned from"
            )


def _cutting(tokenizer: "PreTrainedTokenizerBase") -> dict[str, Any]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return {}
    document = json.loads(backend.to_str())
    # Padding and truncation are left over from the last call; the vocabulary is compared on its own.
    return {name: document.get(name) for name in ("normalizer", "pre_tokenizer", "post_processor")}


_TOKENIZER_PARTS: dict[str, Callable[["PreTrainedTokenizerBase"], Any]] = {
    "vocabularies": lambda tokenizer: tokenizer.get_vocab(),
    "special tokens": lambda tokenizer: tokenizer.special_tokens_map,
    "ways of cutting texts": _cutting,
}
