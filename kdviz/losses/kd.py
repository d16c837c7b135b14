"""Hinton's distillation term: KL divergence of the softened distributions."""

from torch import Tensor
from torch.nn import functional

from kdviz.base.check import positive
from kdviz.losses.entry import loss
from kdviz.losses.inputs import Normalize, Reduction, normalized, pair, reduce
from kdviz.losses.papers import KD


def divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(softmax(teacher) || softmax(student)) per row, `[n]`, in nats."""
    log_p = functional.log_softmax(student, -1)
    return functional.kl_div(log_p, functional.log_softmax(teacher, -1), reduction="none", log_target=True).sum(-1)


@loss(KD, unit="nats", long_name="KD loss")
def kd(
    logits_student: Tensor,
    logits_teacher: Tensor,
    *,
    temperature: float = 4.0,
    normalize: Normalize = "none",
    reduction: Reduction = "mean",
) -> Tensor:
    """KL divergence from the teacher's softened distribution to the student's, times temperature squared.

    L = temperature^2 * sum_i p_i log(p_i / q_i), p and q the softmax of teacher's and student's logits / temperature.
    The cross-entropy with the labels and the weights of the two belong to the method "kd".

    Args:
        logits_student: `[n, k]`.
        logits_teacher: `[n, k]`; no gradient flows to it.
        temperature: above 0.
        normalize: of the logits before all else: "none", or "zscore" as LSKD.
        reduction: "mean" over samples, or "none" for `[n]`.

    Returns: a scalar in nats, or `[n]`.

    Raises: KdvizError for wrong shapes or types, or a temperature that is not above 0.

    Source: Hinton et al. 2015, sec. 2.

    >>> import torch
    >>> logits = torch.tensor([[2.0, 1.0, -1.0]])
    >>> kd(logits, logits + 7.0).item()  # softmax knows no common shift
    0.0
    """
    positive("kd", temperature=temperature)
    student, teacher = normalized("kd", pair("kd", logits_student, logits_teacher), normalize)
    values = divergence(student / temperature, teacher / temperature) * temperature**2
    return reduce("kd", values, reduction)
