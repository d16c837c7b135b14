"""MRKD: cosine similarity and smooth Kendall's tau of z-scored logits, within samples and within classes."""

from torch import Tensor

from kdviz.base.check import positive
from kdviz.losses.entry import loss
from kdviz.losses.inputs import pair
from kdviz.losses.rank_kendall import smooth_tau, zscored


@loss(unit="1", long_name="MRKD loss", shift_invariant=False)
def mrkd(
    logits_student: Tensor,
    logits_teacher: Tensor,
    *,
    similarity: float = 16.0,
    ranking: float = 32.0,
    steepness: float = 0.5,
) -> Tensor:
    """Disagreement in similarity and in ranking, of the rows of the logits and of their columns.

    L = similarity * [(1 - cos)_rows + (1 - cos)_columns] + ranking * [(1 - tau)_rows + (1 - tau)_columns]; rows are
    z-scored over the classes, columns over the batch (unbiased std), each net's by itself; cos is the mean cosine of
    student and teacher, tau the mean over pairs i < j of tanh(steepness / 2 * dt_ij ds_ij).

    Args:
        logits_student: `[n, k]`, k >= 2.
        logits_teacher: `[n, k]`; no gradient flows to it.
        similarity: weight of the cosines.
        ranking: weight of the smooth Kendall's tau.
        steepness: above 0.

    Returns: a scalar between 0 and 4 * (similarity + ranking). With a single sample the columns have no correlation
        and count as 0.

    Raises: KdvizError for wrong shapes or types, or a steepness that is not above 0.

    Source: the public code of MRKD's authors, where 2 sigmoid(x / 2) - 1 = tanh(x / 4) stands for the smooth sign.

    Differs from: a row or column of one value would divide by 0 there; here it counts as uncorrelated. The columns are
    those of the logits themselves, so a shift of single samples changes the loss, which it does not in `dist`.

    >>> import torch
    >>> logits = torch.tensor([[2.0, 1.0, -1.0], [0.0, 3.0, 1.0]])
    >>> bool(mrkd(logits, logits) < mrkd(logits, -logits))
    True
    """
    positive("mrkd", steepness=steepness)
    student, teacher = pair("mrkd", logits_student, logits_teacher)
    total = student.new_zeros(())
    for x, y in ((student, teacher), (student.mT.contiguous(), teacher.mT.contiguous())):
        x, y = zscored(x), zscored(y)
        cosine = (x * y).sum(1) / max(x.shape[1] - 1, 1)  # z-scored rows have the length sqrt(m - 1)
        total = total + similarity * (1 - cosine.mean())
        total = total + ranking * (1 - smooth_tau(x, y, form=2, steepness=steepness).mean())
    return total
