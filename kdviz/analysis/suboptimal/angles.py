"""Gradients of the losses in a sample's logits, and the angle that each makes with cross-entropy's."""

import torch
from torch import Tensor

from kdviz.analysis.suboptimal.criteria import NAMES, REAL, CriteriaSettings, criterion


def gradients(
    logits_student: Tensor, logits_teacher: Tensor, target: Tensor, settings: CriteriaSettings = REAL
) -> dict[str, Tensor]:
    """dL/ds of each sample under cross-entropy and each of the criteria.

    ce: softmax(s) - e_y.  kl: T (softmax(s/T) - softmax(t/T)), the direction of KL scaled as that of T^2 KL.  kl+rk:
    alpha kl + gamma rank_kendall. The
    ranking loss and PLD are differentiated automatically.

    Args: as `criteria`.
    Returns: "ce" and the names of `criteria` -> `[n, k]`; each row sums to 0.
    Source: RKKD sec. 4.2 for kl.

    >>> import torch
    >>> found = gradients(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), torch.tensor([0]), CriteriaSettings(1.0))
    >>> found["ce"].tolist(), [round(one, 4) for one in found["kl"][0].tolist()]
    ([[-0.5, 0.5]], [-0.2311, 0.2311])
    """
    return with_gradients(logits_student, logits_teacher, target, settings)[1]


def with_gradients(
    logits_student: Tensor,
    logits_teacher: Tensor,
    target: Tensor,
    settings: CriteriaSettings = REAL,
    *,
    ranking: bool = True,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """`criteria` and `gradients` at once, so that each loss is computed once.

    Args:
        logits_student, logits_teacher, target, settings: as `criteria`.
        ranking: whether the ranking loss is among them, alone and beside KL.
    Returns: (name -> `[n]`, name -> `[n, k]`), the criteria in the order of their names; "ce" comes before them in the
        second.
    """
    student = logits_student.detach()
    one_hot = torch.nn.functional.one_hot(target, student.shape[1])
    temperature = settings.temperature
    softer = (student / temperature).softmax(1) - (logits_teacher / temperature).softmax(1)
    values = {"kl": criterion("kl", student, logits_teacher, target, settings)}
    slopes = {"ce": student.softmax(1) - one_hot, "kl": temperature * softer}
    for name in ("rank_kendall", "pld") if ranking else ("pld",):
        with torch.enable_grad():
            leaf = student.clone().requires_grad_()
            value = criterion(name, leaf, logits_teacher, target, settings)
            (slopes[name],) = torch.autograd.grad(value.sum(), leaf)
        values[name] = value.detach()
    if ranking:
        weight = settings.alpha * temperature**2
        values["kl+rk"] = weight * values["kl"] + settings.gamma * values["rank_kendall"]
        slopes["kl+rk"] = settings.alpha * slopes["kl"] + settings.gamma * slopes["rank_kendall"]
    order = [name for name in NAMES if name in values]
    return {name: values[name] for name in order}, {name: slopes[name] for name in ("ce", *order)}


def angle(first: Tensor, second: Tensor) -> Tensor:
    """The angle between rows, `[n]`, in degrees; NaN where either has no length.

    2 atan2(|u - v|, |u + v|) of the unit rows, which is exact near 0 and 180 where the arc cosine is not.

    >>> import torch
    >>> angle(torch.eye(2)[:1], torch.tensor([[1.0, 1.0]])).item()
    45.0
    """
    u, v = (one / one.norm(dim=1, keepdim=True) for one in (first, second))
    return torch.rad2deg(2 * torch.atan2((u - v).norm(dim=1), (u + v).norm(dim=1)))
