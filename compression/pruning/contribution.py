"""How much each layer changes the first word piece's hidden state (Sajjad et al. 2020, arXiv:2004.03844)."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from compression.architecture.editing import base_of
from compression.pruning.evidence import Evidence
from compression.training.predict import batches_for

if TYPE_CHECKING:
    from compression.architecture.encoder.modeling_bertpress import BertpressPreTrainedModel


def similarities(model: "BertpressPreTrainedModel", evidence: Evidence) -> NDArray[np.float64]:
    """Mean cosine between what enters and what leaves each layer at the first word piece; high means it does little.

    Args:
        model: encoder with or without a head.
        evidence: rows.

    Returns:
        (layers,) cosines.

    Raises:
        Interrupted: a stop was asked for.
    """
    base, encoded = base_of(model), evidence.encoded
    sums = np.zeros(base.config.num_hidden_layers)
    evidence.control.progress.start("contribution", len(encoded), unit="row")
    with torch.inference_mode():
        batches = batches_for(base, encoded, pad_token_id=evidence.pad_token_id, control=evidence.control)
        for rows, batch in batches:
            states = base(**batch, output_hidden_states=True).hidden_states
            first = torch.stack([state[:, 0].double() for state in states])  # (layers + 1, batch, hidden_size)
            cosines = torch.nn.functional.cosine_similarity(first[:-1], first[1:], dim=-1)
            sums += cosines.sum(1).cpu().numpy()
            evidence.control.progress.advance(len(rows), tokens=int(encoded.lengths[rows].sum()))
    evidence.control.progress.finish()
    return sums / len(encoded)


def least_contributing(cosines: NDArray[np.float64], count: int) -> tuple[int, ...]:
    """The layers that change their input least; of equal ones the later.

    Args:
        cosines: `similarities` of each layer.
        count: how many.

    Returns:
        Layers from 0, ascending.

    Example:
        >>> least_contributing(np.array([0.5, 0.9, 0.7]), 2)
        (1, 2)
    """
    order = np.lexsort((-np.arange(len(cosines)), -cosines))
    return tuple(sorted(int(layer) for layer in order[:count]))
