"""The bare engine: any objective on a line or plane of weight space, resumable."""

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from kdviz.analysis.landscape import journal as journals
from kdviz.base.check import require

Weights = Mapping[str, Tensor]
Values = Mapping[str, Any]
Objective = Callable[[dict[str, Tensor]], Any]
Axis = Sequence[float] | np.ndarray
Progress = Callable[[int, int], None]

MOST_STEPS = 10_001  # along an axis, each point a pass over the images


def axis(span: float, steps: int) -> np.ndarray:
    """`steps` equal steps over [-span, span]; exactly symmetric, and exactly 0 in the middle when `steps` is odd.

    >>> axis(1.0, 5).tolist()
    [-1.0, -0.5, 0.0, 0.5, 1.0]
    """
    require(
        isinstance(steps, int) and 0 < steps <= MOST_STEPS,
        f"landscape: steps must be a whole number, 1 to {MOST_STEPS}, got {steps!r}",
    )
    require(0 < span < math.inf, f"landscape: span must be a finite number above 0, got {span!r}")
    return span * (2 * np.arange(steps) - (steps - 1)) / max(steps - 1, 1)


def sweep(
    objective: Objective,
    weights: Weights,
    directions: Weights | Sequence[Weights],
    alphas: Axis,
    betas: Axis | None = None,
    *,
    journal: str | os.PathLike | None = None,
    schedule: Iterable[int] | None = None,
    progress: Progress | None = None,
) -> xr.Dataset:
    """An objective at every point w + alpha d + beta e of a plane (or w + alpha d of a line).

    Args:
        objective: called with name -> tensor; returns a scalar ("loss") or a dict of scalars by name. The tensors are
            overwritten after the call: copy what must last. Its `attrs` (a dict), where it has them, go into the
            result and, with the weights, directions and axes, into the journal's fingerprint. Its `variables` (name ->
            {"units", "long_name", "role", ...}), where it has them, say what its values mean; others are losses.
        weights: name -> tensor, the centre; never modified, and passed bit for bit at (0, 0).
        directions: a pair of dicts, or a single dict where `betas` is None; a name that is missing stays put.
        alphas, betas: coordinates along the first and the second direction, in units of their length.
        journal: a file of finished points; those it holds are not computed again. One that belongs to another sweep
            is begun anew.
        schedule: the points to do, as indexes alpha_index * len(betas) + beta_index, taken one by one
            [default: all that are not done, the centre first].
        progress: called with (points done, points in all).
    Returns:
        Dataset over alpha (and beta), one float64 variable per name, NaN where a point was not done; attrs
        `points_done` and those of the objective.
    Raises:
        KdvizError: weights or directions that are not finite or do not fit each other; a file that is no journal.
    Source: ours.

    >>> weights = {"x": torch.tensor([0.0, 0.0])}
    >>> east, north = {"x": torch.tensor([1.0, 0.0])}, {"x": torch.tensor([0.0, 1.0])}
    >>> bowl = sweep(lambda at: at["x"].square().sum(), weights, (east, north), [0, 1, 2], [0, 3])
    >>> bowl.loss.values.tolist()
    [[0.0, 9.0], [1.0, 10.0], [4.0, 13.0]]
    """
    axes = _axes(alphas, betas)
    many = _directions(weights, directions, len(axes))
    attrs = dict(getattr(objective, "attrs", {}))
    total = math.prod(map(len, axes))
    stream, points = nullcontext(), {}
    if journal is not None:
        chunk = getattr(objective, "chunk", None)
        mark = journals.fingerprint((weights, *many), axes, repr(sorted(attrs.items())))
        stream, points = journals.start(journal, {"fingerprint": mark, "points": total, "chunk": chunk})
        stream = closing(stream)
    with stream as out:
        if progress is not None:
            progress(len(points), total)
        for point in _todo(axes, points, schedule):
            points[point] = _scalars(objective(_place(weights, many, axes, point)))
            if out is not None:
                journals.append(out, point, points[point])
            if progress is not None:
                progress(len(points), total)
    return label_variables(assemble(points, *axes).assign_attrs(attrs), objective)


