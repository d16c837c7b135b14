"""Pure functions of tensors: losses of logits, of pooled features and of stage maps, one method per file.

>>> import torch
>>> student, teacher = torch.tensor([[2.0, 1.0, -1.0]]), torch.tensor([[1.0, 2.0, -1.0]])
>>> round(kd(student, teacher, temperature=1.0).item(), 4)
0.4459
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from kdviz.losses.at import at
from kdviz.losses.ce import ce
from kdviz.losses.diff_kendall import diff_kendall
from kdviz.losses.dist import dist
from kdviz.losses.dkd import dkd
from kdviz.losses.entry import LOSSES, Loss
from kdviz.losses.kd import kd
from kdviz.losses.list_mle import list_mle, p_list_mle
from kdviz.losses.lskd import lskd
from kdviz.losses.mlkd import batch_gram, class_gram
from kdviz.losses.mrkd import mrkd
from kdviz.losses.nkd import nkd
from kdviz.losses.normkd import normkd
from kdviz.losses.nst import nst
from kdviz.losses.own import OWN, own_loss
from kdviz.losses.pkt import pkt
from kdviz.losses.pld import pld
from kdviz.losses.rank_kendall import rank_kendall
from kdviz.losses.rkd import rkd
from kdviz.losses.rld import rld
from kdviz.losses.sp import sp
from kdviz.losses.ttm import ttm, wttm
from kdviz.losses.validate import validate_logits

__all__ = [
    "ALIASES",
    "LOSSES",
    "Loss",
    "at",
    "batch_gram",
    "ce",
    "class_gram",
    "diff_kendall",
    "dist",
    "dkd",
    "kd",
    "list_mle",
    "loss_value",
    "lskd",
    "mrkd",
    "nkd",
    "normkd",
    "nst",
    "own_loss",
    "p_list_mle",
    "pkt",
    "pld",
    "rank_kendall",
    "resolve",
    "rkd",
    "rld",
    "sp",
    "ttm",
    "validate_logits",
    "wttm",
]

ALIASES = {
    "rk": "rank_kendall",
    "rkkd": "rank_kendall",
    "kendall": "rank_kendall",
    "plackett": "pld",
    "plackett_luce": "pld",
    "cross_entropy": "ce",
}
LOSSES.accept(ALIASES)


def resolve(name: str) -> Loss:
    """The loss of that name or alias, or of `package.module:function` (see `own_loss`), whose own name it then has too.

    Raises: KdvizError with a close match for an unknown one; as `own_loss`.

    >>> resolve("rk").name
    'rank_kendall'
    """
    if ":" in name:
        return own_loss(name)
    return OWN[name] if name in OWN else LOSSES[ALIASES.get(name, name)]


def loss_value(
    name: str,
    logits_student: Tensor | None = None,
    logits_teacher: Tensor | None = None,
    target: Tensor | None = None,
    *,
    pooled_student: Tensor | None = None,
    pooled_teacher: Tensor | None = None,
    features_student: Sequence[Tensor] | None = None,
    features_teacher: Sequence[Tensor] | None = None,
    settings: Mapping[str, Any] | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The named loss of whichever of the tensors it takes.

    Args:
        name: a loss or an alias of one.
        logits_student, logits_teacher: `[n, k]`.
        target: class indices `[n]`.
        pooled_student, pooled_teacher: pooled features `[n, c]`; the two may differ in c.
        features_student, features_teacher: maps `[n, c, h, w]` of the stages, without the stem.
        settings: the loss' own settings by name, `{"temperature": 2.0}`.
        reduction: "mean", or "none" (`[n]`) for a loss that is a mean over independent samples.

    Returns: a scalar, or `[n]`.

    Raises: KdvizError for an unknown name or setting, a missing tensor, or whatever the loss itself refuses.

    >>> import torch
    >>> loss_value("ce", torch.zeros(2, 4), target=torch.tensor([0, 3]), reduction="none").shape
    torch.Size([2])
    """
    return resolve(name)(
        settings=settings,
        reduction=reduction,
        logits_student=logits_student,
        logits_teacher=logits_teacher,
        target=target,
        pooled_student=pooled_student,
        pooled_teacher=pooled_teacher,
        features_student=features_student,
        features_teacher=features_teacher,
    )
