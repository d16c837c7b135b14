"""NST: the channels of a stage as a sample of activation patterns, compared as distributions."""

import torch
from torch import Tensor
from torch.nn import functional

from kdviz.losses.entry import loss
from kdviz.losses.inputs import Reduction, reduce, unmixed
from kdviz.losses.maps import Maps, map_pairs, pooled_alike
from kdviz.losses.papers import NST


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    """Mean over all pairs of channels of the squared inner product `[n]`, of patterns `[n, c, p]` and `[n, c', p]`."""
    return (x @ y.mT).square().mean((1, 2))


@loss(NST, unit="1", long_name="NST loss", shift_invariant=False)
def nst(features_student: Maps, features_teacher: Maps, *, reduction: Reduction = "mean") -> Tensor:
    """Squared maximum mean discrepancy of the channels' patterns, summed over stages.

    L = sum_l mean_i [k(t, t) - 2 k(s, t) + k(s, s)], k(x, y) the mean over channels a, b of <x_a, y_b>^2, each
    channel's map divided by its L2 norm over positions. Where a stage's maps differ in size, the larger one
    is averaged down to the smaller.

    Args:
        features_student: maps `[n, c, h, w]` of the stages, without the stem.
        features_teacher: as many, of any width and size; no gradient flows to them.
        reduction: "mean" over samples, or "none" for `[n]`.

    Returns: a scalar, or `[n]`; at least 0.

    Raises: KdvizError for wrong shapes or types, or nets whose numbers of stages differ.

    Source: Huang and Wang 2017, sec. 4, with the polynomial kernel of degree 2 and offset 0.

    >>> maps = torch.rand(2, 3, 4, 4)
    >>> abs(nst([2 * maps], [maps]).item()) < 1e-6
    True
    """
    stages = []
    for maps in map_pairs("nst", features_student, features_teacher):
        student, teacher = (functional.normalize(each.flatten(2), dim=2) for each in pooled_alike(*maps))
        with unmixed(student.device):
            stages.append(_kernel(teacher, teacher) - 2 * _kernel(student, teacher) + _kernel(student, student))
    return reduce("nst", torch.stack(stages).sum(0), reduction)