def label_variables(result: xr.Dataset, objective: Objective) -> xr.Dataset:
    """The dataset with unit, long name and role of every variable, as the objective declares them."""
    declared: Mapping[str, Mapping[str, Any]] = getattr(objective, "variables", {})
    for name, values in result.data_vars.items():
        unknown = {"units": "1", "long_name": str(name).replace("_", " "), "role": "loss"}
        values.attrs = dict(declared.get(str(name), unknown))
    return result


def assemble(points: Mapping[int, Values], alphas: np.ndarray, betas: np.ndarray | None = None) -> xr.Dataset:
    """The Dataset of finished points, index -> name -> value; NaN where there is none."""
    coords = {"alpha": np.asarray(alphas, dtype=np.float64)}
    if betas is not None:
        coords["beta"] = np.asarray(betas, dtype=np.float64)
    shape = tuple(map(len, coords.values()))
    names = list(dict.fromkeys(name for values in points.values() for name in values))
    grids = {name: np.full(math.prod(shape), np.nan) for name in names}
    for point, values in points.items():
        for name, value in values.items():
            grids[name][point] = value
    variables = {name: (tuple(coords), grid.reshape(shape)) for name, grid in grids.items()}
    kind = "landscape" if betas is not None else "profile"
    return xr.Dataset(variables, coords, {"kind": kind, "points_done": len(points)})


def centre_first(axes: Sequence[np.ndarray]) -> list[int]:
    """All point indexes, nearest to the origin first."""
    distance = sum(np.square(one) for one in np.meshgrid(*axes, indexing="ij"))
    return np.argsort(np.ravel(distance), kind="stable").tolist()


def _axes(alphas: Axis, betas: Axis | None) -> list[np.ndarray]:
    axes = [np.asarray(one, dtype=np.float64) for one in (alphas, betas) if one is not None]
    for name, one in zip(("alphas", "betas"), axes, strict=False):
        valid = one.ndim == 1 and one.size and np.isfinite(one).all()
        require(valid, f"sweep: {name} must be a list of finite numbers, got shape {one.shape}")
    return axes


def _directions(weights: Weights, directions: Weights | Sequence[Weights], wanted: int) -> list[Weights]:
    many = [directions] if isinstance(directions, Mapping) else list(directions)
    require(len(many) == wanted, f"sweep: {wanted} axes need {wanted} directions, got {len(many)}")
    for what, mapping in (("weights", weights), *((f"direction {i + 1}", one) for i, one in enumerate(many))):
        for name, tensor in mapping.items():
            require(name in weights, f"sweep: {what} has {name!r}, which the weights have not")
            fits = tensor.shape == weights[name].shape
            require(
                fits, f"sweep: {what} {name!r} is {tuple(tensor.shape)}, the weights are {tuple(weights[name].shape)}"
            )
            require(bool(torch.isfinite(tensor).all()), f"sweep: {what} {name!r} holds NaN or infinity; is it trained?")
    # A displacement by zeros is left out: most tensors of a filter-normalised direction are such.
    return [
        {name: tensor.detach().to(weights[name].device) for name, tensor in one.items() if tensor.any()} for one in many
    ]


def _todo(axes: list[np.ndarray], done: Mapping[int, Values], schedule: Iterable[int] | None) -> Iterator[int]:
    total = math.prod(map(len, axes))
    for point in centre_first(axes) if schedule is None else schedule:
        require(0 <= point < total, f"sweep: point {point} of the schedule is not one of the {total} points")
        if point not in done:
            yield int(point)


def _place(weights: Weights, many: Sequence[Weights], axes: Sequence[np.ndarray], point: int) -> dict[str, Tensor]:
    """The weights at a point, in tensors of their own."""
    at = np.unravel_index(point, [len(one) for one in axes])
    steps = [float(one[i]) for one, i in zip(axes, at, strict=True)]
    placed = {name: tensor.detach().clone() for name, tensor in weights.items()}
    for step, direction in zip(steps, many, strict=True):
        if step:  # at 0 the weights stay as they are, bit for bit
            for name, tensor in direction.items():
                placed[name].add_(tensor, alpha=step)
    return placed


def _scalars(result: Any) -> dict[str, float]:
    values = result if isinstance(result, Mapping) else {"loss": result}
    return {str(name): float(value) for name, value in values.items()}
