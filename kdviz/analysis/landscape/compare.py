"""Several nets in one table: convexity, flatness, minima and sharpness, with their spread over random planes."""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from torch import nn

from kdviz.analysis.landscape.build import remembered, survey
from kdviz.analysis.landscape.evaluate import Evaluator
from kdviz.analysis.landscape.geometry import summary
from kdviz.analysis.landscape.sharpness import hessian
from kdviz.analysis.landscape.sweep import Progress
from kdviz.base.check import require
from kdviz.base.files import versions
from kdviz.data import Data

# name -> (unit, what it is), in the order of the table.
MEASURES = {
    "centre": ("nats", "loss at the trained weights"),
    "convex_share": ("fraction", "convex share of the plane's inner points"),
    "flatness_radius": ("length of the direction", "radius within which the loss rises by at most epsilon"),
    "minima": ("1", "local minima"),
    "second_persistence": ("nats", "persistence of the second deepest minimum"),
    "curvature_high": ("nats", "largest curvature of the plane at the centre"),
}


def compare(
    nets: Mapping[str, nn.Module],
    data: Data,
    *,
    losses: Sequence[str] = ("ce",),
    teacher: nn.Module | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    span: float = 1.0,
    steps: int = 21,
    normalize: str = "filter",
    epsilon: float = 0.1,
    share: float = 0.01,
    samples: int | None = None,
    eigenvalues: int = 1,
    probes: int = 16,
    settings: Mapping[str, Any] | None = None,
    journal: str | os.PathLike | None = None,
    progress: Progress | None = None,
    **engine: Any,
) -> tuple[xr.Dataset, list[xr.Dataset]]:
    """Geometry of several nets on planes of the same random seeds, and the top of their Hessians' spectra.

    Args:
        nets: label -> net; left exactly as they are.
        losses, teacher, settings, samples: as `landscape`; every loss is measured on the same planes and images.
        seeds: of the planes, one each; the first also of the draw of images.
        span, steps, normalize: of each plane; an odd number of steps.
        epsilon, share: as `geometry.summary`.
        eigenvalues: how many of the Hessian's, to a hundredth; 0 leaves the Hessian out. probes: for its trace.
        journal: the start of the names of files that keep finished points.
        progress: called with (points done, points in all), a spectrum counting as much as a plane.
        engine: of `Evaluator` (precision, bn, chunk, fold).
    Returns:
        Dataset of kind "comparison" over net, loss and seed: the `MEASURES`; and over net and loss: top_eigenvalue
        (net, loss, rank), trace, trace_stderr. And the planes, in the order of nets, then seeds.
    Raises:
        KdvizError: no nets or seeds; as `landscape` and `hessian`.
    Source: ours; the numbers as in `geometry` and `sharpness`.
    """
    require(nets and len(seeds), "compare: name at least one net and one seed")
    used = data if samples is None else data.subset(samples, seed=seeds[0])
    given: dict[str, Any] = {"span": span, "steps": steps, "normalize": normalize}
    planes, spectra, done = [], [], 0
    for label, model in nets.items():
        files = [f"{os.fspath(journal)}.{len(planes) + i}" if journal else None for i in range(len(seeds))]
        chunk = remembered(files[0], engine.get("chunk", "auto"))
        evaluator = Evaluator(
            model,
            data,
            losses=losses,
            teacher=teacher,
            settings=settings,
            samples=samples,
            seed=seeds[0],
            **{**engine, "chunk": chunk},
        )
        terms = evaluator.terms if eigenvalues else {}
        total = len(nets) * (len(seeds) + len(terms)) * steps**2
        for seed, file in zip(seeds, files, strict=True):
            step = _after(progress, done, total)
            found = survey(evaluator, seed=seed, journal=file, progress=step, **given)
            planes.append(found.assign_attrs(label=label))
            done += steps**2
        spectra.append({})
        for name, of in terms.items():
            options = {"settings": of, "teacher": teacher, "eigenvalues": eigenvalues, "probes": probes}
            spectra[-1][name] = hessian(model, used, loss=name, tolerance=0.01, **options)[0]
            done += steps**2
            if progress is not None:
                progress(done, total)
    result = _table([summary(plane, epsilon=epsilon, share=share) for plane in planes], list(nets), list(seeds))
    if eigenvalues:
        result = result.merge(_joined(spectra, list(nets)))
    return _told(result, planes[0], epsilon=epsilon, share=share), planes


