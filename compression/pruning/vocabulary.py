"""Word pieces removed from embedding, masked-LM head and tokenizer."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch

from compression.architecture.conversion import shape_of_model
from compression.architecture.editing import prefix_of, rebuilt
from compression.control import Control
from compression.errors import CheckpointError
from compression.pruning.config import VocabularyPruning
from compression.pruning.word_pieces import needed_pieces, reduced

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from compression.architecture.encoder.modeling_bertpress import BertpressPreTrainedModel


def without_unused_pieces(
    model: "BertpressPreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    texts: Iterable[str],
    config: VocabularyPruning,
    control: Control,
) -> tuple["BertpressPreTrainedModel", "PreTrainedTokenizerBase"]:
    """Remove word pieces that texts do not use; the outputs on these texts stay the same, bit for bit.

    With `least_count` above 1 rare pieces go too; then texts with them are cut into smaller pieces.

    Args:
        model: encoder with or without a head; left as it is.
        tokenizer: its tokenizer; left as it is.
        texts: the corpus.
        config: from how many occurrences on a piece is kept.
        control: whether to stop.

    Returns:
        The model with a smaller embedding (and masked-LM head), and its tokenizer.

    Raises:
        UserError: a tokenizer that is neither WordPiece nor Unigram.
        CheckpointError: the tokenizer has pieces that the model has no embedding for.
        Interrupted: a stop was asked for.
    """
    shape, prefix = shape_of_model(model), prefix_of(model)
    kept = needed_pieces(tokenizer, texts, config.least_count, control)
    if kept[-1] >= shape.vocab_size:
        raise CheckpointError(
            f"the tokenizer does not belong to the model: it has word piece {kept[-1]}, "
            f"but the model's vocabulary has {shape.vocab_size}"
        )
    smaller = reduced(tokenizer, kept)
    rows, weights = torch.from_numpy(kept), dict(model.state_dict())
    for name in (f"{prefix}embeddings.word_embeddings.weight", "head.decoder.bias"):
        if name in weights:
            weights[name] = weights[name][rows.to(weights[name].device)]
    weights.pop("head.decoder.weight", None)  # the embedding itself
    made = rebuilt(model, shape.edited(vocab_size=len(kept)), weights, pad_token_id=smaller.pad_token_id)
    return made, smaller
