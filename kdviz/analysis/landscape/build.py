"""From a net and images to its landscape, in one call."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypedDict, Unpack

import numpy as np
import xarray as xr

from kdviz.analysis.landscape.describe import AnyEvaluator, describe
from kdviz.analysis.landscape.detector import DetectorLosses
from kdviz.analysis.landscape.directions import random_direction, random_pair
from kdviz.analysis.landscape.evaluate import Evaluator
from kdviz.analysis.landscape.journal import recorded_chunk
from kdviz.analysis.landscape.options import Grid, Measurement, known_only, pick
from kdviz.analysis.landscape.sharpness import hessian
from kdviz.analysis.landscape.span import length, reach_of_loss
from kdviz.analysis.landscape.sweep import Progress, Weights, axis, sweep
from kdviz.base.check import KdvizError, require
from kdviz.data import BoxData, Data


class LandscapeOptions(TypedDict, total=False):
    """The rarer keywords of `landscape`."""

    normalize: str
    span_by: str
    precision: str
    bn: str
    one_d: bool
    settings: Mapping[str, Any]
    chunk: int | str
    fold: bool
    journal: str | os.PathLike | None
    progress: Progress | None


def landscape(
    model: Any,
    data: Data | BoxData,
    *,
    losses: Sequence[str] = ("ce",),
    teacher: Any = None,
    span: float = 1.0,
    steps: int = 51,
    seed: int = 0,
    samples: int | None = None,
    **options: Unpack[LandscapeOptions],
) -> xr.Dataset:
    """Losses and accuracy of a net on a plane (or line) through its weights, in random normalised directions.

        L(alpha, beta) = mean over images of loss(net(w + alpha d + beta e)),  alpha, beta in [-span, span]

    Args:
        model: any net that returns logits, a detector, or a `Checkpoint`; left exactly as it was found.
        data: e.g. load_data("glyphs100"); of a detector, load_boxes("glyphboxes").
        losses: names of losses, drawn from one pass over the images; also "kendall_tau" and "agreement". Of a detector,
            "detector" (the sum of its losses) or the parts: "loss_classifier", ...
        teacher: a net, a `Checkpoint`, or logits for the images of `data`, for the losses that compare with it.
        span: half the side of the plane, in units of the directions: at 1 every filter has moved by its own norm.
        steps: points along each axis; an odd number puts (0, 0) on the grid.
        seed: of the directions, and of the draw of samples.
        samples: how many images, stratified by label [default: all]; adds the 95 % half-widths.
        normalize: "filter" as Li et al. have it, "layer" or "none".
        span_by: "direction", "distance" or "loss"; see `Grid`.
        precision: "fp32", or "bf16" with its error against fp32 at five points in attrs["precision_error"].
        bn: "frozen" keeps batch norm's statistics, "recompute" takes them at each point anew.
        one_d: the first direction alone; a line.
        settings: of the losses, {"kd.temperature": 2.0, ...}.
        chunk, fold: see `Measurement`.
        journal: a file that keeps finished points, so that a killed sweep goes on where it was.
        progress: called with (points done, points in all).
    Returns:
        Dataset over alpha, beta (kind "landscape") or alpha (kind "profile"): one variable per loss and metric,
        "accuracy", half-widths where `samples` is given, each with units, long_name and role (`base.variables`);
        attrs caption.
    Raises:
        KdvizError: an unknown keyword or loss, a missing teacher, class counts that differ, weights not finite.
    Source: Li et al. 2018, "Visualizing the loss landscape of neural nets".
    Differs from: loss-landscapes 3.0.6, whose plane has sheared rows and no centre.
    """
    given = {"losses": losses, "teacher": teacher, "span": span, "steps": steps, "seed": seed, "samples": samples}
    known_only("landscape", options, (*given, *LandscapeOptions.__annotations__))
    measurement, grid = pick(Measurement, {**given, **options}), pick(Grid, {**given, **options})
    journal, progress = options.get("journal"), options.get("progress")
    evaluator = evaluator_of(model, data, resumed(measurement, journal))
    return survey(evaluator, grid, journal=journal, progress=progress)


def evaluator_of(model: Any, data: Data | BoxData, measurement: Measurement) -> AnyEvaluator:
    """What measures a net at any weights: of data with boxes a `DetectorLosses`, else an `Evaluator`."""
    return (DetectorLosses if isinstance(data, BoxData) else Evaluator)(model, data, measurement)  # pyright: ignore


def survey(
    evaluator: AnyEvaluator,
    grid: Grid = Grid(),
    *,
    journal: str | os.PathLike | None = None,
    progress: Progress | None = None,
    engine: Callable[..., Any] = sweep,
) -> Any:
    """The landscape of an evaluator: what `landscape` does once net and images are ready.

    Args:
        evaluator: of the net and images.
        grid: which points of which plane or line.
        journal, progress: as `landscape`.
        engine: `sweep`, or what takes the same arguments: `adaptive`, `distributed_sweep`; see `choose_engine`.
    Returns:
        As `landscape`; None where the engine gives None (a rank that is not the first).
    Source: ours.
    """
    grid, directions = _directions(evaluator, grid)
    chosen, points, extent = _spanned(evaluator, grid, directions[: 1 if grid.one_d else 2])
    axes = [points] * len(chosen)
    evaluator.attrs |= {"seed": grid.seed, **extent}
    result = engine(evaluator, evaluator.weights, chosen, *axes, journal=journal, progress=progress)
    return None if result is None else describe(result, evaluator, chosen)


def profiles(
    evaluator: AnyEvaluator,
    grid: Grid = Grid(),
    *,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    journal: str | os.PathLike | None = None,
    progress: Progress | None = None,
    engine: Callable[..., Any] = sweep,
) -> Any:
    """The losses along several random lines through the weights, so that no picture depends on one draw.

    Args:
        evaluator: of the net and images.
        grid: span, steps and normalisation of each line.
        seeds: one line each, the first direction of the landscape with that seed.
        journal: the start of the names of files that keep finished points, one per seed.
        progress: called with (points done, points in all).
        engine: as `survey`.
    Returns:
        Dataset over seed and alpha, kind "profile"; None where the engine gives None.
    Raises:
        KdvizError: no seeds, or the same twice.
    Source: ours.
    """
    require(len(seeds) and len(set(seeds)) == len(seeds), f"landscape: seeds must be different, got {list(seeds)}")
    require(grid.directions == "random", "landscape: profiles are along random directions; got other ones")
    lines = []
    for i, seed in enumerate(seeds):
        direction = random_direction(evaluator.weights, seed=2 * seed, normalize=grid.normalize)
        step = None if progress is None else lambda k, n, i=i: progress(i * n + k, n * len(seeds))
        file = None if journal is None else f"{os.fspath(journal)}.seed{seed}"
        (direction,), points, extent = _spanned(evaluator, grid, [direction])
        evaluator.attrs |= {name: fact for name, fact in extent.items() if name not in ("reach", "distance")}
        line = engine(evaluator, evaluator.weights, direction, points, journal=file, progress=step)
        lines.append(None if line is None else describe(line, evaluator, direction))
    if lines[0] is None:
        return None
    whole = xr.concat(lines, "seed", combine_attrs="override").assign_coords(seed=list(seeds))
    worst = [one.attrs["precision_error"] for one in lines if "precision_error" in one.attrs]
    return whole.assign_attrs({"precision_error": max(worst)} if worst else {})


def resumed(measurement: Measurement, journal: str | os.PathLike | None) -> Measurement:
    """The measurement with the chunk that a journal was begun with, so that a resumed sweep rounds as before."""
    if journal is None or measurement.chunk != "auto":
        return measurement
    return replace(measurement, chunk=recorded_chunk(journal) or "auto")


def _spanned(
    evaluator: AnyEvaluator, grid: Grid, directions: Sequence[Weights]
) -> tuple[list[Weights], np.ndarray, dict[str, Any]]:
    """The directions in the unit of the grid's span, the points along each of them, and what is said of both."""
    facts: dict[str, Any] = {"normalize": grid.normalize, "span": float(grid.span), "steps": grid.steps}
    factors, ends = [1.0] * len(directions), grid.span
    if grid.span_by == "distance":
        factors = [1 / length(one) for one in directions]
    elif grid.span_by == "loss":
        name = next(iter(evaluator.terms))
        reach = reach_of_loss(lambda at: evaluator(at)[name], evaluator.weights, directions, rise=grid.span)
        factors, ends = [reach] * len(directions), 1.0
        facts["reach"] = reach
    if grid.span_by != "direction":
        facts["span_by"] = grid.span_by
        directions = [
            {name: factor * tensor for name, tensor in one.items()}
            for one, factor in zip(directions, factors, strict=True)
        ]
        facts["distance"] = [ends * length(one) for one in directions]
    return list(directions), axis(ends, grid.steps), facts


