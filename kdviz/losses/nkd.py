"""NKD: the label's probability, and the normalised distribution among the other classes."""

from torch import Tensor
from torch.nn import functional

from kdviz.base.check import positive
from kdviz.losses.dkd import split
from kdviz.losses.entry import loss
from kdviz.losses.inputs import Reduction, labels, pair, reduce
from kdviz.losses.papers import NKD


@loss(NKD, unit="nats", long_name="NKD loss")
def nkd(
    logits_student: Tensor,
    logits_teacher: Tensor,
    target: Tensor,
    *,
    gamma: float = 1.5,
    temperature: float = 1.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """Cross-entropies of the label, weighted by the teacher, and of the normalised rest.

    L = -p_y log q_y - gamma * temperature^2 * sum over i != y of r^t_i log r^s_i; p and q the softmax of teacher and
    student without temperature, r the softmax of logits / temperature over the classes other than y.

    Args:
        logits_student: `[n, k]`, k >= 2.
        logits_teacher: `[n, k]`; no gradient flows to it.
        target: class indices `[n]`.
        gamma: weight of the rest.
        temperature: above 0, of the rest alone.
        reduction: "mean" over samples, or "none" for `[n]`.

    Returns: a scalar in nats, or `[n]`. Its least is not 0 but the teacher's entropy among the rest, weighted.

    Raises: KdvizError for wrong shapes or types, or a temperature that is not above 0.

    Source: Yang et al. 2023 (arXiv 2303.13005), the normalised loss.

    >>> import torch
    >>> flat = torch.zeros(1, 3)
    >>> round(nkd(flat, flat, torch.tensor([0]), gamma=0.0).item(), 4)  # log(3) / 3
    0.3662
    """
    positive("nkd", temperature=temperature)
    student, teacher = pair("nkd", logits_student, logits_teacher)
    index = labels("nkd", student, target)[:, None]
    sure = functional.softmax(teacher, 1).gather(1, index)[:, 0]
    label = -sure * functional.log_softmax(student, 1).gather(1, index)[:, 0]
    rest_s, rest_t = (split(logits / temperature, index)[1] for logits in (student, teacher))
    rest = -(rest_t.exp() * rest_s).sum(1)  # at the label, rest_s is 0
    return reduce("nkd", label + gamma * temperature**2 * rest, reduction)
