"""RKKD's ranking loss: a differentiable Kendall's tau between student and teacher."""

from typing import Literal

import torch
from torch import Tensor

from kdviz.base.check import one_of, positive
from kdviz.losses.entry import loss
from kdviz.losses.inputs import Reduction, pair, reduce
from kdviz.losses.papers import RKKD


@loss(RKKD)
def rank_kendall(
    logits_student: Tensor, logits_teacher: Tensor, *, form: Literal[1, 2, 3] = 1, steepness: float = 1.0,
    normalize: Literal["none", "zscore", "l2"] = "zscore", pairs: Literal["unordered", "ordered"] = "unordered",
    channels: tuple[str, float] | None = None, reduction: Reduction = "mean",
) -> Tensor:  # fmt: skip
    """Minus a smooth Kendall's tau between the channel orders of student and teacher."""
    who = "rank_kendall"
    positive(who, steepness=steepness)
    one_of(who, (1, 2, 3), form=form)
    student, teacher = pair(who, logits_student, logits_teacher)
    if normalize == "zscore":
        student, teacher = (
            (z - z.mean(-1, keepdim=True)) / (z.std(-1, keepdim=True) + 1e-7) for z in (student, teacher)
        )
    d_student, d_teacher = (z[:, :, None] - z[:, None, :] for z in (student, teacher))
    half = steepness / 2
    a, b = torch.tanh(half * d_teacher), torch.tanh(half * d_student)
    k = student.shape[1]
    return reduce(who, -(a * b).sum((1, 2)) / (k * (k - 1)), reduction)
