"""Training curves from a run's journal: top-1 or AP, the loss and its terms over the epochs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from kdviz.base.measures import CALLED, MAIN
from kdviz.plots.style import BLACK, MARKERS, VENUES, dash, figure, letter, look, title, title_of

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def curves(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml") -> "Figure":
    """Validation top-1, or a detector's AP, (left) and the total training loss (right) of every run over its epochs.

    Args:
        datasets: kind "training", dim epoch; variables "total" and the terms (means over the epoch) and, where the run
            held a part out, "val_top1" or "val_ap" (fraction); attrs label, method. A term has the role "loss".
        venue: its text width sets the size.
    Source: ours.
    """
    fig = figure(VENUES[venue][1], 2.3 + 0.16 * len(datasets))
    left, right = fig.subplots(1, 2)
    for index, run in enumerate(datasets):
        method = str(run.attrs.get("method", ""))
        drawn = {**look(method, index), "linestyle": dash(method, index), "markersize": 3}
        if again := sum(one.attrs.get("method") == run.attrs.get("method") for one in datasets[:index]):
            drawn |= {"marker": MARKERS[again % len(MARKERS)], "markerfacecolor": "white", "alpha": 0.7}  # another seed
        for measure in [one for one in MAIN if f"val_{one}" in run]:
            left.plot(run["epoch"], 100 * run[f"val_{measure}"], **drawn)
        right.plot(run["epoch"], run["total"], label=title_of(run), **drawn)
    shown = [CALLED[one] for one in MAIN if any(f"val_{one}" in run for run in datasets)] or ["top-1"]
    left.set(xlabel="epoch", ylabel=f"{' or '.join(shown)} on val (%)")
    right.set(xlabel="epoch", ylabel="training loss", yscale=_scale(datasets))
    if not left.lines:
        left.text(0.5, 0.5, "no part held out", ha="center", va="center", transform=left.transAxes)
    for axis in (left, right):
        _epochs(axis)
    if len(datasets) > 1:
        fig.legend(loc="outside lower center", ncols=min(3, len(datasets)))
    return fig


def terms(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml") -> "Figure":
    """The weighted terms of the first run's loss over its epochs, each on its own scale, and their sum."""
    run = datasets[0]
    names = [str(name) for name, values in run.data_vars.items() if values.attrs.get("role") == "loss"]
    fig = figure(VENUES[venue][1], 1.9)
    axes = fig.subplots(1, len(names) + 1)
    for axis, name in zip(axes, [*names, "total"], strict=True):
        drawn = {"color": BLACK, "marker": "o"} if name == "total" else look(name)
        axis.plot(run["epoch"], run[name], markersize=3, **drawn)
        axis.set_xlabel("epoch")
        _epochs(axis, 5)
        axis.locator_params(axis="y", nbins=5)
    letter(axes, [*(str(run[name].attrs.get("title", title(name))) for name in names), "sum"])
    axes[0].set_ylabel("weighted term")
    return fig


def _epochs(axis: "Axes", most: int = 8) -> None:
    """Whole epochs along the axis, also of a run of a single one, and plain numbers on a log scale."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    axis.xaxis.set_major_locator(MaxNLocator(most, integer=True, min_n_ticks=1))
    if np.ptp(axis.dataLim.intervalx) == 0:
        axis.set_xlim(axis.dataLim.x0 - 0.5, axis.dataLim.x0 + 0.5)
    if axis.get_yscale() == "log":
        short = np.log10(axis.get_ylim()[1] / axis.get_ylim()[0]) < 1
        axis.yaxis.set_major_locator(MaxNLocator(5) if short else LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter(NullFormatter())


def _scale(datasets: "Sequence[xr.Dataset]") -> str:
    """Logarithmic where every loss is positive: they fall by orders of magnitude."""
    return "log" if all(float(run["total"].min()) > 0 for run in datasets) else "linear"
