"""Landscapes between nets of one architecture: the line of two, the plane of three, the plane of a run's epochs."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from kdviz.analysis.landscape.build import UNITS, caption
from kdviz.analysis.landscape.evaluate import Evaluator
from kdviz.analysis.landscape.sweep import sweep
from kdviz.base.check import one_of, require
from kdviz.data import Data

Progress = Callable[[int, int], None]
State = dict[str, Tensor]
WHERE = {
    "path": "on the line between the nets",
    "plane": "on the plane through the nets",
    "trajectory": "on the plane of the run's two principal components",
}
POLICIES = ("interpolate", "recompute", "frozen")


def state_of(model: nn.Module) -> State:
    """A net's weights and batch norm statistics: every floating parameter and buffer, in memory of its own."""
    named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: tensor.detach().clone() for name, tensor in named.items() if tensor.is_floating_point()}


class Carried:
    """An evaluator whose batch norm statistics may travel with the weights: state -> {loss: value, ...}.

    bn="interpolate": statistics are part of the state and move linearly with it, so that every checkpoint on the line
    or plane has exactly its own loss. Outside of the checkpoints a line through variances falls towards zero and below,
    and the loss would explode: there a variance is held at the smallest that any of the checkpoints has.
    bn="recompute": at each point anew from the images. bn="frozen": those of the evaluator's net everywhere.
    """

    def __init__(self, evaluator: Evaluator, bn: str, states: Sequence[State]) -> None:
        self.evaluator, self.bn = evaluator, bn
        self.attrs = {**evaluator.attrs, "bn": bn}
        self.parameters = set(evaluator.weights)
        self.buffers = {n: b for n, b in evaluator.network.plain.named_buffers() if b.is_floating_point()}
        self.first = {name: buffer.clone() for name, buffer in self.buffers.items()}
        self.least = {
            name: torch.stack([state[name] for state in states]).amin(0).to(buffer)
            for name, buffer in self.buffers.items()
            if name.endswith("running_var")
        }

    def of(self, state: State) -> State:
        """The part of a state that moves under this policy."""
        return state if self.bn == "interpolate" else {n: t for n, t in state.items() if n in self.parameters}

    def __call__(self, at: Mapping[str, Tensor]) -> dict[str, float]:
        self._settle(at if self.bn == "interpolate" else self.first)
        return self.evaluator({name: tensor for name, tensor in at.items() if name in self.parameters})

    def own(self, state: State) -> dict[str, float]:
        """The values of a net with its own trained statistics, whatever the policy."""
        self._settle(state)
        policy, self.evaluator.bn = self.evaluator.bn, "frozen"
        try:
            return self.evaluator({name: tensor for name, tensor in state.items() if name in self.parameters})
        finally:
            self.evaluator.bn = policy

    @torch.no_grad()
    def _settle(self, at: Mapping[str, Tensor]) -> None:
        for name, buffer in self.buffers.items():
            buffer.copy_(at[name])
            if name in self.least:
                buffer.clamp_(min=self.least[name])


