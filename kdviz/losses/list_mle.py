"""ListMLE and its position-aware variant, on the teacher's ranking with the label first."""

import math

import torch
from torch import Tensor

from kdviz.base.check import require
from kdviz.losses.entry import loss
from kdviz.losses.inputs import Reduction, labels, pair, reduce
from kdviz.losses.papers import LIST_MLE, P_LIST_MLE
from kdviz.losses.plackett_luce import costs, ranking


@loss(LIST_MLE, unit="nats", long_name="ListMLE loss")
def list_mle(
    logits_student: Tensor, logits_teacher: Tensor, target: Tensor, *, reduction: Reduction = "mean"
) -> Tensor:
    """Negative log-likelihood of the teacher's ranking under the student's Plackett-Luce model.

    L = sum_k [-s_{pi_k} + log sum_{l >= k} exp(s_{pi_l})]; pi is the label, then the other classes by descending
    teacher logit.

    Args:
        logits_student: `[n, k]`.
        logits_teacher: `[n, k]`; only its order counts.
        target: class indices `[n]`.
        reduction: "mean" over samples, or "none" for `[n]`.

    Returns: a scalar in nats, or `[n]`.

    Raises: KdvizError for wrong shapes or types.

    Source: Xia et al. 2008; in distillation Bassam et al. 2025, where it is k times PLD with equal weights.

    >>> list_mle(torch.zeros(1, 3), torch.zeros(1, 3), torch.tensor([0])).item()  # log 3!
    1.791759...
    """
    student, teacher = pair("list_mle", logits_student, logits_teacher)
    order = ranking(teacher, labels("list_mle", student, target))
    return reduce("list_mle", costs(student, order).sum(1), reduction)


@loss(P_LIST_MLE, unit="nats", long_name="P-ListMLE loss")
def p_list_mle(
    logits_student: Tensor,
    logits_teacher: Tensor,
    target: Tensor,
    *,
    normalize: bool = True,
    reduction: Reduction = "mean",
) -> Tensor:
    """ListMLE whose k-th choice weighs 2^(C-k) - 1, so that the head of the ranking counts most.

    Args:
        logits_student: `[n, C]`.
        logits_teacher: `[n, C]`; only its order counts.
        target: class indices `[n]`.
        normalize: divide the weights by their sum, which keeps the loss near cross-entropy's size.
        reduction: "mean" over samples, or "none" for `[n]`.

    Returns: a scalar in nats, or `[n]`.

    Raises: KdvizError for wrong shapes or types, or where the plain weights leave the range of the numbers.

    Source: Lan et al. 2014; as a case of PLD Bassam et al. 2025.

    Differs from: the published weights are not normalised (6e29 at C = 100); normalize=False gives those.

    >>> p_list_mle(torch.zeros(1, 2), torch.zeros(1, 2), torch.tensor([0])).item()  # weights 1 and 0
    0.693147...
    """
    student, teacher = pair("p_list_mle", logits_student, logits_teacher)
    order = ranking(teacher, labels("p_list_mle", student, target))
    classes = student.shape[1]
    # relative to the first place, 2^(C-1): the exponents fall from 0, so that nothing overflows at any C
    place = torch.arange(classes, device=student.device, dtype=student.dtype)
    weights = torch.exp2(-place) - 2.0 ** (1 - classes)
    if normalize:
        weights = weights / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)
    else:
        require(
            classes < math.log2(torch.finfo(weights.dtype).max) - 16,
            f"p_list_mle: weights up to 2^{classes - 1} leave the range of {weights.dtype}; set normalize=True",
        )
        weights = weights * 2.0 ** (classes - 1)
    return reduce("p_list_mle", (weights * costs(student, order)).sum(1), reduction)
