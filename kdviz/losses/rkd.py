"""RKD: distances and angles between the samples of a batch, in feature space."""

import torch
from torch import Tensor
from torch.nn import functional

from kdviz.base.check import require
from kdviz.losses.entry import loss
from kdviz.losses.inputs import rows, unmixed, wide
from kdviz.losses.papers import RKD


def _distances(points: Tensor) -> Tensor:
    """Euclidean distances `[n, n]` over their mean, the zeros left out of it."""
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")  # exact far from the origin
    return distances * (distances > 0).sum() / distances.sum().clamp_min(1e-12)


def _angles(points: Tensor) -> Tensor:
    """Cosines `[n, n, n]` of the angle at the first point between the ways to the other two."""
    ways = functional.normalize(points[None] - points[:, None], dim=2)
    return ways @ ways.mT


@loss(RKD, unit="1", long_name="RKD loss")
def rkd(pooled_student: Tensor, pooled_teacher: Tensor, *, distance: float = 25.0, angle: float = 50.0) -> Tensor:
    """Relations of a batch: pairwise distances and triple-wise angles of the pooled features.

    L = distance * H(d_s - d_t) + angle * H(c_s - c_t), H the mean smooth L1; d the distances over their mean, c the
    cosines at each point between all others. Memory grows with n^3: 512 samples need about .5 GB a net.

    Args:
        pooled_student: `[n, c]`.
        pooled_teacher: `[n, c']`, of any width; no gradient flows to it.
        distance: weight of the distances.
        angle: weight of the angles.

    Returns: a scalar; 0 for a single sample, which has no relations.

    Raises: KdvizError for wrong shapes or types.

    Source: Park et al. 2019, eqs. 5-11.

    >>> points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    >>> abs(rkd(5 * points, points).item()) < 1e-5  # relations know no scale
    True
    """
    rows("rkd", pooled_student=pooled_student, pooled_teacher=pooled_teacher)
    require(
        len(pooled_student) == len(pooled_teacher),
        f"rkd: pooled_student has {len(pooled_student)} samples but pooled_teacher has {len(pooled_teacher)};"
        " were they computed on the same batch?",
    )
    student = wide(pooled_student)
    teacher = pooled_teacher.detach().to(student.dtype)
    with unmixed(student.device):
        far = functional.smooth_l1_loss(_distances(student), _distances(teacher))
        wide_open = functional.smooth_l1_loss(_angles(student), _angles(teacher))
    return distance * far + angle * wide_open