def interpolation(
    first: nn.Module,
    second: nn.Module,
    data: Data,
    *,
    labels: Sequence[str] = ("first", "second"),
    steps: int = 25,
    margin: float = 0.0,
    bn: str = "interpolate",
    journal: Any = None,
    progress: Progress | None = None,
    **engine: Any,
) -> xr.Dataset:
    """Losses on the straight line between two nets, w(alpha) = (1 - alpha) first + alpha second, and their barrier.

    barrier = max over alpha in [0, 1] of  L(alpha) - ((1 - alpha) L(0) + alpha L(1)),  never below 0

    Args:
        first, second: nets of one architecture; left exactly as they are.
        labels: their names in figures.
        steps: points on [-margin, 1 + margin], both ends of [0, 1] among them where margin is 0.
        margin: how far to go on beyond the two nets, in units of their distance.
        bn: statistics of batch norm: "interpolate", "recompute" at each point, or "frozen" (those of `first`).
        engine: of `Evaluator` (losses, teacher, samples, precision, ...).
    Returns:
        Dataset over alpha, kind "path": a variable per loss (nats) with attrs barrier and barrier_at, accuracy; dim
        mark (the labels): mark_alpha and mark_loss, the first loss of each net with its own statistics; attrs distance
        (Euclidean, between the weights).
    Raises:
        KdvizError: nets that differ in form, fewer than two steps.
    Source: Frankle et al. 2020 (linear mode connectivity); Entezari et al. 2022, def. 2 (the barrier).
    Differs from: loss-landscapes 3.0.6, which never evaluates the first net.
    """
    require(isinstance(steps, int) and steps >= 2, f"interpolation: steps must be 2 or more, got {steps!r}")
    require(0 <= margin < math.inf, f"interpolation: margin must be 0 or more, got {margin!r}")
    states = _states("interpolation", (first, second))
    carried = _carried(first, data, bn, engine, states)
    direction = {name: states[1][name] - tensor for name, tensor in carried.of(states[0]).items()}
    alphas = np.linspace(-margin, 1 + margin, steps)
    result = sweep(carried, carried.of(states[0]), direction, alphas, journal=journal, progress=progress)
    _mark(result, carried, states, labels, np.array([[0.0], [1.0]]))
    for name in _terms(carried, result):
        result[name].attrs.update(zip(("barrier", "barrier_at"), barrier(alphas, result[name].values), strict=True))
    distance = float(np.linalg.norm(_flat(states[1], carried) - _flat(states[0], carried)))
    return _told(result, "path", carried, distance=distance)


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
    *,
    labels: Sequence[str] = ("first", "second", "third"),
    steps: int = 25,
    margin: float = 0.25,
    bn: str = "interpolate",
    journal: Any = None,
    progress: Progress | None = None,
    **engine: Any,
) -> xr.Dataset:
    """Losses on the plane through three nets, in orthonormal coordinates with the first at the origin.

    u = (w2 - w1) / |w2 - w1|,  v = (w3 - w1 - <w3 - w1, u> u) / |...|,  w(alpha, beta) = w1 + alpha u + beta v

    Args:
        models: three nets of one architecture, not on one line; left exactly as they are.
        labels, bn, engine: as `interpolation`.
        steps: points along each axis.
        margin: how far the plane goes beyond the nets, as a share of their extent.
    Returns:
        Dataset over alpha, beta (kind "plane"; coordinates in Euclidean distance of the weights, 0 on the grid) and
        mark (the labels): mark_alpha, mark_beta, mark_loss (the first loss of each net with its own statistics).
    Raises:
        KdvizError: not three nets, nets that differ in form, that are the same or on one line.
    Source: Garipov et al. 2018, fig. 1.
    """
    require(len(models) == 3, f"plane: three nets span a plane, got {len(models)}")
    states = _states("plane", models)
    carried = _carried(models[0], data, bn, engine, states)
    flat = np.stack([_flat(state, carried) for state in states])
    first, second = flat[1] - flat[0], flat[2] - flat[0]
    width, reach = float(np.linalg.norm(first)), float(np.linalg.norm(second))
    require(width > 0 and reach > 0, "plane: two of the three nets have the same weights")
    along = float(first @ second) / width
    height = math.sqrt(max(reach**2 - along**2, 0.0))
    require(height > 1e-6 * reach, "plane: the three nets lie on one line; use interpolation")
    start = carried.of(states[0])
    u = {name: (states[1][name] - tensor) / width for name, tensor in start.items()}
    v = {name: (states[2][name] - tensor - along * u[name]) / height for name, tensor in start.items()}
    places = np.array([[0.0, 0.0], [width, 0.0], [along, height]])
    axes = [_around(places[:, i], steps, margin) for i in (0, 1)]
    result = sweep(carried, start, (u, v), *axes, journal=journal, progress=progress)
    _mark(result, carried, states, labels, places)
    return _told(result, "plane", carried)


def trajectory(
    models: Sequence[nn.Module],
    data: Data,
    *,
    epochs: Sequence[int] | None = None,
    steps: int = 25,
    margin: float = 0.25,
    bn: str = "recompute",
    journal: Any = None,
    progress: Progress | None = None,
    **engine: Any,
) -> xr.Dataset:
    """A run's way through weight space on the plane of its two principal components, through the last net.

    The components are those of the centred weights of all nets (as Li et al. have it); each net is drawn where it
    projects to, and its true loss stands beside the loss at that place of the plane.

    Args:
        models: the run's nets in order, three or more, the last one at the origin; left exactly as they are.
        epochs: of the nets, for the figure [default: 0, 1, 2, ...].
        steps, margin: as `plane`.
        bn: "recompute" at each point, or "frozen" (statistics of the last net). They cannot be interpolated here.
        engine: as `interpolation`.
    Returns:
        Dataset over alpha, beta (kind "trajectory"; coordinates in Euclidean distance of the weights) and checkpoint:
        trajectory_alpha, trajectory_beta, trajectory_epoch, trajectory_loss (the first loss, true: off the plane and
        with the net's own statistics), trajectory_projected (the same loss on the plane), trajectory_off_plane
        (distance from it); attrs explained_variance (fractions, two).
    Raises:
        KdvizError: fewer than three nets, nets that differ in form, weights that move along one line only.
    Source: Li et al. 2018, sec. 7.
    """
    one_of("trajectory", POLICIES[1:], bn=bn)
    require(len(models) >= 3, f"trajectory: three saved epochs or more make a plane, got {len(models)}")
    epochs = list(range(len(models))) if epochs is None else list(epochs)
    require(len(epochs) == len(models), f"trajectory: {len(models)} nets but {len(epochs)} epochs")
    states = _states("trajectory", models)
    carried = _carried(models[-1], data, bn, engine, states)
    flat = np.stack([_flat(state, carried) for state in states])
    components, explained = principal(flat)
    moved = flat - flat[-1]
    places = moved @ components.T
    start = carried.of(states[-1])
    directions = [_shaped(one, start) for one in components]
    axes = [_around(places[:, i], steps, margin) for i in (0, 1)]
    result = sweep(carried, start, directions, *axes, journal=journal, progress=progress)
    loss = _terms(carried, result)[0]
    shadows = [
        {n: t + float(a) * directions[0][n] + float(b) * directions[1][n] for n, t in start.items()} for a, b in places
    ]
    columns = {
        "alpha": places[:, 0],
        "beta": places[:, 1],
        "epoch": np.array(epochs),
        "loss": np.array([carried.own(state)[loss] for state in states]),
        "projected": np.array([carried(shadow)[loss] for shadow in shadows]),
        "off_plane": np.linalg.norm(moved - places @ components, axis=1),
    }
    for name, values in columns.items():
        result[f"trajectory_{name}"] = ("checkpoint", values)
    return _told(result, "trajectory", carried, explained_variance=explained.tolist())


