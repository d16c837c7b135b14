"""The same slices for many draws of teacher and directions, so that no finding hangs on the one that is drawn."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

KEPT = ("convex_share", "minimum_distance", "range", "curvature_minimum", "curvature_origin")


def slice_curvature(values: np.ndarray, alphas: np.ndarray, betas: np.ndarray) -> np.ndarray:
    """The two principal curvatures [2, a-2, b-2] of a surface at the inner points of its grid, per squared length.

    >>> a = np.linspace(-1, 1, 5)
    >>> slice_curvature(a[:, None] ** 2 + 3 * a**2, a, a).mean(axis=(1, 2)).round(9).tolist()
    [2.0, 6.0]
    """
    from kdviz.analysis.grid import curvatures

    return np.stack(curvatures(values, alphas, betas))


def curvature_mean(dataset: "xr.Dataset") -> np.ndarray:
    """The mean of both curvatures over the slice, of every panel."""
    axes = dataset["alpha"].to_numpy(), dataset["beta"].to_numpy()
    return np.array([slice_curvature(panel, *axes).mean() for panel in dataset["value"].to_numpy()])


def curvature_median(dataset: "xr.Dataset") -> np.ndarray:
    """The median over the slice of the larger absolute curvature, of every panel."""
    axes = dataset["alpha"].to_numpy(), dataset["beta"].to_numpy()
    return np.array(
        [np.median(np.abs(slice_curvature(panel, *axes)).max(axis=0)) for panel in dataset["value"].to_numpy()]
    )


def compute(losses: str | Sequence[str], temperatures: Sequence[float], settings: Mapping[str, Any], progress: Any):
    """Results "surface", which is drawn, and "draws": its numbers for `settings["draws"]` seeds, dims draw and panel.

    Args:
        losses, temperatures: of the panels.
        settings: classes, steps, span, seed; draws, how many seeds from `seed` on.
        progress: called with (slices done, slices in all).
    """
    import xarray as xr

    from kdviz.analysis.surfaces import surface

    options = {name: settings[name] for name in ("classes", "steps", "span")}
    seeds = [settings["seed"] + at for at in range(settings["draws"])]
    rows, shown = [], None
    for done, seed in enumerate(seeds, 1):
        one = surface(losses, temperatures=temperatures, seed=seed, **options)
        shown = one if shown is None else shown
        numbers = one[list(KEPT)].assign(
            curvature_mean=("panel", curvature_mean(one)), curvature_median=("panel", curvature_median(one))
        )
        rows.append(numbers.drop_attrs())
        if progress:
            progress(done, len(seeds))
    draws = xr.concat(rows, "draw").assign_coords(draw=seeds)
    attrs = {} if shown is None else shown.attrs
    return {"surface": shown, "draws": draws.assign_attrs({**attrs, "kind": "surface-draws"})}