def _directions(evaluator: AnyEvaluator, grid: Grid) -> tuple[Grid, Sequence[Weights]]:
    """The directions that a grid names, and the grid with what that makes of its span and normalisation."""
    if grid.directions == "random":
        return grid, random_pair(evaluator.weights, seed=grid.seed, normalize=grid.normalize)
    if grid.directions == "hessian":
        vectors, scale = _eigenvectors(evaluator, grid.seed)
        return replace(grid, directions=vectors, normalize="hessian", span=float(f"{grid.span * scale:.2g}")), vectors
    return grid, list(grid.directions)  # pyright: ignore[reportReturnType]


def _eigenvectors(evaluator: AnyEvaluator, seed: int) -> tuple[Sequence[Weights], float]:
    """The two top eigenvectors of the first loss's Hessian, of length 1, and the distance along the first at which the
    quadratic of its eigenvalue has risen by 1."""
    if isinstance(evaluator, DetectorLosses):
        raise KdvizError("landscape: the Hessian of a detector is not computed; choose directions 'random'")
    name, settings = next(iter(evaluator.terms.items()))
    found, vectors = hessian(
        evaluator.model,
        evaluator.data,
        loss=name,
        teacher=evaluator.teacher,
        settings=settings,
        eigenvalues=2,
        probes=0,
        seed=seed,
    )
    top = float(found["eigenvalue"][0])
    require(top > 0, "landscape: the loss curves upward in no direction; choose directions 'random'")
    return vectors[:2], (2 / top) ** 0.5
