"""DIST: Pearson correlation of the predictions, within samples and within classes."""

import torch
from torch import Tensor

from kdviz.base.check import positive
from kdviz.losses.entry import loss
from kdviz.losses.inputs import pair
from kdviz.losses.papers import DIST


def _pearson(x: Tensor, y: Tensor, dim: int) -> Tensor:
    """Pearson's r along dim; 0 where either side is constant."""
    x, y = x - x.mean(dim, keepdim=True), y - y.mean(dim, keepdim=True)
    # the original's 1e-8: a constant line gives 0 and a finite gradient
    scale = torch.linalg.vector_norm(x, dim=dim) * torch.linalg.vector_norm(y, dim=dim) + 1e-8
    return (x * y).sum(dim) / scale


@loss(DIST, unit="1", long_name="DIST loss")
def dist(
    logits_student: Tensor, logits_teacher: Tensor, *, beta: float = 1.0, gamma: float = 1.0, temperature: float = 1.0
) -> Tensor:
    """Inter-class and intra-class correlation loss.

    L = temperature^2 * [beta * (1 - mean_i r(p_i, q_i)) + gamma * (1 - mean_j r(p^j, q^j))], r Pearson's correlation,
    p_i and p^j the rows (samples) and columns (classes) of softmax(logits / temperature).

    Args:
        logits_student: `[n, k]`.
        logits_teacher: `[n, k]`; no gradient flows to it.
        beta: weight of the inter-class term (rows).
        gamma: weight of the intra-class term (columns). With a single sample its correlations are 0, the term constant.
        temperature: above 0.

    Returns: a scalar between 0 and 2 * temperature^2 * (beta + gamma).

    Raises: KdvizError for wrong shapes or types, or a temperature that is not above 0.

    Source: Huang et al. 2022, eqs. 7-10.

    Differs from: its authors train with beta = gamma = 2, at temperature 4 on CIFAR-100 and 1 on ImageNet. The method
    "dist" has the former as its defaults; this function's own are the bare formula, which no training uses.

    >>> import torch
    >>> logits = torch.tensor([[2.0, 1.0, -1.0], [0.0, 3.0, 1.0]])
    >>> abs(dist(logits, logits).item()) < 1e-5
    True
    """
    positive("dist", temperature=temperature)
    student, teacher = pair("dist", logits_student, logits_teacher)
    p, q = torch.softmax(teacher / temperature, -1), torch.softmax(student / temperature, -1)
    inter, intra = 1 - _pearson(p, q, 1).mean(), 1 - _pearson(p, q, 0).mean()
    return temperature**2 * (beta * inter + gamma * intra)
