"""Several nets in one table: convexity, flatness, minima and sharpness, with their spread over random planes."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from torch import nn

from kdviz.analysis.landscape.build import resumed, survey
from kdviz.analysis.landscape.evaluate import Evaluator
from kdviz.analysis.landscape.geometry import summary
from kdviz.analysis.landscape.metrics import attributes
from kdviz.analysis.landscape.options import Grid, Measurement
from kdviz.analysis.landscape.sharpness import hessian
from kdviz.analysis.landscape.sweep import Progress
from kdviz.base.check import require
from kdviz.base.files import versions
from kdviz.base.variables import belonging
from kdviz.data import Data

OF_LOSS = "unit of the loss"
# name -> (unit, what it is called, what it is), in the order of the table.
QUANTITIES = {
    "centre": (OF_LOSS, "loss", "loss at the trained weights"),
    "convex_share": ("fraction", "convex share", "convex share of the plane's inner points"),
    "flatness_radius": (
        "length of the direction",
        "flat radius",
        "radius within which the loss rises by epsilon or less",
    ),
    "minima": ("1", "minima", "local minima"),
    "second_persistence": (OF_LOSS, "second persistence", "persistence of the second deepest minimum"),
    "curvature_high": (OF_LOSS, "plane curvature", "largest curvature of the plane at the centre"),
}
HESSIAN = {
    "top_eigenvalue": ("top eigenvalue", "largest eigenvalues of the Hessian"),
    "trace": ("Hessian trace", "sum of all eigenvalues of the Hessian"),
    "trace_stderr": ("standard error of the trace", "of Hutchinson's estimator"),
}
KEPT = [
    "data",
    "split",
    "data_sha256",
    "data_variant",
    "data_warning",
    "samples",
    "synthetic",
    "precision",
    "bn",
    "span",
    "span_by",
    "steps",
    "normalize",
    "settings",
]


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Which numbers are taken of a plane and of a net.

    Attributes:
        epsilon: rise of the loss that still counts as flat, in its unit.
        share: minima below this share of the plane's range are noise.
        eigenvalues: how many of the Hessian's, to a hundredth; 0 leaves the Hessian out.
        probes: random vectors for the trace of the Hessian.
    """

    epsilon: float = 0.1
    share: float = 0.01
    eigenvalues: int = 1
    probes: int = 16


def compare(
    nets: Mapping[str, nn.Module],
    data: Data,
    measurement: Measurement = Measurement(),
    grid: Grid = Grid(steps=21),
    statistics: Statistics = Statistics(),
    *,
    planes: int = 3,
    journal: str | os.PathLike | None = None,
    progress: Progress | None = None,
) -> tuple[xr.Dataset, list[xr.Dataset]]:
    """Geometry of several nets on planes of the same random seeds, and the top of their Hessians' spectra.

    Args:
        nets: label -> net; left exactly as they are.
        data: the images.
        measurement: every loss is measured on the same planes and images.
        grid: of each plane, an odd number of steps; its seed is that of the first plane, the others' seeds follow.
        statistics: which numbers are taken.
        planes: of each net.
        journal: the start of the names of files that keep finished points.
        progress: called with (points done, points in all), a spectrum counting as much as a plane.
    Returns:
        Dataset of kind "comparison" over net, loss and seed: the `QUANTITIES`; over net and loss: top_eigenvalue (net,
        loss, rank), trace, trace_stderr; over loss: loss_units and loss_long_name. And the planes, in the order of
        nets, then seeds.
    Raises:
        KdvizError: no nets or planes; as `landscape` and `hessian`.
    Source: ours; the numbers as in `geometry` and `sharpness`.
    """
    require(nets and planes > 0, f"compare: name at least one net and one plane, got {len(nets)} and {planes}")
    seeds, surveyed, spectra, done = [grid.seed + i for i in range(planes)], [], [], 0
    for label, model in nets.items():
        files = [f"{os.fspath(journal)}.{len(surveyed) + i}" if journal else None for i in range(planes)]
        evaluator = Evaluator(model, data, resumed(measurement, files[0]))
        terms = evaluator.terms if statistics.eigenvalues else {}
        total = len(nets) * (planes + len(terms)) * grid.steps**2
        for seed, file in zip(seeds, files, strict=True):
            step = _after(progress, done, total)
            found = survey(evaluator, replace(grid, seed=seed), journal=file, progress=step)
            surveyed.append(found.assign_attrs(label=label))
            done += grid.steps**2
        spectra.append({})
        for name, settings in terms.items():
            step = _after(progress, done, total, grid.steps**2)
            spectra[-1][name] = _spectrum(evaluator, name, settings, statistics, step)
            done += grid.steps**2
            if progress is not None:
                progress(done, total)
    numbers = [summary(plane, epsilon=statistics.epsilon, share=statistics.share) for plane in surveyed]
    result = _table(numbers, list(nets), seeds)
    if statistics.eigenvalues:
        result = result.merge(_hessians(spectra, list(nets)))
    return _described(result, surveyed[0], statistics), surveyed


