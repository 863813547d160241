"""Learned maps from a student's hidden states to its teacher's, thrown away after distillation."""

import torch
from torch import nn

from compression.distillation.losses.averaging import Form

_STANDARD_DEVIATION = 0.02  # as BERT initialises its weights


class Projections(nn.Module):
    r"""The matrices :math:`W_e` and :math:`W_h` of TinyBERT (arXiv:1909.10351, eq. 8-9).

    As in the paper, embeddings and hidden states have a matrix each, without bias, and all layers share :math:`W_h`.
    TinyBERT's released code has one linear map with bias for embeddings and layers (`form="released"`).

    A square matrix starts as the identity in the paper's form, so that a student made of the teacher's layers starts
    where it already agrees; otherwise weights start normal with standard deviation 0.02.

    Args:
        student_width: d'.
        teacher_width: d.
        seed: seed of the first weights; torch's global generator is left alone.
        form: `released` for the shared map with bias.

    Attributes:
        embedding: map of the embeddings, [..., d'] -> [..., d].
        hidden: map of the hidden states after the layers.

    Example:
        >>> sum(parameter.numel() for parameter in Projections(312, 768, seed=0).parameters())
        479232
        >>> sum(parameter.numel() for parameter in Projections(312, 768, seed=0, form="released").parameters())
        240384
    """

    def __init__(self, student_width: int, teacher_width: int, *, seed: int, form: Form = "paper") -> None:
        super().__init__()
        shared = form == "released"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.hidden = _linear(student_width, teacher_width, bias=shared)
            self.embedding = self.hidden if shared else _linear(student_width, teacher_width, bias=False)


def _linear(inputs: int, outputs: int, *, bias: bool) -> nn.Linear:
    linear = nn.Linear(inputs, outputs, bias=bias)
    if bias:
        nn.init.zeros_(linear.bias)
    if inputs == outputs and not bias:
        nn.init.eye_(linear.weight)
    else:
        nn.init.normal_(linear.weight, std=_STANDARD_DEVIATION)
    return linear
