"""Topology of a measured landscape: minima, the saddles where their basins join, and how persistent each minimum is.

The sublevel set {loss <= t} of a grid falls into connected parts. A minimum is born at its own loss and dies at the
loss where its part joins that of a lower minimum; the difference is its persistence. Which part joins which, and where,
is the merge tree.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from kdviz.analysis.landscape.geometry import Minima, loss_names, minima
from kdviz.base.check import require, unknown
from kdviz.base.variables import belonging

ROUNDING = {"fp32": 2.0**-23, "bf16": 2.0**-8, "fp64": 2.0**-52}  # relative step between neighbouring numbers
OWN = "the uncertainty of the loss at the minimum plus that at the saddle"
KEPT = (
    "label", "title", "checkpoint", "checkpoint_sha256", "model", "method", "teacher_sha256", "data", "split",
    "data_sha256", "synthetic", "samples", "population", "seed", "span", "steps", "normalize", "precision", "bn",
    "versions",
)  # fmt: skip


def topology(
    dataset: xr.Dataset, *, loss: str | None = None, threshold: float | None = None, connectivity: str = "full"
) -> xr.Dataset:
    """Merge tree and 0-dimensional persistence of the sublevel sets of a loss on a line or plane, by union-find.

    Args:
        dataset: a landscape, plane, trajectory, profile or path: losses over alpha (and beta).
        loss: which loss [default: the first].
        threshold: the persistence, in the unit of the loss, from which a minimum counts; 0 counts all [default: for
            each minimum the `uncertainty` of the loss there plus that at its saddle, since a smaller persistence may
            be one of the drawn images and not of the net].
        connectivity: "full" (8 adjacent points of a plane, so that a diagonal valley is one basin) or "axes" (4); on a
            line both are 2.
    Returns:
        Dataset of kind "topology" over minimum (1, 2, ..., the most persistent first): birth, death, persistence and
        threshold (unit of the loss; death and persistence of the lowest minimum are infinite), parent (number of the
        lower minimum whose basin it joins; 0 of none), counted (1 where the persistence reaches the threshold), at_edge
        (1 at the border of the grid, where the loss may fall on beyond it), place_alpha, place_beta of the minimum and
        saddle_alpha, saddle_beta where the basins join; attrs minima (how many are counted), minima_at_edge (how many
        of them are at the border), threshold_source, highest (largest loss on the grid), loss_name.
    Raises:
        KdvizError: no loss over alpha (and beta), an ensemble of lines, an unknown loss or connectivity, a threshold
            that is negative or not finite.
    Source: Edelsbrunner & Harer 2010, "Computational Topology", ch. VII; the default threshold ours, after the
        stability theorem of Cohen-Steiner, Edelsbrunner & Harer 2007.

    >>> line = xr.DataArray([3.0, 0.0, 2.0, 1.0, 5.0], {"alpha": range(5)}, "alpha", attrs={"role": "loss"})
    >>> found = topology(line.to_dataset(name="ce"), threshold=0.5)
    >>> found.attrs["minima"], found["birth"].values.tolist(), found["death"].values.tolist()
    (2, [0.0, 1.0], [inf, 2.0])
    """
    name = _loss_of(dataset, loss)
    require(
        threshold is None or 0 <= threshold < np.inf,
        f"topology: threshold must be a number of 0 or more, got {threshold!r}",
    )
    values = dataset[name].transpose(*(dim for dim in ("alpha", "beta") if dim in dataset[name].dims))
    found = minima(values.to_numpy(), connectivity=connectivity)
    if threshold is None:
        spread = uncertainty(dataset, loss=name).transpose(*values.dims).to_numpy()
        limits = spread[tuple(found.index.T)] + spread[tuple(found.saddle.T)]
    else:
        limits = np.full(len(found.value), float(threshold))
    counted = found.persistence >= limits
    edge = ((found.index == 0) | (found.index == np.array(values.shape) - 1)).any(axis=1)
    facts = {
        "minima": int(counted.sum()),
        "minima_at_edge": int((counted & edge).sum()),
        "threshold_source": OWN if threshold is None else f"{threshold:g} {_unit(values)}".rstrip(),
        "highest": float(values.where(np.isfinite(values)).max()),
        "loss_name": name,
        "loss_long_name": str(values.attrs.get("long_name", name)),
        "connectivity": connectivity,
    }
    result = xr.Dataset(coords={"minimum": np.arange(1, len(found.value) + 1)})
    columns = _numbers(found, limits, str(values.attrs.get("units", "1"))) | _places(found, values)
    columns["counted"] = counted.astype(int), _mark("persistence reaches the threshold")
    columns["at_edge"] = edge.astype(int), _mark("at the border of the grid")
    for key, (column, attrs) in columns.items():
        result[key] = ("minimum", column, attrs)
    kept = {key: dataset.attrs[key] for key in KEPT if key in dataset.attrs}
    return result.assign_attrs(kept, **facts, kind="topology", caption=_caption(dataset, values, facts))


def uncertainty(dataset: xr.Dataset, *, loss: str | None = None) -> xr.DataArray:
    """How far the loss at each point of a landscape may lie from that over all images in exact arithmetic.

    The sum of the half-width of the 95 % interval over images (where a subset was measured), of the estimated error of
    a point that was interpolated, and of rounding (in bfloat16 the error that was measured against fp32).

    The interval holds for each point by itself. Neighbouring points see the same images, so that their difference is
    known better than either: as a threshold of persistence it is on the cautious side.

    Args:
        dataset, loss: as `topology`.
    Returns:
        DataArray over the dims of the loss, in its unit.
    Source: ours.
    """
    values = dataset[_loss_of(dataset, loss)]
    precision = str(dataset.attrs.get("precision", "fp32"))
    relative = float(dataset.attrs.get("precision_error", ROUNDING.get(precision, ROUNDING["fp32"])))
    total = relative * abs(values)
    for role in ("half-width", "error"):
        belongs = belonging(dataset, str(values.name), role)
        if belongs is not None:
            total = total + dataset[belongs].fillna(0.0)
    return total.assign_attrs(units=values.attrs.get("units", "1"), long_name="uncertainty of the loss")


def _loss_of(dataset: xr.Dataset, loss: str | None) -> str:
    kind = dataset.attrs.get("kind", "result")
    require("alpha" in dataset.dims, f"topology: a {kind} has no losses over alpha; give a landscape, path or plane")
    require("seed" not in dataset.dims, "topology: this is an ensemble of lines; choose one of them, or a plane")
    names = loss_names(dataset)
    require(names, f"topology: the {kind} has no variable of role 'loss' over its grid")
    if loss is not None and loss not in names:
        raise unknown("loss of the landscape", loss, names)
    return loss or names[0]


def _numbers(found: Minima, limits: np.ndarray, unit: str) -> dict[str, tuple[np.ndarray, dict[str, Any]]]:
    named = {
        "birth": (found.value, "loss of the minimum"),
        "death": (found.death, "loss where the basins join"),
        "persistence": (found.persistence, "persistence"),
        "threshold": (limits, "persistence from which it counts"),
    }
    meant = {"role": "metric", "units": unit}
    return {key: (column, {"long_name": long_name, **meant}) for key, (column, long_name) in named.items()}


def _places(found: Minima, values: xr.DataArray) -> dict[str, tuple[np.ndarray, dict[str, Any]]]:
    columns = {"parent": (found.parent + 1, _mark("minimum whose basin it joins"))}
    for i, dim in enumerate(map(str, values.dims)):
        axis, unit = values[dim].to_numpy().astype(float), str(values[dim].attrs.get("units", "1"))
        saddle = np.where(found.parent < 0, np.nan, axis[found.saddle[:, i]])
        columns[f"place_{dim}"] = axis[found.index[:, i]], _mark(f"{dim} of the minimum", unit)
        columns[f"saddle_{dim}"] = saddle, _mark(f"{dim} of the saddle", unit)
    return columns


def _mark(long_name: str, unit: str = "1") -> dict[str, Any]:
    return {"long_name": long_name, "role": "mark", "units": unit}


def _unit(values: xr.DataArray) -> str:
    unit = str(values.attrs.get("units", "1"))
    return "" if unit == "1" else unit


def _caption(dataset: xr.Dataset, values: xr.DataArray, facts: dict[str, Any]) -> str:
    """What the numbers are of, how minima are told apart, and what the landscape shows."""
    points: Sequence[str] = [str(size) for size in values.shape]
    adjacent = 2 if values.ndim == 1 else 8 if facts["connectivity"] == "full" else 4
    whole = (
        f"minima of {facts['loss_long_name']} on {' x '.join(points)} points ({adjacent} adjacent ones each) and their"
        f" persistence in sublevel sets; a minimum counts from a persistence of {facts['threshold_source']}"
    )
    return f"{whole}; {dataset.attrs['caption']}" if "caption" in dataset.attrs else whole
