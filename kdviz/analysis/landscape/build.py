"""From a net and images to its landscape, in one call."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from kdviz.analysis.landscape.directions import random_direction, random_pair
from kdviz.analysis.landscape.evaluate import Evaluator
from kdviz.analysis.landscape.journal import fingerprint, read
from kdviz.analysis.landscape.sweep import Progress, Weights, axis, sweep
from kdviz.base.check import one_of, require
from kdviz.data import Data

# Correlations and Gram matrices have no unit; every other loss is a logarithm of probabilities.
UNITS: dict[str, str] = {
    "accuracy": "fraction",
    "agreement": "fraction",
    "kendall_tau": "1",
    "rank_kendall": "1",
    "dist": "1",
    "class_gram": "1",
    "batch_gram": "1",
}
ALONG = {
    "filter": "filter-normalised directions",
    "layer": "layer-normalised directions",
    "none": "unnormalised directions",
    "hessian": "the top eigenvectors of the Hessian",
}
BN = {"frozen": "frozen", "recompute": "recomputed at each point", "interpolate": "interpolated with the weights"}


def landscape(
    model: Any,
    data: Data,
    *,
    losses: Sequence[str] = ("ce",),
    teacher: Any = None,
    span: float = 1.0,
    steps: int = 51,
    seed: int = 0,
    samples: int | None = None,
    normalize: str = "filter",
    precision: str = "fp32",
    bn: str = "frozen",
    one_d: bool = False,
    settings: Mapping[str, Any] | None = None,
    chunk: int | str = "auto",
    fold: bool = True,
    journal: str | os.PathLike | None = None,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Losses and accuracy of a net on a plane (or line) through its weights, in random normalised directions.

        L(alpha, beta) = mean over images of loss(net(w + alpha d + beta e)),  alpha, beta in [-span, span]

    Args:
        model: any net that returns logits, or a `Checkpoint`; left exactly as it was found.
        data: e.g. load_data("glyphs100").
        losses: names of losses, drawn from one pass over the images; also "kendall_tau" and "agreement".
        teacher: a net, a `Checkpoint`, or logits for the images of `data`, for the losses that compare with it.
        span: half the side of the plane, in units of the directions: at 1 every filter has moved by its own norm.
        steps: points along each axis; an odd number puts (0, 0) on the grid.
        seed: of the directions, and of the draw of samples.
        samples: how many images, stratified by label [default: all]; adds the 95 % half-widths.
        normalize: "filter" as Li et al. have it, "layer" or "none".
        precision: "fp32", or "bf16" with its error against fp32 at five points in attrs["precision_error"].
        bn: "frozen" keeps batch norm's statistics, "recompute" takes them at each point anew.
        one_d: the first direction alone; a line.
        settings: of the losses, {"kd.temperature": 2.0, ...}.
        chunk, fold: how the engine goes about it, see `Evaluator`.
        journal: a file that keeps finished points, so that a killed sweep goes on where it was.
        progress: called with (points done, points in all).
    Returns:
        Dataset over alpha, beta (kind "landscape") or alpha (kind "profile"): one variable per loss (attrs units:
        nats, or 1), "accuracy" (fraction), half-widths where `samples` is given; attrs caption.
    Raises:
        KdvizError: an unknown loss, a missing teacher, class counts that differ, weights that are not finite.
    Source: Li et al. 2018, "Visualizing the loss landscape of neural nets".
    Differs from: loss-landscapes 3.0.6, whose plane has sheared rows and no centre.
    """
    evaluator = Evaluator(
        model,
        data,
        losses=losses,
        teacher=teacher,
        precision=precision,
        bn=bn,
        samples=samples,
        seed=seed,
        settings=settings,
        chunk=remembered(journal, chunk),
        fold=fold,
    )
    return survey(
        evaluator,
        span=span,
        steps=steps,
        seed=seed,
        normalize=normalize,
        one_d=one_d,
        journal=journal,
        progress=progress,
    )


def survey(
    evaluator: Evaluator,
    *,
    span: float = 1.0,
    steps: int = 51,
    seed: int = 0,
    normalize: str = "filter",
    one_d: bool = False,
    directions: Sequence[Weights] | None = None,
    journal: str | os.PathLike | None = None,
    progress: Progress | None = None,
    engine: Callable[..., Any] = sweep,
) -> Any:
    """The landscape of an evaluator: what `landscape` does once net and images are ready.

    Args:
        evaluator: of the net and images.
        span, steps, seed, normalize, one_d, journal, progress: as `landscape`.
        directions: two (one for a line) instead of the random ones; `normalize` then says only what they are ("none";
            "hessian" for unit eigenvectors of the Hessian, with coordinates in distance of the weights).
        engine: `sweep`, or what takes the same arguments: `adaptive`, `distributed_sweep`.
    Returns:
        As `landscape`; None where the engine gives None (a rank that is not the first).
    Source: ours.
    """
    one_of("landscape", ALONG, normalize=normalize)
    axes = [axis(span, steps)] * (1 if one_d else 2)
    evaluator.attrs |= {"seed": seed, "normalize": normalize, "span": float(span), "steps": steps}
    many = (directions or random_pair(evaluator.weights, seed=seed, normalize=normalize))[: len(axes)]
    result = engine(evaluator, evaluator.weights, many, *axes, journal=journal, progress=progress)
    return None if result is None else describe(result, evaluator, many)


