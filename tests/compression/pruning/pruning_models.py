"""Small classifiers in our encoder, and rows for them."""

import numpy as np
import torch
from tiny_models import WORDS, tiny_rows

from compression.architecture.conversion import config_of
from compression.architecture.encoder.modeling_bertpress import BertpressForSequenceClassification
from compression.architecture.shape import EncoderShape
from compression.data.encoding import Encoded
from compression.pruning.evidence import Evidence

PLAIN = EncoderShape.regular(
    layers=3, hidden_size=16, heads=4, intermediate_size=24, vocab_size=len(WORDS), max_position_embeddings=32
)
SHARED = PLAIN.edited(
    attention_heads=(4, 3), attention_blocks=(0, 1, 0), intermediate_sizes=(24,), feed_forward_blocks=(0, 0, 0)
)


def classifier(shape: EncoderShape = PLAIN, seed: int = 0, spread: float = 0.3, **fields):
    """A classifier whose weights are large enough that everything in it matters."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = BertpressForSequenceClassification(config_of(shape, **fields))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(spread * torch.randn_like(parameter))
    return model.eval()


def rows(count: int = 24, seed: int = 1) -> Encoded:
    return tiny_rows(count, seed)


def evidence(count: int = 24, seed: int = 1) -> Evidence:
    return Evidence(rows(count, seed), pad_token_id=0, order=(0, 1))


def inputs(encoded: Encoded) -> dict[str, torch.Tensor]:
    from compression.data.encoding import collate

    batch = collate(encoded, np.arange(len(encoded)), 0)
    return {name: batch[name] for name in ("input_ids", "attention_mask")}
