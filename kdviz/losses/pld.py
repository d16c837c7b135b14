"""PLD: Plackett-Luce ranking of the classes, weighted by the teacher's confidence."""

import torch
from torch import Tensor

from kdviz.base.check import positive
from kdviz.losses.entry import loss
from kdviz.losses.inputs import Reduction, labels, pair, reduce
from kdviz.losses.papers import PLD
from kdviz.losses.plackett_luce import costs, ranking


@loss(PLD, unit="nats", long_name="PLD loss")
def pld(
    logits_student: Tensor,
    logits_teacher: Tensor,
    target: Tensor,
    *,
    temperature: float = 1.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """List-wise loss of the teacher's ranking with the label first, each choice weighted by the teacher's confidence.

    L = sum_k alpha_k [-s_{pi_k} + log sum_{l >= k} exp(s_{pi_l})], alpha = softmax(t / temperature) in the order of pi;
    pi is the label, then the other classes by descending teacher logit. alpha = (1, 0, ..., 0) would be cross-entropy.

    Args:
        logits_student: `[n, k]`.
        logits_teacher: `[n, k]`; no gradient flows to it.
        target: class indices `[n]`.
        temperature: of the teacher's weights alone, above 0; the student is never softened and nothing is squared.
        reduction: "mean" over samples, or "none" for `[n]`.

    Returns: a scalar in nats, or `[n]`.

    Raises: KdvizError for wrong shapes or types, or a temperature that is not above 0.

    Source: Bassam et al. 2025, eqs. 7-9. Temperature 1 is their best on ImageNet; their CIFAR-100 runs use 4.

    >>> import torch
    >>> pld(torch.zeros(1, 3), torch.tensor([[0.0, 90.0, 0.0]]), torch.tensor([1])).item()  # all weight on the label
    1.098612...
    """
    positive("pld", temperature=temperature)
    student, teacher = pair("pld", logits_student, logits_teacher)
    order = ranking(teacher, labels("pld", student, target))
    weights = torch.softmax(teacher / temperature, -1).gather(1, order)
    return reduce("pld", (weights * costs(student, order)).sum(1), reduction)
