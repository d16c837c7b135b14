"""DiffKendall: Kendall's tau with the sign of each pair's product made smooth."""

from torch import Tensor

from kdviz.base.check import positive
from kdviz.losses.entry import loss
from kdviz.losses.inputs import Reduction, pair, reduce
from kdviz.losses.papers import DIFF_KENDALL
from kdviz.losses.rank_kendall import smooth_tau


@loss(DIFF_KENDALL, unit="1", long_name="DiffKendall loss")
def diff_kendall(
    logits_student: Tensor, logits_teacher: Tensor, *, steepness: float = 1.0, reduction: Reduction = "mean"
) -> Tensor:
    """Minus the differentiable Kendall's tau of DiffKendall: `rank_kendall` in form 2 on the logits as they are.

    L = -2 / (k (k - 1)) * sum over i < j of tanh(steepness / 2 * (t_i - t_j) (s_i - s_j)), between -1 and 1.

    Args:
        logits_student: `[n, k]`, k >= 2.
        logits_teacher: `[n, k]`; no gradient flows to it.
        steepness: above 0; as it grows, -L tends to Kendall's tau-a.
        reduction: "mean" over samples, or "none" for `[n]`.

    Returns: a scalar without unit, or `[n]`.

    Raises: KdvizError for wrong shapes or types, or a steepness that is not above 0.

    Source: Zheng et al. 2023; RKKD's form 2 (Guan et al. 2025, sec. 5.2).

    Differs from: DiffKendall compares feature vectors in few-shot learning; here the vectors are the logits of the two
    nets. Its tanh(beta x) is steepness = 2 beta. RKKD z-scores the logits first, `rank_kendall(form=2)`; this does not.

    >>> import torch
    >>> student, teacher = torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([[30.0, 10.0, 20.0]])
    >>> round(diff_kendall(student, teacher, steepness=10.0).item(), 6)
    -1.0
    """
    positive("diff_kendall", steepness=steepness)
    student, teacher = pair("diff_kendall", logits_student, logits_teacher)
    return reduce("diff_kendall", -smooth_tau(student, teacher, form=2, steepness=steepness), reduction)
