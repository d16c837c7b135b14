"""Landscapes between nets of one architecture: the line of two, the plane of three."""

import math
import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import xarray as xr
from torch import nn

from kdviz.analysis.landscape.options import Grid, Measurement
from kdviz.analysis.landscape.path_evaluator import PathEvaluator
from kdviz.analysis.landscape.states import flatten, states_of
from kdviz.analysis.landscape.sweep import Progress, sweep
from kdviz.base.check import require
from kdviz.data import Data


def interpolation(
    first: nn.Module,
    second: nn.Module,
    data: Data,
    measurement: Measurement = Measurement(),
    grid: Grid = Grid(steps=25),
    *,
    labels: Sequence[str] = ("first", "second"),
    journal: str | os.PathLike | None = None,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Losses on the straight line between two nets, w(alpha) = (1 - alpha) first + alpha second, and their barrier.

    barrier = max over alpha in [0, 1] of  L(alpha) - ((1 - alpha) L(0) + alpha L(1)),  never below 0

    Args:
        first, second: nets of one architecture; left exactly as they are.
        data: the images.
        measurement: bn is "interpolate" [default], "recompute" at each point, or "frozen" (those of `first`).
        grid: steps, on [-margin, 1 + margin], both ends of [0, 1] among them where margin is 0; margin, in units of
            the nets' distance [default: 0].
        labels: the nets' names in figures.
        journal, progress: as `landscape`.
    Returns:
        Dataset over alpha, kind "path": a variable per loss with attrs barrier and barrier_at, accuracy; dim mark (the
        labels): mark_alpha and mark_loss, the first loss of each net with its own statistics; attrs distance
        (Euclidean, between the weights).
    Raises:
        KdvizError: nets that differ in form, fewer than two steps.
    Source: Frankle et al. 2020 (linear mode connectivity); Entezari et al. 2022, def. 2 (the barrier).
    Differs from: loss-landscapes 3.0.6, which never evaluates the first net.
    """
    require(grid.steps >= 2, f"interpolation: steps must be 2 or more, got {grid.steps!r}")
    margin = grid.margin or 0.0
    states = states_of("interpolation", (first, second))
    evaluator = PathEvaluator(first, data, replace(measurement, bn=measurement.bn or "interpolate"), states)
    start = evaluator.moving(states[0])
    direction = {name: states[1][name] - tensor for name, tensor in start.items()}
    alphas = np.linspace(-margin, 1 + margin, grid.steps)
    result = sweep(evaluator, start, direction, alphas, journal=journal, progress=progress)
    evaluator.mark_nets(result, states, labels, np.array([[0.0], [1.0]]))
    for name in evaluator.terms:
        result[name].attrs.update(zip(("barrier", "barrier_at"), barrier(alphas, result[name].values), strict=True))
    flat = [flatten(state, evaluator.evaluator.weights) for state in states]
    return evaluator.describe(result, "path", distance=float(np.linalg.norm(flat[1] - flat[0])))


def barrier(alphas: np.ndarray, losses: np.ndarray) -> tuple[float, float]:
    """The loss barrier between alpha = 0 and 1, never below 0, and the alpha where it stands.

    The losses at both ends are interpolated where they are no points of the line.

    >>> barrier(np.array([0.0, 0.5, 1.0]), np.array([1.0, 4.0, 2.0]))
    (2.5, 0.5)
    """
    ends = np.interp([0.0, 1.0], alphas, losses)
    inner = (alphas >= 0) & (alphas <= 1)
    above = losses[inner] - ((1 - alphas[inner]) * ends[0] + alphas[inner] * ends[1])
    if not above.size or np.isnan(above).all():
        return math.nan, math.nan
    at = int(np.nanargmax(above))
    return max(float(above[at]), 0.0), float(alphas[inner][at])


def plane(
    models: Sequence[nn.Module],
    data: Data,
    measurement: Measurement = Measurement(),
    grid: Grid = Grid(steps=25),
    *,
    labels: Sequence[str] = ("first", "second", "third"),
    journal: str | os.PathLike | None = None,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Losses on the plane through three nets, in orthonormal coordinates with the first at the origin.

    u = (w2 - w1) / |w2 - w1|,  v = (w3 - w1 - <w3 - w1, u> u) / |...|,  w(alpha, beta) = w1 + alpha u + beta v

    Args:
        models: three nets of one architecture, not on one line; left exactly as they are.
        data, measurement, labels, journal, progress: as `interpolation`.
        grid: steps along each axis; margin, how far the plane goes beyond the nets, as a share of their extent
            [default: 0.25].
    Returns:
        Dataset over alpha, beta (kind "plane"; coordinates in Euclidean distance of the weights, 0 on the grid) and
        mark (the labels): mark_alpha, mark_beta, mark_loss (the first loss of each net with its own statistics).
    Raises:
        KdvizError: not three nets, nets that differ in form, that are the same or on one line.
    Source: Garipov et al. 2018, fig. 1.
    """
    require(len(models) == 3, f"plane: three nets span a plane, got {len(models)}")
    states = states_of("plane", models)
    evaluator = PathEvaluator(models[0], data, replace(measurement, bn=measurement.bn or "interpolate"), states)
    flat = np.stack([flatten(state, evaluator.evaluator.weights) for state in states])
    places = triangle(flat)
    width, along, height = places[1, 0], places[2, 0], places[2, 1]
    start = evaluator.moving(states[0])
    u = {name: (states[1][name] - tensor) / width for name, tensor in start.items()}
    v = {name: (states[2][name] - tensor - along * u[name]) / height for name, tensor in start.items()}
    axes = [axis_around(places[:, i], grid) for i in (0, 1)]
    result = sweep(evaluator, start, (u, v), *axes, journal=journal, progress=progress)
    evaluator.mark_nets(result, states, labels, places)
    return evaluator.describe(result, "plane")


def triangle(points: np.ndarray) -> np.ndarray:
    """Three points [3, p] in orthonormal coordinates [3, 2] of their plane, the first at 0, the second on the axis.

    Raises:
        KdvizError: points on one line, or two of them the same.

    >>> triangle(np.array([[1.0, 1, 0], [3, 1, 0], [2, 5, 0]])).tolist()
    [[0.0, 0.0], [2.0, 0.0], [1.0, 4.0]]
    """
    first, second = points[1] - points[0], points[2] - points[0]
    width, reach = float(np.linalg.norm(first)), float(np.linalg.norm(second))
    require(width > 0 and reach > 0, "plane: two of the three nets have the same weights")
    along = float(first @ second) / width
    height = math.sqrt(max(reach**2 - along**2, 0.0))
    require(height > 1e-6 * reach, "plane: the three nets lie on one line; use interpolation")
    return np.array([[0.0, 0.0], [width, 0.0], [along, height]])


def axis_around(places: np.ndarray, grid: Grid) -> np.ndarray:
    """`grid.steps` even points over the places and a margin on both sides, moved by less than a step to hold 0."""
    steps, margin = grid.steps, 0.25 if grid.margin is None else grid.margin
    require(steps >= 3, f"landscape: steps must be 3 or more, got {steps!r}")
    low, high = float(places.min()), float(places.max())
    extent = high - low
    step = (extent * (1 + 2 * margin)) / max(steps - 2, 1)  # one step more than needed, for the move
    return step * (np.arange(steps) - math.ceil((margin * extent - low) / step - 1e-9))
