"""TTM and WTTM: the teacher's distribution raised to a power, the student's as it is."""

from torch import Tensor

from kdviz.base.check import positive
from kdviz.losses.entry import loss
from kdviz.losses.inputs import Reduction, pair, reduce
from kdviz.losses.kd import divergence
from kdviz.losses.papers import TTM


@loss(TTM, unit="nats", long_name="TTM loss")
def ttm(logits_student: Tensor, logits_teacher: Tensor, *, power: float = 0.1, reduction: Reduction = "mean") -> Tensor:
    """KL divergence from the teacher's power-transformed distribution to the student's.

    L = KL(p^power / sum(p^power) || softmax(s)), p = softmax(t). The power transform is a temperature of 1 / power on
    the teacher alone; the student has none, and the loss no factor of temperature squared.

    Args:
        logits_student: `[n, k]`.
        logits_teacher: `[n, k]`; no gradient flows to it.
        power: above 0; below 1 it flattens the teacher.
        reduction: "mean" over samples, or "none" for `[n]`.

    Returns: a scalar in nats, or `[n]`.

    Raises: KdvizError for wrong shapes or types, or a power that is not above 0.

    Source: Zheng and Yang 2024, sec. 3; the default power is that of the authors' example.

    Differs from: the authors choose power and weight for each pair of nets; no default here claims to be theirs for
    another pair.

    >>> import torch
    >>> logits = torch.tensor([[2.0, 1.0, -1.0]])
    >>> abs(ttm(0.5 * logits + 3.0, logits, power=0.5).item()) < 1e-6
    True
    """
    positive("ttm", power=power)
    student, teacher = pair("ttm", logits_student, logits_teacher)
    return reduce("ttm", divergence(student, power * teacher), reduction)


@loss(TTM, unit="nats", long_name="WTTM loss")
def wttm(
    logits_student: Tensor, logits_teacher: Tensor, *, power: float = 0.2, reduction: Reduction = "mean"
) -> Tensor:
    """TTM with each sample weighted by how flat the teacher is on it.

    L = sum(p^power) * KL(p^power / sum(p^power) || softmax(s)), p = softmax(t). The sum is 1 where the teacher is sure
    and k^(1 - power) where it is uniform.

    Args:
        logits_student: `[n, k]`.
        logits_teacher: `[n, k]`; no gradient flows to it.
        power: above 0; with 1 every weight is 1 and the loss is `kd` at temperature 1.
        reduction: "mean" over samples, or "none" for `[n]`.

    Returns: a scalar in nats, or `[n]`.

    Raises: KdvizError for wrong shapes or types, or a power that is not above 0.

    Source: Zheng and Yang 2024, sec. 4; the default power is that of the authors' example, vgg13 to vgg8.

    Differs from: as `ttm`.

    >>> import torch
    >>> student, teacher = torch.tensor([[2.0, 0.0]]), torch.zeros(1, 2)
    >>> round((wttm(student, teacher, power=0.5) / ttm(student, teacher, power=0.5)).item(), 4)  # 2^(1 - 1/2)
    1.4142
    """
    positive("wttm", power=power)
    student, teacher = pair("wttm", logits_student, logits_teacher)
    weight = (power * teacher.log_softmax(-1)).logsumexp(-1).exp()
    return reduce("wttm", weight * divergence(student, power * teacher), reduction)
