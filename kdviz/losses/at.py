"""AT: where in the image the stages are active."""

import torch
from torch import Tensor
from torch.nn import functional

from kdviz.losses.entry import loss
from kdviz.losses.inputs import Reduction, reduce
from kdviz.losses.maps import Maps, map_pairs, pooled_alike
from kdviz.losses.papers import AT


def _attention(maps: Tensor) -> Tensor:
    """Mean square over channels, unit L2 norm over positions `[n, h * w]`."""
    return functional.normalize(maps.square().mean(1).flatten(1))


@loss(AT, unit="1", long_name="attention transfer loss", shift_invariant=False)
def at(features_student: Maps, features_teacher: Maps, *, reduction: Reduction = "mean") -> Tensor:
    """Squared difference of the nets' attention maps, summed over stages.

    L = sum_l mean_i mean_p (a_s - a_t)^2, a the mean over channels of F^2, divided by its L2 norm over positions p.
    Where a stage's maps differ in size, the larger one is averaged down to the smaller.

    Args:
        features_student: maps `[n, c, h, w]` of the stages, without the stem.
        features_teacher: as many, of any width and size; no gradient flows to them.
        reduction: "mean" over samples, or "none" for `[n]`.

    Returns: a scalar, or `[n]`; 0 where the maps agree up to a factor.

    Raises: KdvizError for wrong shapes or types, or nets whose numbers of stages differ.

    Source: Zagoruyko and Komodakis 2017, sec. 3.1, with p = 2.

    Differs from: the paper, which sums over positions and multiplies by beta / 2; the mean over positions is that of
    the code behind the published tables, and its weight is 1000.

    >>> maps = torch.rand(2, 3, 4, 4)
    >>> at([2 * maps], [maps]).item() < 1e-12
    True
    """
    stages = []
    for maps in map_pairs("at", features_student, features_teacher):
        student, teacher = pooled_alike(*maps)
        stages.append((_attention(student) - _attention(teacher)).square().mean(1))
    return reduce("at", torch.stack(stages).sum(0), reduction)
