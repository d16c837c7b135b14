"""How far the mean over a stratified subset may lie from the mean over all images."""

import math

import torch
from torch import Tensor

Z95 = 1.959963984540054  # the normal distribution's 97.5 % point


def halfwidth(values: Tensor, labels: Tensor, population: Tensor) -> float:
    """Half the 95 % interval of the mean over the whole split, from a stratified subset of it.

    z sqrt( sum_h (N_h / N)^2 (1 - n_h / N_h) s_h^2 / n_h ),
    with n_h of the N_h images of class h in the subset and s_h^2 the unbiased variance of their values. Where a class
    has fewer than two, z sqrt( (1 - n / N) s^2 / n ) over all classes, which is wider.

    Args:
        values: [n], per image, in the unit of the result.
        labels: int64 [n], of the subset.
        population: int64 [classes], images of each class in the whole split.
    Returns:
        The half-width; NaN where it cannot be told (one image).
    Source: Cochran 1977, "Sampling techniques", eq. 5.6.

    >>> halfwidth(torch.tensor([1.0, 3.0]), torch.tensor([0, 0]), torch.tensor([2]))
    0.0
    """
    values = values.double()
    n, total = len(values), int(population.sum())
    if n < 2:
        return math.nan
    counts = torch.bincount(labels, minlength=len(population)).double()
    sizes = population.double()
    if bool(((counts < 2) & (sizes > 0)).any()):
        return Z95 * math.sqrt(float(values.var()) / n * (1 - n / total))
    mean = torch.zeros_like(sizes).index_add_(0, labels, values) / counts
    squares = torch.zeros_like(sizes).index_add_(0, labels, (values - mean[labels]).square())
    there = sizes > 0
    parts = (sizes / total) ** 2 * (1 - counts / sizes) * squares / (counts - 1) / counts
    return Z95 * math.sqrt(float(parts[there].sum()))


def share_halfwidth(hits: int, n: int, total: int) -> float:
    """Half the 95 % interval of a share, `hits` of `n` out of `total`; not zero where all hit, unlike `halfwidth`.

    Source: Agresti & Coull 1998, with the finite population's correction; strata left out, so on the wide side.

    >>> round(share_halfwidth(50, 100, 10**9), 3), share_halfwidth(10, 10, 10)
    (0.096, 0.0)
    """
    trials = n + Z95**2
    p = (hits + Z95**2 / 2) / trials
    return Z95 * math.sqrt(p * (1 - p) / trials * (1 - n / total))
