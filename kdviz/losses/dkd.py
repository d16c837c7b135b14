"""DKD: the divergence split into the target class and the rest."""

import torch
from torch import Tensor
from torch.nn import functional

from kdviz.base.check import positive
from kdviz.losses.entry import loss
from kdviz.losses.inputs import Normalize, Reduction, labels, normalized, pair, reduce
from kdviz.losses.papers import DKD


def split(logits: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of (target, rest) `[n, 2]` and of the classes among the rest `[n, k]`, 0 at the target."""
    mask = torch.zeros_like(logits, dtype=torch.bool).scatter(1, index, True)
    rest = logits.masked_fill(mask, float("-inf"))
    two = torch.stack((logits.gather(1, index)[:, 0], rest.logsumexp(1)), 1)
    return functional.log_softmax(two, 1), functional.log_softmax(rest, 1).masked_fill(mask, 0.0)


@loss(DKD, unit="nats", long_name="DKD loss")
def dkd(
    logits_student: Tensor,
    logits_teacher: Tensor,
    target: Tensor,
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
    normalize: Normalize = "none",
    reduction: Reduction = "mean",
) -> Tensor:
    """Decoupled divergence: target against the rest, and among the rest, each with its own weight.

    L = temperature^2 * (alpha * KL(b^t || b^s) + beta * KL(r^t || r^s)); b is the pair (p_y, 1 - p_y), r the
    distribution over the classes other than y, both of softmax(logits / temperature). KD is alpha = 1,
    beta = 1 - p^t_y.

    Args:
        logits_student: `[n, k]`, k >= 2.
        logits_teacher: `[n, k]`; no gradient flows to it.
        target: class indices `[n]`.
        alpha: weight of the target's part.
        beta: weight of the part among the rest; the paper's 8 is for most pairs, the method's presets know the others.
        temperature: above 0.
        normalize: of the logits before all else: "none", or "zscore" as LSKD.
        reduction: "mean" over samples, or "none" for `[n]`.

    Returns: a scalar in nats, or `[n]`.

    Raises: KdvizError for wrong shapes or types, or a temperature that is not above 0.

    Source: Zhao et al. 2022, eq. 7.

    Differs from: the original hides the target among the rest by subtracting 1000 from its logit; here it is left out.

    >>> dkd(torch.tensor([[1.0, 5.0, 2.0]]), torch.tensor([[0.0, 4.0, 1.0]]), torch.tensor([1])).item()
    0.0
    """
    positive("dkd", temperature=temperature)
    student, teacher = normalized("dkd", pair("dkd", logits_student, logits_teacher), normalize)
    index = labels("dkd", student, target)[:, None]
    (two_s, rest_s), (two_t, rest_t) = (split(logits / temperature, index) for logits in (student, teacher))
    target_part = (two_t.exp() * (two_t - two_s)).sum(1)
    rest_part = (rest_t.exp() * (rest_t - rest_s)).sum(1)
    return reduce("dkd", temperature**2 * (alpha * target_part + beta * rest_part), reduction)
