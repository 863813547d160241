"""Divergence between attention distributions."""

import torch
from torch.nn import functional

from compression.distillation.losses.averaging import Average, average_tokens, check_shapes


def attention_distribution_divergence(
    student_scores: torch.Tensor,
    teacher_scores: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    average: Average = "examples",
) -> torch.Tensor:
    r"""Kullback-Leibler divergence of attention distributions, averaged over heads and real queries.

    .. math:: L_{AT} = \frac{1}{A_h |x|} \sum_{a=1}^{A_h} \sum_{t=1}^{|x|} KL(A^T_{a,t} || A^S_{a,t}), \quad
              A = softmax(Q K^\top / \sqrt{d_k})

    Padding takes no part in the softmax as key and none in the mean as query. MiniLM compares the last layers, together
    with `value_relation_divergence`; `attention_score_mean_squared_error` compares scores before the softmax.

    Source: MiniLM, arXiv:2002.10957, section 3.1 (:math:`L_{AT}`).

    Args:
        student_scores: [b, h, l, l], query by key, before mask and softmax.
        teacher_scores: [b, h, l, l]; no gradient flows to it.
        attention_mask: [b, l], 1 for real word pieces and 0 for padding; None when all are real.
        average: whether examples or word pieces (as queries) weigh the same.

    Returns:
        Scalar, in fp32.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> scores = torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]])
        >>> attention_distribution_divergence(scores + 5, scores).item()  # a constant changes no distribution
        0.0
    """
    check_shapes(student_scores, teacher_scores, "attention scores")
    log_student = log_distribution(student_scores, attention_mask)
    log_teacher = log_distribution(teacher_scores.detach(), attention_mask)
    divergence = functional.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(dim=-1)
    return average_tokens(divergence.mean(dim=1), attention_mask, average)


def log_distribution(scores: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
    """Logarithm of the softmax over real keys.

    Args:
        scores: [b, h, l, l], query by key.
        attention_mask: [b, l], 1 for real word pieces and 0 for padding; None when all are real.

    Returns:
        [b, h, l, l] in fp32; a hugely negative, finite number at padded keys.

    Example:
        >>> log_distribution(torch.zeros(1, 1, 1, 3), torch.tensor([[1, 1, 0]]))[..., :2].exp()
        tensor([[[[0.5000, 0.5000]]]])
    """
    scores = scores.float()
    if attention_mask is not None:
        # The lowest finite number: with minus infinity the divergence would contain 0 times infinity.
        padded = ~attention_mask.bool()[:, None, None, :]
        scores = scores.masked_fill(padded, torch.finfo(torch.float32).min)
    return functional.log_softmax(scores, dim=-1)
