"""The numbers of several landscapes side by side, with their spread over directions and training seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from kdviz.analysis.landscape.geometry import loss_names, summary
from kdviz.base.check import require

# Which numbers of `geometry.summary` are compared, with their units; nats where the loss has them.
NUMBERS = {
    "centre": "nats", "flatness_radius": "units of the axes", "convex_share": "fraction", "minima": "count",
    "second_persistence": "nats",
}  # fmt: skip
SHARPNESS = {"top_eigenvalue": "nats per squared unit of the weights", "trace": "nats per squared unit of the weights"}


def compare(
    results: Sequence[xr.Dataset], sharpness: Sequence[xr.Dataset] = (), *, by: str = "label", epsilon: float = 0.1,
    share: float = 0.01,
) -> xr.Dataset:  # fmt: skip
    """Geometry and sharpness of every net, and how far they scatter.

    Results of one name are repetitions (training seeds, directions), and so are the lines of an ensemble (dim seed).

    Args:
        results: landscapes or profiles on equal axes; attrs[by] names the net.
        sharpness: of `sharpness`, with the same names; any number, or none.
        by: the attribute that names the net.
        epsilon, share: as `geometry.summary`.
    Returns:
        Dataset, kind "comparison"; dims net and loss: centre, flatness_radius, convex_share, minima and
        second_persistence; dim net: repetitions, accuracy, top_eigenvalue, trace; each with <name>_spread, the standard
        deviation over repetitions (NaN for one); trace_stderr, of the estimator.
    Raises:
        KdvizError: nothing to compare, or no loss that all have.
    Source: ours.
    """
    require(results, "compare: no results")
    groups: dict[str, list[xr.Dataset]] = {}
    for one in results:
        lines = [one.isel(seed=i) for i in range(one.sizes["seed"])] if "seed" in one.dims else [one]
        groups.setdefault(str(one.attrs.get(by, "net")), []).extend(lines)
    losses = [name for name in loss_names(_line(results[0])) if all(name in one for one in results)]
    require(losses, "compare: the results have no loss in common")
    numbers = {
        net: [summary(one[losses], epsilon=epsilon, share=share) for one in many] for net, many in groups.items()
    }
    found: dict[str, Any] = {"repetitions": ("net", [len(many) for many in groups.values()])}
    for name, unit in NUMBERS.items():
        values = [[[float(one[loss][name]) for one in many] for loss in losses] for many in numbers.values()]
        _add(found, name, ("net", "loss"), values, unit)
    if all("accuracy" in one for one in results):
        _add(found, "accuracy", ("net",), [[_centre(one) for one in many] for many in groups.values()], "fraction")
    if sharpness:
        sharp = {net: [one for one in sharpness if one.attrs.get(by) == net] for net in groups}
        for name, unit in SHARPNESS.items():
            _add(found, name, ("net",), [[_sharp(one)[name] for one in many] for many in sharp.values()], unit)
        errors = [np.mean([float(one["trace_stderr"]) for one in many]) if many else np.nan for many in sharp.values()]
        found["trace_stderr"] = ("net", errors, {"units": SHARPNESS["trace"]})
    attrs = {"kind": "comparison", "epsilon": epsilon, "share": share, "caption": "spread: one standard deviation"}
    return xr.Dataset(found, {"net": list(groups), "loss": losses}, attrs)


def _line(result: xr.Dataset) -> xr.Dataset:
    return result.isel(seed=0) if "seed" in result.dims else result


def _centre(result: xr.Dataset) -> float:
    at = {str(dim): 0.0 for dim in ("alpha", "beta") if dim in result.dims}
    return float(result["accuracy"].sel(at, method="nearest"))


def _sharp(result: xr.Dataset) -> Mapping[str, float]:
    return {"top_eigenvalue": float(result["eigenvalue"].max()), "trace": float(result["trace"])}


def _add(found: dict[str, Any], name: str, dims: tuple[str, ...], values: Sequence[Any], unit: str) -> None:
    """Mean and standard deviation over the innermost lists, which may be of different lengths."""

    def over(function: Any, nested: Any) -> Any:
        inner = nested and isinstance(nested[0], list)
        return [over(function, one) for one in nested] if inner else function(np.asarray(nested, dtype=float))

    mean = [over(lambda many: many.mean() if many.size else np.nan, one) for one in values]
    spread = [over(lambda many: many.std(ddof=1) if many.size > 1 else np.nan, one) for one in values]
    found[name] = (dims, np.array(mean), {"units": unit})
    found[f"{name}_spread"] = (dims, np.array(spread), {"units": unit})
