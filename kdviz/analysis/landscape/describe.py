"""What a finished sweep shows: its axes, its caption and, in bfloat16, its error."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from kdviz.analysis.landscape.detector import DetectorLosses
from kdviz.analysis.landscape.evaluate import Evaluator
from kdviz.analysis.landscape.journal import fingerprint
from kdviz.analysis.landscape.span import said, unit_of
from kdviz.analysis.landscape.sweep import Weights, sweep

DIRECTIONS = {
    "filter": "filter-normalised directions",
    "layer": "layer-normalised directions",
    "none": "unnormalised directions",
    "hessian": "the top eigenvectors of the Hessian",
}
AnyEvaluator = Evaluator | DetectorLosses
BN = {"frozen": "frozen", "recompute": "recomputed at each point", "interpolate": "interpolated with the weights"}


def describe(result: xr.Dataset, evaluator: AnyEvaluator, directions: Sequence[Weights] | Weights) -> xr.Dataset:
    """A finished sweep of an evaluator with its axes' units, its caption and, in bfloat16, its error against fp32.

    Args:
        result: of `sweep(evaluator, evaluator.weights, directions, ...)`.
        evaluator, directions: the same.
    Returns:
        The dataset; in bfloat16 attrs["precision_error"] is the largest relative difference of a loss from fp32 over
        the centre and the points halfway to the edges (after a sweep of some points: over those that are on the grid).
    Source: ours.
    """
    facts = result.attrs
    unit = unit_of(facts)
    for i, name in enumerate(result.dims):
        result[name].attrs = {"long_name": f"direction {i + 1}", "units": unit}
    seed = f" (seed {facts['seed']})" if "seed" in facts else ""
    facts |= {
        "chunk": evaluator.chunk,
        "threads": evaluator.threads,
        "weights_sha256": fingerprint((evaluator.weights,), ()),
        "caption": caption(facts, f"along {DIRECTIONS[facts['normalize']]}{seed}{said(facts)}"),
    }
    if isinstance(evaluator, DetectorLosses) or facts["precision"] != "bf16":
        return result
    return _with_error(result, evaluator, directions)


def caption(facts: Mapping[str, Any], where: str) -> str:
    """What a picture shows, on which line or plane, and what was chosen for it."""
    synthetic = ", synthetic" if facts["synthetic"] else ""
    return (
        f"{facts['losses']} over {facts['samples']} of {facts['population']} images of {facts['data']}"
        f" ({facts['split']}{synthetic}), {where}; batch norm {BN[facts['bn']]}, {facts['precision']}"
    )


def _with_error(result: xr.Dataset, evaluator: Evaluator, directions: Sequence[Weights] | Weights) -> xr.Dataset:
    """The largest relative error of a loss against fp32, by spot checks."""
    axes = [result[name].values for name in result.dims]
    points = _spots([len(one) for one in axes])
    exact = sweep(evaluator.twin("fp32"), evaluator.weights, directions, *axes, schedule=points)
    names = [name for name in evaluator.terms if name in result]
    errors = [float((abs(result[name] - exact[name]) / abs(exact[name])).max()) for name in names]
    return result.assign_attrs(precision_error=max(errors), precision_points=len(points))


def _spots(shape: Sequence[int]) -> list[int]:
    """The indexes of the centre and of the points halfway from it to each edge."""
    centre = [n // 2 for n in shape]
    places = [centre]
    for i, n in enumerate(shape):
        places += [[*centre[:i], at, *centre[i + 1 :]] for at in (n // 4, n - 1 - n // 4)]
    return sorted({int(np.ravel_multi_index(at, shape)) for at in places})
