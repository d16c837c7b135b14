"""PKT: the samples' similarities in feature space as conditional probabilities."""

import torch
from torch import Tensor

from kdviz.base.check import require
from kdviz.losses.entry import loss
from kdviz.losses.inputs import rows, unmixed, wide
from kdviz.losses.papers import PKT

EPSILON = 1e-7  # of the original code, in norms and logarithms


def _probabilities(pooled: Tensor) -> Tensor:
    """Cosines of the samples, moved to 0..1, each row summing to 1 `[n, n]`."""
    unit = pooled / (torch.linalg.vector_norm(pooled, dim=1, keepdim=True) + EPSILON)
    similarity = ((unit @ unit.mT + 1) / 2).clamp_min(0)  # rounding may leave a cosine just below -1
    return similarity / similarity.sum(1, keepdim=True)


@loss(PKT, unit="nats", long_name="PKT loss", shift_invariant=False)
def pkt(pooled_student: Tensor, pooled_teacher: Tensor) -> Tensor:
    """KL divergence between the nets' similarities of samples, mean over all pairs.

    L = mean_ij t_ij log((t_ij + 1e-7) / (s_ij + 1e-7)), s and t the matrices (cosine + 1) / 2 with rows summing to 1.

    Args:
        pooled_student: `[n, c]`.
        pooled_teacher: `[n, c']`, of any width; no gradient flows to it.

    Returns: a scalar in nats. The mean over n^2 entries makes it small: the method's weight is 30000.

    Raises: KdvizError for wrong shapes or types.

    Source: Passalis and Tefas 2018, sec. 3, with the cosine kernel.

    >>> pooled = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 1.0]])
    >>> abs(pkt(5 * pooled, pooled).item()) < 1e-6
    True
    """
    rows("pkt", pooled_student=pooled_student, pooled_teacher=pooled_teacher)
    require(
        len(pooled_student) == len(pooled_teacher),
        f"pkt: pooled_student has {len(pooled_student)} samples but pooled_teacher has {len(pooled_teacher)};"
        " were they computed on the same batch?",
    )
    student = wide(pooled_student)
    with unmixed(student.device):
        taught, learnt = _probabilities(pooled_teacher.detach().to(student.dtype)), _probabilities(student)
        return (taught * ((taught + EPSILON) / (learnt + EPSILON)).log()).mean()
