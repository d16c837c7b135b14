"""A training run on the plane of its principal components."""

import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import xarray as xr
from torch import nn

from kdviz.analysis.landscape.options import Grid, Measurement
from kdviz.analysis.landscape.path_evaluator import POLICIES, PathEvaluator
from kdviz.analysis.landscape.paths import axis_around
from kdviz.analysis.landscape.states import State, flatten, states_of, unflatten
from kdviz.analysis.landscape.sweep import Progress, sweep
from kdviz.base.check import one_of, require
from kdviz.data import Data


def trajectory(
    models: Sequence[nn.Module],
    data: Data,
    measurement: Measurement = Measurement(),
    grid: Grid = Grid(steps=25),
    *,
    epochs: Sequence[int] | None = None,
    journal: str | os.PathLike | None = None,
    progress: Progress | None = None,
) -> xr.Dataset:
    """A run's path through weight space on the plane of its two principal components, through the last net.

    The components are those of the centred weights of all nets (as Li et al. have it); each net is drawn where it
    projects to, and its true loss stands beside the loss at that place of the plane.

    Args:
        models: the run's nets in order, three or more, the last one at the origin; left exactly as they are.
        data: the images.
        measurement: bn is "recompute" [default] at each point, or "frozen" (statistics of the last net); they cannot be
            interpolated here.
        grid: steps and margin, as `plane`.
        epochs: of the nets, for the figure [default: 0, 1, 2, ...].
        journal, progress: as `landscape`.
    Returns:
        Dataset over alpha, beta (kind "trajectory"; coordinates in Euclidean distance of the weights) and checkpoint:
        trajectory_alpha, trajectory_beta, trajectory_epoch, trajectory_loss (the first loss, true: off the plane and
        with the net's own statistics), trajectory_projected (the same loss on the plane), trajectory_off_plane
        (distance from it); attrs explained_variance (fractions, two).
    Raises:
        KdvizError: fewer than three nets, nets that differ in form, weights that move along one line only.
    Source: Li et al. 2018, sec. 7.
    """
    measurement = replace(measurement, bn=measurement.bn or "recompute")
    one_of("trajectory", POLICIES[1:], bn=measurement.bn)
    require(len(models) >= 3, f"trajectory: three saved epochs or more make a plane, got {len(models)}")
    numbered = list(range(len(models))) if epochs is None else list(epochs)
    require(len(numbered) == len(models), f"trajectory: {len(models)} nets but {len(numbered)} epochs")
    states = states_of("trajectory", models)
    evaluator = PathEvaluator(models[-1], data, measurement, states)
    flat = np.stack([flatten(state, evaluator.evaluator.weights) for state in states])
    components, explained = principal(flat)
    moved = flat - flat[-1]
    places, start = moved @ components.T, evaluator.moving(states[-1])
    directions = [unflatten(one, start) for one in components]
    axes = [axis_around(places[:, i], grid) for i in (0, 1)]
    result = sweep(evaluator, start, directions, *axes, journal=journal, progress=progress)
    off_plane = np.linalg.norm(moved - places @ components, axis=1)
    result = result.assign(_columns(evaluator, states, directions, places, off_plane))
    result["trajectory_epoch"] = ("checkpoint", np.array(numbered), evaluator.mark("epoch"))
    return evaluator.describe(result, "trajectory", explained_variance=explained.tolist())


def _columns(
    evaluator: PathEvaluator, states: list[State], directions: list[State], places: np.ndarray, off_plane: np.ndarray
) -> dict[str, tuple]:
    """The run's variables over checkpoint: places on the plane, true and projected losses."""
    loss, start = next(iter(evaluator.terms)), evaluator.moving(states[-1])
    projections = [
        {n: t + float(a) * directions[0][n] + float(b) * directions[1][n] for n, t in start.items()} for a, b in places
    ]
    name, length = evaluator.variables[loss]["long_name"], {"units": "distance in weight space"}
    true = np.array([evaluator.trained(state)[loss] for state in states])
    projected = np.array([evaluator(one)[loss] for one in projections])
    columns = {
        "alpha": (places[:, 0], evaluator.mark("place along the first component", **length)),
        "beta": (places[:, 1], evaluator.mark("place along the second component", **length)),
        "loss": (true, evaluator.mark(f"{name} of the net", loss)),
        "projected": (projected, evaluator.mark(f"{name} on the plane", loss)),
        "off_plane": (off_plane, evaluator.mark("distance from the plane", **length)),
    }
    return {f"trajectory_{key}": ("checkpoint", values, attrs) for key, (values, attrs) in columns.items()}


def principal(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two leading principal components [2, p] (orthonormal rows) of points [n, p] and their shares of variance.

    By the n x n Gram matrix of the centred points; each component points from the first towards the last point, so
    that the sign is the same everywhere.

    Raises:
        KdvizError: points on one line, or all the same.
    """
    centred = points - points.mean(axis=0)
    values, vectors = np.linalg.eigh(centred @ centred.T)
    values, vectors = values[::-1][:2], vectors[:, ::-1][:, :2]
    spread = values[1] > 1e-10 * values[0] > 0
    require(spread, "trajectory: the weights move along one line or not at all; use interpolation")
    components = (vectors / np.sqrt(values)).T @ centred
    signs = np.where(components @ (points[-1] - points[0]) < 0, -1.0, 1.0)
    return components * signs[:, None], values / np.square(centred).sum()