def _after(progress: Progress | None, before: int, total: int, share: int | None = None) -> Progress | None:
    """The progress of a part that follows `before` of `total` points; with `share`, of one that counts as so many."""
    if progress is None:
        return None
    if share is None:
        return lambda done, _: progress(before + done, total)
    return lambda done, of: progress(before + share * done // (of + 1), total)


def _spectrum(
    evaluator: Evaluator, name: str, settings: Mapping[str, Any], statistics: Statistics, progress: Progress | None
) -> xr.Dataset:
    """The spectrum of a loss, over the images of the evaluator."""
    found, _ = hessian(
        evaluator.model,
        evaluator.data,
        loss=name,
        teacher=evaluator.teacher,
        settings=settings,
        eigenvalues=statistics.eigenvalues,
        probes=statistics.probes,
        tolerance=0.01,
        progress=progress,
    )
    return found


def _table(found: list[dict[str, dict[str, Any]]], nets: list[str], seeds: list[int]) -> xr.Dataset:
    """The quantities over net, loss and seed, from a summary per plane."""
    losses = list(found[0])
    values = {
        quantity: np.array([[float(one[loss][quantity]) for loss in losses] for one in found], dtype=float)
        for quantity in QUANTITIES
    }
    shape = len(nets), len(seeds), len(losses)
    return xr.Dataset(
        {name: (("net", "loss", "seed"), array.reshape(shape).transpose(0, 2, 1)) for name, array in values.items()},
        {"net": nets, "loss": losses, "seed": seeds},
    )


def _hessians(spectra: list[dict[str, xr.Dataset]], nets: list[str]) -> xr.Dataset:
    """Every net's spectra of every loss as one Dataset over net, loss and rank."""
    first = next(iter(spectra[0].values()))
    found = xr.Dataset(coords={"net": nets, "loss": list(spectra[0]), "rank": first["rank"].values})
    found["top_eigenvalue"] = (
        ("net", "loss", "rank"),
        [[one["eigenvalue"].values for one in row.values()] for row in spectra],
    )
    for name in ("trace", "trace_stderr"):
        if name in first:
            found[name] = (("net", "loss"), [[float(one[name]) for one in row.values()] for row in spectra])
    return found


def _described(result: xr.Dataset, plane: xr.Dataset, statistics: Statistics) -> xr.Dataset:
    """The table with what its numbers mean, each loss in its own unit, and what is needed to repeat it."""
    known = {str(loss): attributes(str(loss)) for loss in result["loss"].values}
    units = {one["units"] for one in known.values()}
    unit = units.pop() if len(units) == 1 else OF_LOSS
    result.coords["loss_units"] = ("loss", [one["units"] for one in known.values()])
    result.coords["loss_long_name"] = ("loss", [one["long_name"] for one in known.values()])
    for name, (of, long_name, description) in QUANTITIES.items():
        of = plane["alpha"].attrs["units"] if of == "length of the direction" else of
        attrs = {"units": unit if of == OF_LOSS else of, "long_name": long_name, "description": description}
        result[name].attrs = {"role": "metric", **attrs}
    for name, (long_name, description) in HESSIAN.items():
        if name in result:
            role = {"role": "error", "of": "trace"} if name == "trace_stderr" else {"role": "metric"}
            attrs = {"units": f"{unit} per squared unit of weight", "long_name": long_name, "description": description}
            result[name].attrs = {**role, **attrs}
    rise = f"{statistics.epsilon:g} {unit}" if unit not in ("1", OF_LOSS) else f"{statistics.epsilon:g}"
    share = f"{100 * statistics.share:g} % of the range"
    return result.assign_attrs(
        {name: plane.attrs[name] for name in KEPT if name in plane.attrs},
        kind="comparison",
        epsilon=statistics.epsilon,
        share=statistics.share,
        caption=f"flat: a rise of up to {rise}; minima: persistence of {share} or more",
        versions=json.dumps(versions()),
    )


def rows(comparison: xr.Dataset) -> list[list[str]]:
    """The comparison as text: a head, then a row per loss and net; mean ± standard deviation over the planes.

    The trace comes with its standard error; where all planes agree, or there is one, a number has no spread.
    """
    shown = [name for name, values in comparison.data_vars.items() if values.attrs.get("role") == "metric"]
    lines = [["loss", "net", *(str(name).replace("_", " ") for name in shown)]]
    for loss in comparison["loss"].values:
        for net in comparison["net"].values:
            one = comparison.sel(loss=loss, net=net)
            lines.append([str(loss), str(net), *(_cell(one, str(name)) for name in shown)])
    return lines


def _cell(row: xr.Dataset, name: str) -> str:
    values = np.ravel(row[name].values)
    if "seed" in row[name].dims and len(values) > 1 and np.ptp(values):
        return f"{values.mean():.3g} ± {values.std(ddof=1):.2g}"
    error = belonging(row, name, "error")
    return f"{values[0]:.3g} ± {float(row[error]):.2g}" if error else f"{values[0]:.3g}"