def _after(progress: Progress | None, before: int, total: int) -> Progress | None:
    return None if progress is None else lambda done, _: progress(before + done, total)


def _table(found: list[dict[str, dict[str, Any]]], nets: list[str], seeds: list[int]) -> xr.Dataset:
    """The measures over net, loss and seed, from a summary per plane."""
    losses = list(found[0])
    values = {
        measure: np.array([[float(one[loss][measure]) for loss in losses] for one in found], dtype=float)
        for measure in MEASURES
    }
    shape = len(nets), len(seeds), len(losses)
    return xr.Dataset(
        {name: (("net", "loss", "seed"), array.reshape(shape).transpose(0, 2, 1)) for name, array in values.items()},
        {"net": nets, "loss": losses, "seed": seeds},
    )


def _joined(spectra: list[dict[str, xr.Dataset]], nets: list[str]) -> xr.Dataset:
    """Every net's spectra of every loss as one Dataset over net, loss and rank."""
    first = next(iter(spectra[0].values()))
    found = xr.Dataset(coords={"net": nets, "loss": list(spectra[0]), "rank": first["rank"].values})
    values = [[one["eigenvalue"].values for one in row.values()] for row in spectra]
    found["top_eigenvalue"] = (("net", "loss", "rank"), values, {"units": "nats per squared unit of weight"})
    for name in ("trace", "trace_stderr"):
        if name in first:
            found[name] = (("net", "loss"), [[float(one[name]) for one in row.values()] for row in spectra])
    return found


def _told(result: xr.Dataset, plane: xr.Dataset, *, epsilon: float, share: float) -> xr.Dataset:
    for name, (unit, words) in MEASURES.items():
        result[name].attrs.update(units=unit, long_name=words)
    kept = (
        "data",
        "split",
        "data_sha256",
        "samples",
        "synthetic",
        "precision",
        "bn",
        "span",
        "steps",
        "normalize",
        "settings",
    )
    told = {name: plane.attrs[name] for name in kept if name in plane.attrs}
    caption = f"flat: a rise of up to {epsilon:g} nats; minima: persistence of {100 * share:g} % of the range or more"
    return result.assign_attrs(
        {
            **told,
            "kind": "comparison",
            "epsilon": epsilon,
            "share": share,
            "caption": caption,
            "versions": json.dumps(versions()),
        }
    )


def rows(comparison: xr.Dataset) -> list[list[str]]:
    """The comparison as text: a head, then a row per loss and net; mean ± standard deviation over the planes.

    The trace comes with its standard error; where all planes agree, or there is one, a number stands alone.
    """
    extra = [name for name in ("top_eigenvalue", "trace") if name in comparison]
    lines = [["loss", "net", *(name.replace("_", " ") for name in (*MEASURES, *extra))]]
    for loss in comparison["loss"].values:
        for net in comparison["net"].values:
            one = comparison.sel(loss=loss, net=net)
            cells = [_cell(one[name].values) for name in MEASURES]
            cells += [f"{float(one['top_eigenvalue'][0]):.3g}"] if "top_eigenvalue" in extra else []
            if "trace" in extra:
                cells.append(f"{float(one['trace']):.3g} ± {float(one['trace_stderr']):.2g}")
            lines.append([str(loss), str(net), *cells])
    return lines


def _cell(values: np.ndarray) -> str:
    if len(values) == 1 or not np.ptp(values):
        return f"{values[0]:.3g}"
    return f"{values.mean():.3g} ± {values.std(ddof=1):.2g}"
