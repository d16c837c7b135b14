"""NormKD: KL divergence at a temperature of each sample's and net's own."""

from torch import Tensor

from kdviz.base.check import positive
from kdviz.losses.entry import loss
from kdviz.losses.inputs import Reduction, pair, reduce
from kdviz.losses.kd import divergence
from kdviz.losses.papers import NORMKD


@loss(NORMKD, unit="nats", long_name="NormKD loss")
def normkd(
    logits_student: Tensor, logits_teacher: Tensor, *, scale: float = 2.0, reduction: Reduction = "mean"
) -> Tensor:
    """KL divergence with every row's temperature proportional to the spread of its logits.

    L = mean of T_t^2 * KL(softmax(t / T_t) || softmax(s / T_s)), T_x = scale * std(x) over the classes, std unbiased.

    Args:
        logits_student: `[n, k]`, k >= 2.
        logits_teacher: `[n, k]`; no gradient flows to it.
        scale: the paper's T_norm, above 0.
        reduction: "mean" over samples, or "none" for `[n]`.

    Returns: a scalar in nats, or `[n]`.

    Raises: KdvizError for wrong shapes or types, or a scale that is not above 0.

    Source: Chi et al. 2023, sec. 3.2.

    Differs from: a row of equal logits has no spread and would divide by 0; its std counts as 1e-7.

    >>> import torch
    >>> logits = torch.tensor([[2.0, 1.0, -1.0]])
    >>> abs(normkd(5 * logits, logits).item()) < 1e-5
    True
    """
    positive("normkd", scale=scale)
    student, teacher = pair("normkd", logits_student, logits_teacher)
    for_student, for_teacher = (scale * logits.std(1, keepdim=True).clamp_min(1e-7) for logits in (student, teacher))
    values = divergence(student / for_student, teacher / for_teacher) * for_teacher[:, 0] ** 2
    return reduce("normkd", values, reduction)