def profiles(
    evaluator: Evaluator,
    *,
    span: float = 1.0,
    steps: int = 51,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    normalize: str = "filter",
    journal: str | os.PathLike | None = None,
    progress: Progress | None = None,
    engine: Callable[..., Any] = sweep,
) -> Any:
    """The losses along several random lines through the weights, so that no picture hangs on one draw.

    Args:
        evaluator: of the net and images.
        span, steps, normalize: as in `landscape`.
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
    evaluator.attrs |= {"normalize": normalize, "span": float(span), "steps": steps}
    lines = []
    for i, seed in enumerate(seeds):
        direction = random_direction(evaluator.weights, seed=2 * seed, normalize=normalize)
        step = None if progress is None else lambda k, n, i=i: progress(i * n + k, n * len(seeds))
        file = None if journal is None else f"{os.fspath(journal)}.seed{seed}"
        line = engine(evaluator, evaluator.weights, direction, axis(span, steps), journal=file, progress=step)
        lines.append(None if line is None else describe(line, evaluator, direction))
    if lines[0] is None:
        return None
    joined = xr.concat(lines, "seed", combine_attrs="override").assign_coords(seed=list(seeds))
    worst = [one.attrs["precision_error"] for one in lines if "precision_error" in one.attrs]
    return joined.assign_attrs({"precision_error": max(worst)} if worst else {})


def describe(result: xr.Dataset, evaluator: Evaluator, directions: Sequence[Weights] | Weights) -> xr.Dataset:
    """A finished sweep of an evaluator with its units, the chunk and, in bfloat16, its error against fp32.

    Args:
        result: of `sweep(evaluator, evaluator.weights, directions, ...)`.
        directions: the same.
    Returns:
        The dataset; in bfloat16 attrs["precision_error"] is the largest relative difference of a loss from fp32 over
        the centre and the points halfway to the edges (alone: over those of them that are on the grid).
    Source: ours.
    """
    told = result.attrs
    for name in result.data_vars:
        result[name].attrs["units"] = UNITS.get(str(name).removesuffix("_halfwidth"), "nats")
    for i, name in enumerate(result.dims):
        unit = "distance in weight space" if told["normalize"] == "hessian" else "length of the direction"
        result[name].attrs = {"long_name": f"direction {i + 1}", "units": unit}
    told |= {"chunk": evaluator.chunk, "threads": evaluator.threads}
    told |= {"weights_sha256": fingerprint((evaluator.weights,), ())}
    along, seed = ALONG[told["normalize"]], f" (seed {told['seed']})" if "seed" in told else ""
    told["caption"] = caption(told, f"along {along}{seed}")
    if evaluator.attrs["precision"] == "bf16":
        axes = [result[name].values for name in result.dims]
        points = _spots([len(one) for one in axes])
        exact = sweep(evaluator.twin("fp32"), evaluator.weights, directions, *axes, schedule=points)
        names = [name for name in evaluator.terms if name in result]
        errors = [float((abs(result[name] - exact[name]) / abs(exact[name])).max()) for name in names]
        told |= {"precision_error": max(errors), "precision_points": len(points)}
    return result


def caption(told: Mapping[str, Any], where: str) -> str:
    """What a picture shows, on which line or plane, and what was chosen for it."""
    synthetic = ", synthetic" if told["synthetic"] else ""
    return (
        f"{told['losses']} over {told['samples']} of {told['population']} images of {told['data']} ({told['split']}"
        f"{synthetic}), {where}; batch norm {BN[told['bn']]}, {told['precision']}"
    )


def _spots(shape: Sequence[int]) -> list[int]:
    """The indexes of the centre and of the points halfway from it to each edge."""
    centre = [n // 2 for n in shape]
    places = [centre]
    for i, n in enumerate(shape):
        places += [[*centre[:i], at, *centre[i + 1 :]] for at in (n // 4, n - 1 - n // 4)]
    return sorted({int(np.ravel_multi_index(at, shape)) for at in places})


def remembered(journal: str | os.PathLike | None, chunk: int | str) -> int | str:
    """The chunk that a journal was begun with, so that a resumed sweep rounds as its first part did."""
    if journal is None or chunk != "auto":
        return chunk
    return read(journal)[0].get("chunk") or chunk