def principal(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two leading principal components [2, p] (orthonormal rows) of points [n, p] and their shares of variance.

    By the n x n Gram matrix of the centred points; each component points the way that the last point lies from the
    first, so that the sign is the same everywhere.

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


def _carried(model: nn.Module, data: Data, bn: str, engine: Mapping[str, Any], states: Sequence[State]) -> Carried:
    one_of("landscape", POLICIES, bn=bn)
    return Carried(Evaluator(model, data, bn="recompute" if bn == "recompute" else "frozen", **engine), bn, states)


def _states(who: str, models: Sequence[nn.Module]) -> list[State]:
    states = [state_of(model) for model in models]
    first = {name: tuple(tensor.shape) for name, tensor in states[0].items()}
    for i, state in enumerate(states[1:], 2):
        other = {name: tuple(tensor.shape) for name, tensor in state.items()}
        odd = [name for name in {**first, **other} if first.get(name) != other.get(name)]
        require(
            not odd,
            f"{who}: nets 1 and {i} are of different forms ({odd and odd[0]} is {odd and first.get(odd[0])} and"
            f" {odd and other.get(odd[0])}); only checkpoints of one architecture can be joined",
        )
    return states


def _flat(state: State, carried: Carried) -> np.ndarray:
    """The parameters, without buffers, as one float64 vector."""
    return np.concatenate([state[n].double().cpu().numpy().ravel() for n in carried.evaluator.weights])


def _shaped(vector: np.ndarray, like: State) -> State:
    pieces = np.split(vector, np.cumsum([tensor.numel() for tensor in like.values()])[:-1])
    return {n: torch.from_numpy(p.copy()).to(t).view_as(t) for (n, t), p in zip(like.items(), pieces, strict=True)}


def _around(places: np.ndarray, steps: int, margin: float) -> np.ndarray:
    """`steps` even points over the places and a margin on both sides, moved by less than a step to hold 0."""
    require(isinstance(steps, int) and steps >= 3, f"landscape: steps must be 3 or more, got {steps!r}")
    require(0 <= margin < math.inf, f"landscape: margin must be 0 or more, got {margin!r}")
    low, high = float(places.min()), float(places.max())
    extent = high - low
    step = (extent * (1 + 2 * margin)) / max(steps - 2, 1)  # one step more than needed, for the move
    return step * (np.arange(steps) - math.ceil((margin * extent - low) / step - 1e-9))


def _terms(carried: Carried, result: xr.Dataset) -> list[str]:
    return [name for name in carried.evaluator.terms if name in result]


def _mark(result: xr.Dataset, carried: Carried, states: list[State], labels: Sequence[str], places: np.ndarray) -> None:
    require(len(labels) == len(states), f"landscape: {len(states)} nets but {len(labels)} labels")
    own = [carried.own(state) for state in states]
    result.coords["mark"] = [str(label) for label in labels]
    for i, name in enumerate(("alpha", "beta")[: places.shape[1]]):
        result[f"mark_{name}"] = ("mark", places[:, i])
    terms = _terms(carried, result)
    if terms:
        result["mark_loss"] = ("mark", np.array([values[terms[0]] for values in own]))
    result["mark_accuracy"] = ("mark", np.array([values["accuracy"] for values in own]))


def _told(result: xr.Dataset, kind: str, carried: Carried, **attrs: Any) -> xr.Dataset:
    """Units, the kind, and the caption's open choice: what happens to batch norm."""
    for name in (*_terms(carried, result), "mark_loss", "trajectory_loss", "trajectory_projected"):
        if name in result:
            first = name.startswith(("mark", "trajectory"))
            result[name].attrs["units"] = UNITS.get(_terms(carried, result)[0] if first else name, "nats")
    result["accuracy"].attrs["units"] = "fraction"
    unit = "share of the way" if kind == "path" else "distance in weight space"
    for i, name in enumerate(one for one in ("alpha", "beta") if one in result.dims):
        result[name].attrs.update(long_name="interpolation" if kind == "path" else f"direction {i + 1}", units=unit)
    result.attrs.update(kind=kind, caption=caption(result.attrs, WHERE[kind]), **attrs)
    return result
