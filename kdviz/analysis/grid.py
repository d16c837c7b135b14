"""Finite differences on an evenly spaced grid: second derivatives, curvature, the share that is convex."""

import numpy as np

from kdviz.base.check import require


def spacing(who: str, name: str, coordinate: np.ndarray) -> float:
    """The step of an evenly spaced, increasing coordinate of three points or more.

    Raises:
        KdvizError: fewer than three points, or steps that differ by more than one part in a thousand.

    >>> spacing("doc", "alpha", np.linspace(-1, 1, 5))
    0.5
    """
    coordinate = np.asarray(coordinate, dtype=float)
    require(coordinate.size >= 3, f"{who}: {name} has {coordinate.size} points, but three or more are needed")
    steps = np.diff(coordinate)
    even = steps.min() > 0 and np.ptp(steps) <= 1e-3 * steps.mean()
    require(even, f"{who}: {name} must be evenly spaced and increasing; resample it first")
    return float(steps.mean())


def hessian(
    values: np.ndarray, alphas: np.ndarray, betas: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Second derivatives at the inner points of a surface (or a curve), by central differences.

    f_aa = (f(a+h) - 2 f(a) + f(a-h)) / h^2, f_ab from the four diagonal points over 4 h k; exact for quadratics.

    Args:
        values: [..., a, b], or [..., a] where betas is None; a value that is not finite makes those next to it so.
        alphas: [a], evenly spaced.
        betas: [b], evenly spaced.
    Returns:
        (f_aa, f_bb, f_ab), each [..., a-2, b-2]; for a curve the last two are zero and the shapes [..., a-2].
    Raises:
        KdvizError: an uneven coordinate, one of fewer than three points, or one that does not fit the values.
    Source: ours.

    >>> a = np.linspace(-1, 1, 5)
    >>> [float(round(part[0, 0], 12)) for part in hessian(a[:, None] ** 2 + 3 * a[:, None] * a, a, a)]
    [2.0, 0.0, 3.0]
    """
    f = np.asarray(values, dtype=float)
    h = spacing("hessian", "alpha", alphas)
    lengths = (len(alphas),) if betas is None else (len(alphas), len(betas))
    require(f.shape[-len(lengths) :] == lengths, f"hessian: values are {f.shape} but the coordinates are {lengths}")
    with np.errstate(invalid="ignore", over="ignore"):
        if betas is None:
            faa = (f[..., 2:] - 2 * f[..., 1:-1] + f[..., :-2]) / h**2
            return faa, np.zeros_like(faa), np.zeros_like(faa)
        k = spacing("hessian", "beta", betas)
        faa = (f[..., 2:, 1:-1] - 2 * f[..., 1:-1, 1:-1] + f[..., :-2, 1:-1]) / h**2
        fbb = (f[..., 1:-1, 2:] - 2 * f[..., 1:-1, 1:-1] + f[..., 1:-1, :-2]) / k**2
        fab = (f[..., 2:, 2:] - f[..., 2:, :-2] - f[..., :-2, 2:] + f[..., :-2, :-2]) / (4 * h * k)
    return faa, fbb, fab


def curvatures(
    values: np.ndarray, alphas: np.ndarray, betas: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The smallest and the largest eigenvalue of `hessian` at each inner point; equal for a curve.

    Shapes as `hessian`; NaN where a value in reach is not finite.

    >>> a = np.linspace(-1, 1, 5)
    >>> low, high = curvatures(a[:, None] ** 2 - 2 * a**2, a, a)
    >>> float(round(low[0, 0], 12)), float(round(high[0, 0], 12))
    (-4.0, 2.0)
    """
    faa, fbb, fab = hessian(values, alphas, betas)
    if betas is None:
        return faa, faa
    with np.errstate(invalid="ignore", over="ignore"):
        middle = (faa + fbb) / 2
        radius = np.hypot((faa - fbb) / 2, fab)
        return middle - radius, middle + radius


def convex_share(
    values: np.ndarray, alphas: np.ndarray, betas: np.ndarray | None = None, *, tolerance: float = 1e-6
) -> float:
    """The share of inner grid points at which the finite-difference Hessian is positive semidefinite.

    A point counts as convex when its smallest eigenvalue times the squared step is above -tolerance times the range
    of the values: below that, a second difference of float32 losses is rounding. Not-finite points are not convex.

    Args:
        values: [a, b], or [a] where betas is None.
        alphas: [a], evenly spaced.
        betas: [b], evenly spaced.
        tolerance: share of the range of the values that a second difference may fall below zero, >= 0.
    Returns:
        A fraction of the inner points.
    Raises:
        KdvizError: as `hessian`.
    Source: ours.

    >>> a = np.linspace(-1, 1, 21)
    >>> convex_share(a[:, None] ** 2 + a**2, a, a), convex_share(a[:, None] ** 2 - a**2, a, a)
    (1.0, 0.0)
    """
    low, _ = curvatures(values, alphas, betas)
    finite = np.asarray(values, dtype=float)
    finite = finite[np.isfinite(finite)]
    steps = [spacing("convex_share", "alpha", alphas)]
    if betas is not None:
        steps.append(spacing("convex_share", "beta", betas))
    allowed = tolerance * (np.ptp(finite) if finite.size else 0.0) / min(steps) ** 2
    with np.errstate(invalid="ignore"):
        return float(np.mean(low >= -allowed))
