"""Cross-entropy of the word pieces that were masked."""

import torch
from torch.nn import functional


def masked_language_model(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    r"""Masked-language-model loss, averaged over the masked word pieces.

    .. math:: L = -\frac{1}{|M|} \sum_{i \in M} \log softmax(z_i)[w_i]

    Where M are the masked positions and :math:`w_i` the word piece that stood there. The gold labels' part of
    DistilBERT's triple loss (weight 2 in its released command), beside `kl_divergence` and `hidden_cosine`.

    Source: Devlin et al. 2018, arXiv:1810.04805, section 3.1, task 1; DistilBERT, arXiv:1910.01108, section 3.

    Args:
        logits: [..., v] scores of the vocabulary.
        labels: [...] word pieces to predict, -100 where nothing was masked.

    Returns:
        Scalar, in fp32; 0 for a batch in which nothing was masked.

    Example:
        >>> logits = torch.tensor([[0.0, 0.0], [9.0, 0.0]])
        >>> masked_language_model(logits, torch.tensor([1, -100])).item()  # log(2)
        0.6931471824645996
    """
    total = functional.cross_entropy(
        logits.flatten(0, -2).float(), labels.flatten(), ignore_index=-100, reduction="sum"
    )
    return total / (labels != -100).sum().clamp(min=1)
