"""How far a student agrees with its teacher: first class, first k classes, rank correlation."""

import torch
from torch import Tensor

from kdviz.base.check import require, same_shape


def top1(logits: Tensor, target: Tensor) -> Tensor:
    """The share of samples whose largest logit is the label's.

    Args: logits [n, k]; target [n] int64.
    Returns: [] float64, a fraction; NaN without samples.
    Raises: KdvizError when the counts differ.

    >>> top1(torch.tensor([[1.0, 0], [1, 0]]), torch.tensor([0, 1]))
    tensor(0.5000, dtype=torch.float64)
    """
    require(
        logits.ndim == 2 and target.shape == logits.shape[:1],
        f"top1: logits must be [n, k] and target [n], got {tuple(logits.shape)} and {tuple(target.shape)}",
    )
    return (logits.argmax(1) == target).double().mean()


def agreement(logits_student: Tensor, logits_teacher: Tensor) -> Tensor:
    """The share of samples where student and teacher name the same class, right or wrong.

    Args: logits_student, logits_teacher: [n, k].
    Returns: [] float64, a fraction.
    Raises: KdvizError for shapes that differ.

    >>> agreement(torch.tensor([[1.0, 0], [1, 0]]), torch.tensor([[2.0, 1], [1, 2]]))
    tensor(0.5000, dtype=torch.float64)
    """
    same_shape("agreement", logits_student=logits_student, logits_teacher=logits_teacher)
    return (logits_student.argmax(1) == logits_teacher.argmax(1)).double().mean()


def topk_overlap(logits_student: Tensor, logits_teacher: Tensor, *, k: int = 5) -> Tensor:
    """|student's k largest channels, and teacher's| / k for each sample; of equal logits the first channel counts.

    Args: logits_student, logits_teacher: [n, classes]; k from 1 to classes.
    Returns: [n] float64, fractions.
    Raises: KdvizError for shapes that differ or a k out of range.

    >>> topk_overlap(torch.tensor([[3.0, 2, 1, 0]]), torch.tensor([[3.0, 0, 2, 1]]), k=2)
    tensor([0.5000], dtype=torch.float64)
    """
    same_shape("topk_overlap", logits_student=logits_student, logits_teacher=logits_teacher)
    classes = logits_student.shape[1]
    require(1 <= k <= classes, f"topk_overlap: k must be from 1 to the {classes} classes, got {k}")
    inside = [_first(k, logits) for logits in (logits_student, logits_teacher)]
    return (inside[0] & inside[1]).double().sum(1) / k


def _first(k: int, logits: Tensor) -> Tensor:
    """Which channels are among the k largest: [n, classes] bool."""
    least = logits.topk(k, dim=1, sorted=False).values.amin(1, keepdim=True)
    above, level = logits > least, logits == least
    return above | (level & (level.cumsum(1) <= k - above.sum(1, keepdim=True)))


def spearman(x: Tensor, y: Tensor) -> Tensor:
    """Spearman's rank correlation of each row of x with the same row of y: Pearson's of the average ranks.

    Args: x, y: [n, k].
    Returns: [n] float64 in [-1, 1]; NaN where a row is constant or has a NaN.
    Raises: KdvizError for shapes that differ.
    Source: Spearman (1904); ties as scipy.stats.spearmanr.

    >>> spearman(torch.tensor([[1.0, 2, 3, 4]]), torch.tensor([[1.0, 3, 2, 4]]))
    tensor([0.8000], dtype=torch.float64)
    """
    same_shape("spearman", x=x, y=y)
    require(x.ndim == 2, f"spearman: rows must be [n, k], got {tuple(x.shape)}")
    a, b = (ranks - ranks.mean(1, keepdim=True) for ranks in (_average_ranks(x), _average_ranks(y)))
    rho = (a * b).sum(1) / (a.square().sum(1) * b.square().sum(1)).sqrt()
    return rho.clamp(-1, 1).masked_fill(x.isnan().any(1) | y.isnan().any(1), torch.nan)


def _average_ranks(x: Tensor) -> Tensor:
    """Ranks of each row, doubled; ties share their mean rank (doubled, so that every rank is whole)."""
    ordered, places = x.detach().sort(dim=1)
    new = ordered[:, 1:] != ordered[:, :-1]
    at = torch.arange(x.shape[1], device=x.device).expand_as(x)
    first = at.masked_fill(torch.nn.functional.pad(~new, (1, 0)), 0).cummax(1).values
    last = at.masked_fill(torch.nn.functional.pad(~new, (0, 1)), x.shape[1] - 1).flip(1).cummin(1).values.flip(1)
    return torch.empty(x.shape, dtype=torch.float64, device=x.device).scatter_(1, places, (first + last).double())
