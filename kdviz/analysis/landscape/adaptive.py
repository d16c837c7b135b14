"""A landscape from a third of its points: a coarse grid, refined where two splines disagree, the rest interpolated."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from kdviz.analysis.landscape.geometry import loss_names
from kdviz.analysis.landscape.sweep import Objective, Progress, Weights, sweep
from kdviz.base.check import require

Measure = Callable[[Sequence[int]], dict[str, np.ndarray]]


class Filled(NamedTuple):
    """values: name -> [points], measured or interpolated; error: name -> [points], the estimated error, 0 where
    measured; measured: bool [points]; estimate: the largest error as a share of its variable's range."""

    values: dict[str, np.ndarray]
    error: dict[str, np.ndarray]
    measured: np.ndarray
    estimate: float


def refine(
    axes: Sequence[np.ndarray],
    measure: Measure,
    *,
    share: float = 1 / 3,
    tolerance: float = 0.01,
    watched: Callable[[str], bool] = lambda _name: True,
) -> Filled:
    """Measure where the values are uncertain, until they are certain enough or the share of points is spent.

    Half of the points make an even coarse grid. Then, round by round, the polyharmonic splines |r|^5 and |r|^3 through
    all measured points are compared, and the points at which they differ most (relative to the range) are measured.
    Each round also shows how the true error compares with the difference: the estimated error is the largest
    difference at a point and those adjacent to it, times the 95 % quantile of |measured - predicted| over that, all
    rounds together. The |r|^5 spline fills the grid.

    Args:
        axes: one or two coordinates, increasing.
        measure: point indexes (row by row) -> name -> values in their order.
        share: of the grid's points to measure at most, (0, 1].
        tolerance: stop when the estimated error is below this share of the range of every watched variable.
        watched: which variables steer and count; the others are filled along.
    Raises:
        KdvizError: a share or tolerance out of range, a measured value that is not finite.
    Source: ours; polyharmonic splines: Duchon 1977.
    """
    require(0 < share <= 1, f"adaptive: share must lie in (0, 1], got {share}")
    require(0 < tolerance < 1, f"adaptive: tolerance must lie in (0, 1), got {tolerance}")
    shape = tuple(map(len, axes))
    points = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij"), -1).reshape(-1, len(shape))
    most = max(int(share * len(points)), min(len(points), 4 ** len(shape)))
    done = _coarse(shape, most // 2)
    found = _checked(measure(done))
    ratios: list[float] = []
    while True:
        predicted, gap = _predict(points, done, found)
        near = {name: _largest_near(one, shape) for name, one in gap.items()}
        factor = float(np.quantile(ratios, 0.95)) if ratios else 1.0
        measured = np.isin(np.arange(len(points)), done)
        error = {name: np.where(measured, 0.0, factor * one) for name, one in near.items()}
        estimate = float(_size(found, error, watched).max())
        left = most - len(done)
        if left <= 0 or (ratios and estimate <= tolerance):
            return Filled(predicted, error, measured, estimate)
        new = _worst(_size(found, gap, watched), shape, min(left, max(most // 12, 1)))
        fresh = _checked(measure(new))
        ratios += _ratios(predicted, near, fresh, new, watched)
        done, found = [*done, *new], {name: np.append(found[name], fresh[name]) for name in found}


def adaptive(
    objective: Objective,
    weights: Weights,
    directions: Weights | Sequence[Weights],
    alphas: Sequence[float],
    betas: Sequence[float] | None = None,
    *,
    share: float = 1 / 3,
    tolerance: float = 0.01,
    journal: Any = None,
    progress: Progress | None = None,
) -> xr.Dataset:
    """`sweep` from a share of its points, the others interpolated with their estimated error; see `refine`.

    Args:
        objective, weights, directions, alphas, betas, journal: as `sweep`; the axes evenly spaced.
        share, tolerance: as `refine`; losses are watched, metrics are filled too.
        progress: called with (points measured, the most there may be).
    Returns:
        Dataset of `sweep` without gaps, and for each loss <loss>_error (its unit; 0 where measured), measured (0 or
        1); attrs points_done, adaptive_share, estimated_error (the largest, as a share of its loss's range).
    Raises:
        KdvizError: as `refine` and `sweep`.
    Source: ours.
    """
    axes = [np.asarray(axis, dtype=float) for axis in (alphas, betas) if axis is not None]
    most, seen = max(int(share * math.prod(map(len, axes))), 1), 0
    template: list[xr.Dataset] = []

    def measure(batch: Sequence[int]) -> dict[str, np.ndarray]:
        nonlocal seen
        before = seen

        def step(_done: int, _total: int) -> None:
            nonlocal seen
            if progress is not None:
                progress(min(seen, most), most)
            seen += 1

        part = sweep(objective, weights, directions, alphas, betas, journal=journal, schedule=batch, progress=step)
        seen = before + len(batch)
        template.append(part)
        return {str(name): array.values.ravel()[list(batch)] for name, array in part.data_vars.items()}

    def watched(name: str) -> bool:
        return name in loss_names(template[0])

    filled = refine(axes, measure, share=share, tolerance=tolerance, watched=watched)
    return _filled_in(template[-1], filled, watched)


def _filled_in(part: xr.Dataset, filled: Filled, watched: Callable[[str], bool]) -> xr.Dataset:
    """The last part of the sweep with all points, the errors of its losses, and which points were measured."""
    result, shape = part.copy(deep=True), tuple(part.sizes.values())
    for name, values in filled.values.items():
        meaning = result[name].attrs
        fraction = meaning["units"] == "fraction"
        least = 0 if fraction or meaning["role"] == "half-width" else -np.inf
        result[name].values = values.clip(least, 1 if fraction else np.inf).reshape(shape)
        if watched(name):
            long_name = f"estimated error of {meaning['long_name']}"
            attrs = {"units": meaning["units"], "long_name": long_name, "role": "error", "of": name}
            result[f"{name}_error"] = (result[name].dims, filled.error[name].reshape(shape), attrs)
    measured = filled.measured.reshape(shape).astype(np.int8)
    marks = {"units": "1", "long_name": "whether the point was measured", "role": "mark"}
    result["measured"] = (tuple(result.dims), measured, marks)
    count = int(filled.measured.sum())
    result.attrs.update(points_done=count, adaptive_share=count / len(filled.measured), estimated_error=filled.estimate)
    return result


def _coarse(shape: tuple[int, ...], count: int) -> list[int]:
    """An even coarse grid of about `count` points with the corners and the centre."""
    each = max(int(count ** (1 / len(shape))), 3)
    lines = [sorted({*np.round(np.linspace(0, n - 1, min(each, n))).astype(int).tolist(), n // 2}) for n in shape]
    grid = np.stack(np.meshgrid(*lines, indexing="ij"), -1).reshape(-1, len(shape))
    return np.ravel_multi_index(tuple(grid.T), shape).tolist()


def _predict(
    points: np.ndarray, done: list[int], found: dict[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The |r|^5 spline everywhere and how far the |r|^3 spline is from it, both exact where measured."""
    from scipy.interpolate import RBFInterpolator

    values = np.stack(list(found.values()), axis=-1)
    fine, rough = (
        RBFInterpolator(points[done], values, kernel=kernel, degree=2)(points) for kernel in ("quintic", "cubic")
    )
    fine[done] = rough[done] = values
    return dict(zip(found, fine.T, strict=True)), dict(zip(found, np.abs(fine - rough).T, strict=True))


def _largest_near(gap: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The largest gap at a point and those adjacent to it: where two splines cross, both may be wrong."""
    from scipy.ndimage import maximum_filter

    return maximum_filter(gap.reshape(shape), 3, mode="nearest").ravel()


def _size(found: dict[str, np.ndarray], gap: dict[str, np.ndarray], watched: Callable[[str], bool]) -> np.ndarray:
    """The largest gap of any watched variable at each point, as a share of its range."""
    shares = [gap[name] / max(np.ptp(values), 1e-30) for name, values in found.items() if watched(name)]
    require(shares, "adaptive: there is no loss to refine by")
    return np.max(shares, axis=0)


def _worst(size: np.ndarray, shape: tuple[int, ...], count: int) -> list[int]:
    """The points of the largest size, no two of them adjacent as long as there are others."""
    order = np.argsort(-size, kind="stable")
    places = np.stack(np.unravel_index(order, shape), axis=-1)
    chosen: list[int] = []
    for i, place in enumerate(places):
        if len(chosen) == count:
            break
        if not chosen or np.abs(places[chosen] - place).max(axis=1).min() > 1:
            chosen.append(i)
    return order[chosen].tolist()


def _ratios(
    predicted: dict[str, np.ndarray],
    gap: dict[str, np.ndarray],
    fresh: dict[str, np.ndarray],
    new: list[int],
    watched: Callable[[str], bool],
) -> list[float]:
    """|measured - predicted| over the gap, for every watched variable at every new point."""
    kept = [name for name in fresh if watched(name)]
    errors = [np.abs(fresh[name] - predicted[name][new]) / np.maximum(gap[name][new], 1e-30) for name in kept]
    return np.concatenate(errors).tolist()


def _checked(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    for name, values in found.items():
        fine = bool(np.isfinite(values).all())
        require(fine, f"adaptive: {name} is not finite everywhere; sweep the whole grid, or take a smaller span")
    return found
