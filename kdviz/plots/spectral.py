"""Spectral densities of Hessians, several nets on one axis."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from kdviz.plots.landscape_panels import label_of
from kdviz.plots.style import VENUES, dash, figure, look, title

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure


def density(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml") -> "Figure":
    """Density of the Hessian's eigenvalues on a log scale, with one standard error over probes as a band.

    The axis ends below where one eigenvalue of the net would stand, since there is none below that. The legend says
    which share of the eigenvalues, and of the sum of their magnitudes, is negative.

    Args:
        datasets: kind "density", one per net; attrs["label"] names it.
        venue: its column width sets the size.
    Source: ours, after Ghorbani, Krishnan & Xiao 2019, fig. 1.
    """
    fig = figure(max(min(VENUES[venue][0], 5.5), 3.25), 2.6 + 0.17 * len(datasets))
    axis = fig.subplots()
    floor = min(1 / (one.attrs["weights"] * one.attrs["width"] * np.sqrt(2 * np.pi)) for one in datasets) / 20
    for index, one in enumerate(datasets):
        label = label_of(one, index)
        colour = look(label, index)["color"]
        axis.plot(one["eigenvalue"], one["density"].clip(min=floor / 10), color=colour, ls=dash(label, index),
                  linewidth=1.0, label=f"{title(label)}: {_negative(one)}")  # fmt: skip
        low, high = (one["density"] + sign * one["density_stderr"] for sign in (-1, 1))
        axis.fill_between(one["eigenvalue"], low.clip(min=floor / 10), high.clip(min=floor / 10),
                          color=colour, alpha=0.2, linewidth=0)  # fmt: skip
    axis.set_yscale("log")
    axis.set_ylim(floor, None)
    axis.axvline(0, color="#b0b0b0", linewidth=0.6, zorder=0)
    unit = str(datasets[0]["eigenvalue"].attrs.get("units", "1"))
    axis.set_xlabel(
        "eigenvalue" + (f" ({unit.replace('per squared unit of weight', '/ weight²')})" if unit != "1" else "")
    )
    axis.set_ylabel("density of eigenvalues")
    axis.grid(axis="y")
    fig.legend(
        loc="outside lower center",
        ncols=1,
        title="negative share (± standard error)",
        title_fontsize=8,
        handlelength=1.8,
    )
    return fig


def _negative(one: "xr.Dataset") -> str:
    """The negative share of the eigenvalues and of their magnitudes, per cent with a standard error."""
    parts = []
    for name, what in (("negative_mass", "eigenvalues"), ("negative_curvature", "curvature")):
        error = 100 * float(one[f"{name}_stderr"])
        spread = f" ± {error:.2g}" if np.isfinite(error) else ""
        parts.append(f"{what} {100 * float(one[name]):.2g}{spread} %")
    return ", ".join(parts)
