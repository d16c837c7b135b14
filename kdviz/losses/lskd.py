"""Logit standardisation: KL divergence of z-scored logits."""

from torch import Tensor

from kdviz.base.check import positive
from kdviz.losses.entry import loss
from kdviz.losses.inputs import Reduction, pair, reduce, standard
from kdviz.losses.kd import divergence
from kdviz.losses.papers import LSKD


@loss(LSKD, unit="nats", long_name="LSKD loss")
def lskd(
    logits_student: Tensor, logits_teacher: Tensor, *, temperature: float = 2.0, reduction: Reduction = "mean"
) -> Tensor:
    """KL divergence of the z-scored logits, times temperature squared.

    L = temperature^2 * KL(softmax(z(t) / temperature) || softmax(z(s) / temperature)), z(x) = (x - mean) / (std + 1e-7)
    over the classes, std unbiased. Student and teacher may differ by a positive factor and a shift. On DKD the same is
    `dkd(normalize="zscore")`; on MLKD it z-scores the KL terms alone and leaves the Gram terms on the logits as they
    are, which is the method "mlkd" with mlkd.normalize = "zscore".

    Args:
        logits_student: `[n, k]`, k >= 2.
        logits_teacher: `[n, k]`; no gradient flows to it.
        temperature: above 0.
        reduction: "mean" over samples, or "none" for `[n]`.

    Returns: a scalar in nats, or `[n]`.

    Raises: KdvizError for wrong shapes or types, or a temperature that is not above 0.

    Source: Sun et al. 2024, algorithm 1.

    >>> import torch
    >>> logits = torch.tensor([[2.0, 1.0, -1.0]])
    >>> abs(lskd(3 * logits + 1, logits).item()) < 1e-6
    True
    """
    positive("lskd", temperature=temperature)
    student, teacher = pair("lskd", logits_student, logits_teacher)
    values = divergence(standard(student) / temperature, standard(teacher) / temperature)
    return reduce("lskd", values * temperature**2, reduction)
