"""Figures of logits' sizes: histograms of teacher and students, and what each rank of channel holds."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D

from kdviz.plots.style import VENUES, dash, figure, legend, letter, look, title

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_BINS = 90  # as many as a column resolves


def values(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml", density: bool = False, **options: Any) -> "Figure":
    """RKKD's Fig. 1: all channels' values of teacher and students, raw and after softmax, on shared bins.

    Args:
        datasets: results of kind "histogram" that share their teacher, which is drawn once.
        density: draw the density (per logit, per unit of probability) instead of the share of values in a bin.
    """
    width = VENUES[venue][1]
    fig = figure(width, 0.3 * width + 0.6)
    axes = fig.subplots(1, 2)
    for axis, space in zip(axes, ("logit", "probability"), strict=True):
        left, step, counts = _rebinned(datasets, space)
        shares = counts / counts.sum(axis=1, keepdims=True) / (step if density else 1)
        floor = shares[shares > 0].min() / 1.5
        for index, ((name, net), share) in enumerate(zip(_nets(datasets), shares, strict=True)):
            _steps(axis, left, step, np.maximum(share, floor / 10), name, index, fill=net == "teacher")
        axis.set(yscale="log", ylim=(floor, None))
    temperature = datasets[0].attrs["temperature"]
    axes[0].set_xlabel("logit")
    axes[1].set_xlabel("probability (fraction)")
    for axis, unit in zip(axes, ("per logit", "per unit"), strict=True):
        axis.set_ylabel(f"density ({unit})" if density else "share of values")
    letter(axes, ("raw", f"after softmax, temperature {temperature:g}"))
    handles, _ = axes[0].get_legend_handles_labels()
    small = f"in brackets: the probability that the smallest {datasets[0].attrs['small']:.0%} of channels hold"
    legend(fig, handles, _masses(datasets), title=small, title_fontsize=8)
    return fig


def density(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml", **options: Any) -> "Figure":
    """`values` with densities, which do not depend on the bins' width."""
    return values(datasets, venue=venue, density=True)


def ranks(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml", **options: Any) -> "Figure":
    """Per rank of channel: the logit's and the probability's median and 5-95 % band, and the gradients' shares."""
    width = VENUES[venue][1]
    gradient = any("gradient" in one for one in datasets)
    fig = figure(width, 0.38 * width)
    axes = fig.subplots(1, 3 if gradient else 2)
    for axis, space in zip(axes, ("logit", "probability"), strict=False):
        for index, ((name, net), one) in enumerate(zip(_nets(datasets), _owners(datasets), strict=True)):
            band = one[f"band_{space}"].sel(net=net)
            _band(axis, band["rank"].values, band.values, name, index)
    axes[0].set(xlabel="rank (1 = largest)", ylabel="logit")
    axes[1].set(xlabel="rank (1 = largest)", ylabel="probability (fraction)", yscale="log")
    handles, names = axes[0].get_legend_handles_labels()
    if gradient:
        _gradients(axes[2], datasets)
        lines = {"KL (c)": ("0.3", "-"), "ranking loss (c)": ("0.3", "--"), "equal shares (c)": ("0.6", "-")}
        handles += [Line2D([], [], color=colour, ls=line, lw=1.0) for colour, line in lines.values()]
        names += lines
    temperature = f"{datasets[0].attrs['temperature']:g}"
    letter(axes, ("raw, 5, 50, 95 %", f"temperature {temperature}", "gradient's share"))
    for axis in axes:
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter("{x:g}")
    legend(fig, handles, names)
    return fig


def _gradients(axis: "Axes", datasets: "Sequence[xr.Dataset]") -> None:
    """Each channel's mean share of a loss' gradient; dashes tell the ranking loss from KL."""
    for index, one in enumerate(datasets):
        if "gradient" not in one:
            continue
        colour = look(_label(one), index)["color"]
        for loss in one.loss.values:
            line = "-" if loss == "kd" else "--"
            axis.plot(one["rank"], one.gradient.sel(loss=loss), line, color=colour, label=f"{_label(one)}, {loss}")
    axis.set(xlabel="teacher's rank", ylabel="share (fraction)", yscale="log")
    axis.axhline(1 / datasets[0]["rank"].size, color="0.6", lw=0.7, zorder=0)


def _nets(datasets: "Sequence[xr.Dataset]") -> list[tuple[str, str]]:
    """(name in the legend, net of the dataset): the teacher once, then the students."""
    teacher = [("teacher", "teacher")] if "teacher" in datasets[0].net.values else []
    return teacher + [(_label(one), "student") for one in datasets]


def _owners(datasets: "Sequence[xr.Dataset]") -> "list[xr.Dataset]":
    """The dataset behind each entry of `_nets`."""
    return [*datasets[: len(_nets(datasets)) - len(datasets)], *datasets]


def _label(dataset: "xr.Dataset") -> str:
    return str(dataset.attrs.get("label", "student"))


def _rebinned(datasets: "Sequence[xr.Dataset]", space: str) -> tuple[np.ndarray, float, np.ndarray]:
    """Left edges, width and counts [nets, bins] on at most MOST_BINS shared bins; widths are powers of two, so the
    bins of all results nest."""
    owners = list(zip(_nets(datasets), _owners(datasets), strict=True))
    width = max(float(one[space].attrs["width"]) for _, one in owners)
    low = min(float(one[space][0]) for _, one in owners)
    high = max(float(one[space][-1]) for _, one in owners)
    while high // width - low // width >= MOST_BINS:
        width *= 2
    first, last = int(low // width), int(high // width)
    counts = np.zeros((len(owners), last - first + 1))
    for row, ((_, net), one) in zip(counts, owners, strict=True):
        np.add.at(row, (one[space].values // width).astype(int) - first, one[f"counts_{space}"].sel(net=net).values)
    return np.arange(first, last + 1) * width, width, counts


def _steps(
    axis: "Axes", left: np.ndarray, step: float, share: np.ndarray, name: str, index: int, *, fill: bool
) -> None:
    """An outline; empty bins lie below the axis, since a logarithm has no zero."""
    edges, drawn = np.append(left, left[-1] + step), _look(name, index)
    axis.stairs(share, edges, baseline=None, lw=1.1, label=title(name), **drawn)
    if fill:
        axis.stairs(share, edges, baseline=share.min() / 100, color="0.85", fill=True, zorder=0)


def _band(axis: "Axes", x: np.ndarray, band: np.ndarray, name: str, index: int) -> None:
    """The median; the teacher's 5-95 % band filled, a student's as thin lines, so that several can be read."""
    drawn = _look(name, index)
    axis.plot(x, band[:, 2], label=title(name), **drawn)
    if name == "teacher":
        axis.fill_between(x, band[:, 0], band[:, -1], color="0.85", lw=0, zorder=0)
    else:
        axis.plot(x, band[:, [0, -1]], lw=0.5, **drawn)


def _look(name: str, index: int) -> dict[str, Any]:
    """Colour and dashes; the teacher stands before the students, whose index is one less."""
    return {"color": look(name, max(0, index - 1))["color"], "ls": dash(name, index)}


def _masses(datasets: "Sequence[xr.Dataset]") -> list[str]:
    """Every net's name and the share of probability in its small channels, to two digits."""
    nets = zip(_nets(datasets), _owners(datasets), strict=True)
    return [f"{title(name)} ({100 * float(one.small_mass.sel(net=net)):.2g}%)" for (name, net), one in nets]
