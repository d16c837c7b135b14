"""RLD: the teacher's confidence for the label, and its distribution among the classes that it ranks below the label."""

import torch
from torch import Tensor
from torch.nn import functional

from kdviz.base.check import positive
from kdviz.losses.dkd import split
from kdviz.losses.entry import loss
from kdviz.losses.inputs import Reduction, labels, pair, reduce
from kdviz.losses.papers import RLD


@loss(RLD, unit="nats", long_name="RLD loss")
def rld(
    logits_student: Tensor,
    logits_teacher: Tensor,
    target: Tensor,
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
    confidence_temperature: float = 1.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """Divergences of the sample's confidence and of the classes below the label.

    L = alpha * Tc^2 * KL((max p, 1 - max p) || (q_y, 1 - q_y)) + beta * T^2 * KL(m^t || m^s): p and q the softmax of
    teacher and student at Tc = confidence_temperature; m the softmax at T = temperature over the classes whose teacher
    logit is below the label's, so that what a wrong teacher prefers to the label is not taught.

    Args:
        logits_student: `[n, k]`, k >= 2.
        logits_teacher: `[n, k]`; no gradient flows to it.
        target: class indices `[n]`.
        alpha: weight of the confidence.
        beta: weight of the classes below the label.
        temperature: above 0, of the classes below the label.
        confidence_temperature: above 0.
        reduction: "mean" over samples, or "none" for `[n]`.

    Returns: a scalar in nats, or `[n]`.

    Raises: KdvizError for wrong shapes or types, or a temperature that is not above 0.

    Source: Sun et al. 2025 (arXiv 2408.07703); defaults of the authors' public code.

    Differs from: the authors take classes out by a logit of -1e9; here they are left out. Both give 0 where the label
    is the teacher's last class.

    >>> import torch
    >>> logits = torch.tensor([[1.0, 3.0, 0.0]])
    >>> abs(rld(logits + 2.0, logits, torch.tensor([1])).item()) < 1e-6
    True
    """
    positive("rld", temperature=temperature, confidence_temperature=confidence_temperature)
    student, teacher = pair("rld", logits_student, logits_teacher)
    index = labels("rld", student, target)[:, None]
    sure_s = split(student / confidence_temperature, index)[0]
    sure_t = split(teacher / confidence_temperature, teacher.argmax(1, keepdim=True))[0]
    confidence = (sure_t.exp() * (sure_t - sure_s)).sum(1)
    below = teacher < teacher.gather(1, index)
    ranked_s, ranked_t = (_among(logits / temperature, below) for logits in (student, teacher))
    ranked = (ranked_t.exp() * (ranked_t - ranked_s) * below).sum(1)
    values = alpha * confidence_temperature**2 * confidence + beta * temperature**2 * ranked
    return reduce("rld", values, reduction)


def _among(logits: Tensor, chosen: Tensor) -> Tensor:
    """Log-probabilities `[n, k]` within each row's chosen classes, 0 at the others; a row may have none."""
    least = torch.finfo(logits.dtype).min
    inside = functional.log_softmax(logits.masked_fill(~chosen, least), 1)
    return inside.masked_fill(~chosen, 0.0)
