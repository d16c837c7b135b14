"""Figures of logits' sizes: histograms of teacher and students, and what each rank of channel holds."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D

from kdviz.plots.style import VENUES, dash, figure, label_of, legend, letter, look, title_of, titles_of

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FEWEST = 10  # values in a bin from which on a ratio of two is drawn
MOST_BINS = 90  # as many as a column resolves
LINES = ("-", "--")  # of the losses whose gradients are drawn


def values(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml", density: bool = False) -> "Figure":
    """RKKD's Fig. 1: all channels' values of teacher and students, raw and after softmax, on shared bins.

    Below, each student's share of values over the teacher's, in which nets that lie on one another are told apart.

    Args:
        datasets: results of kind "histogram" that share their teacher, which is drawn once.
        density: draw the density (per logit, per unit of probability) instead of the share of values in a bin.
    """
    width = VENUES[venue][1]
    compared = "teacher" in datasets[0].net.values
    fig = figure(width, 0.3 * width + 0.6 + 0.85 * compared)
    rows = fig.subplots(1 + compared, 2, sharex="col", squeeze=False, height_ratios=[1, 0.45][: 1 + compared])
    axes, titles = rows[0], _titles(datasets)
    for column, space in enumerate(("logit", "probability")):
        axis, (left, step, counts) = axes[column], _rebinned(datasets, space)
        if compared:
            _ratios(rows[1][column], datasets, left, step, counts)
        shares = counts / counts.sum(axis=1, keepdims=True) / (step if density else 1)
        floor = shares[shares > 0].min() / 1.5
        for index, ((name, net), share) in enumerate(zip(_nets(datasets), shares, strict=True)):
            drawn = _look(name, index) | {"label": titles[index]}
            _outline(axis, left, step, np.maximum(share, floor / 10), drawn, fill=net == "teacher")
        axis.set(yscale="log", ylim=(floor, None), xlabel="" if compared else _quantity(datasets[0][space]))
        rows[-1][column].set_xlabel(_quantity(datasets[0][space]))
    temperature = datasets[0].attrs["temperature"]
    for axis, unit in zip(axes, ("per logit", "per unit"), strict=True):
        axis.set_ylabel(f"density ({unit})" if density else "share of values")
    letter(axes, ("raw", f"after softmax, temperature {temperature:g}"))
    handles, _ = axes[0].get_legend_handles_labels()
    small = f"in brackets: the probability that the smallest {datasets[0].attrs['small']:.0%} of channels hold"
    legend(fig, handles, _masses(datasets), title=small, title_fontsize=8)
    return fig


def _ratios(axis: "Axes", datasets: "Sequence[xr.Dataset]", left: np.ndarray, step: float, counts: np.ndarray) -> None:
    """Every student's share of values over the teacher's, where both have enough values to say."""
    shares = counts / counts.sum(axis=1, keepdims=True)
    edges = np.append(left, left[-1] + step)
    enough = (counts[1:] >= FEWEST) & (counts[0] >= FEWEST)
    ratios = np.where(enough, shares[1:] / np.where(counts[0] > 0, shares[0], 1), np.nan)
    axis.axhline(1, color="black", lw=1.1)
    for index, ((name, _net), ratio) in enumerate(zip(_nets(datasets)[1:], ratios, strict=True), 1):
        axis.stairs(ratio, edges, baseline=None, lw=1.1, **_look(name, index))
    logs = np.abs(np.log(ratios[np.isfinite(ratios)]))
    most = float(np.quantile(logs, 0.85)) if logs.size else 0.0  # what lies beyond leaves the panel
    reach = float(np.clip(np.exp(1.3 * most), 1.3, 10))
    axis.set(yscale="log", ylim=(1 / reach, reach), ylabel="÷ teacher's")
    outer = next((tick for tick in (8.0, 5.0, 3.0, 2.0, 1.5, 1.2) if tick <= reach), 1.2)
    ticks = (1 / outer, 1.0, outer)
    axis.set_yticks(ticks, [f"{tick:.2g}" for tick in ticks])
    axis.minorticks_off()


def density(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml") -> "Figure":
    """`values` with densities, which do not depend on the bins' width."""
    return values(datasets, venue=venue, density=True)


def ranks(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml") -> "Figure":
    """Per rank of channel: the logit's and the probability's median, the gradients' shares.

    The teacher's, and a single student's, 5th to 95th percentile is a band; several students have markers at places of
    their own, so that none hides behind another.
    """
    width = VENUES[venue][1]
    gradient = any("gradient" in one for one in datasets)
    fig = figure(width, 0.38 * width)
    axes = fig.subplots(1, 3 if gradient else 2)
    titles = _titles(datasets)
    for axis, space in zip(axes, ("logit", "probability"), strict=False):
        for index, ((name, net), one) in enumerate(zip(_nets(datasets), _owners(datasets), strict=True)):
            band = one[f"band_{space}"].sel(net=net)
            drawn = _look(name, index) | {"label": titles[index]}
            if net != "teacher":
                drawn |= _staggered(name, index, len(datasets), band.sizes["rank"])
            _band(axis, band["rank"].values, band.values, drawn, fill=net == "teacher", ends=len(datasets) == 1)
        axis.set(xlabel="rank (1 = largest)", ylabel=_quantity(datasets[0][space]))
    axes[1].set_yscale("log")
    handles, names = axes[0].get_legend_handles_labels()
    if gradient:
        _gradients(axes[2], datasets)
        losses = next(one.loss for one in datasets if "gradient" in one)
        lines = {
            f"{name} loss (c)": ("0.3", style) for name, style in zip(titles_of(losses).values(), LINES, strict=False)
        }
        lines["equal shares (c)"] = ("0.6", "-")
        handles += [Line2D([], [], color=colour, ls=line, lw=1.0) for colour, line in lines.values()]
        names += lines
    temperature = f"{datasets[0].attrs['temperature']:g}"
    letter(axes, ("logits", f"softmax, temperature {temperature}", "share of gradient"))
    for axis in axes:
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter("{x:g}")
    band = "median of the samples; shaded: the teacher's 5th to 95th percentile"
    thin = ", thin lines: the student's" if len(datasets) == 1 else ""
    shown = _titles(datasets)[0] == "teacher"
    legend(fig, handles, names, title=f"{band}{thin}" if shown else "median of the samples", title_fontsize=8)
    return fig


def _staggered(name: str, index: int, many: int, ranks: int) -> dict[str, Any]:
    """A student's marker at every few ranks, evenly spaced on a log axis and apart from the other students'."""
    places = np.geomspace(1, ranks, 4 * many + 1).round().astype(int) - 1
    marker = look(name, max(0, index - 1))["marker"]
    return {"marker": marker, "markevery": sorted({*places[index % many :: many].tolist()}), "markersize": 3}


def _gradients(axis: "Axes", datasets: "Sequence[xr.Dataset]") -> None:
    """Each channel's mean share of a loss' gradient; the losses differ by their dashes."""
    for index, one in enumerate(datasets):
        if "gradient" not in one:
            continue
        drawn = {"color": look(label_of(one), index)["color"]}
        drawn |= _staggered(label_of(one), index + 1, len(datasets), one.sizes["rank"]) if len(datasets) > 1 else {}
        for (loss, name), line in zip(titles_of(one.loss).items(), LINES, strict=False):
            values = one.gradient.sel(loss=loss)
            axis.plot(one["rank"], values, line, label=f"{title_of(one, index)}, {name}", **drawn)
    axis.set(xlabel="rank by the teacher", ylabel="fraction", yscale="log")
    axis.axhline(1 / datasets[0]["rank"].size, color="0.6", lw=0.7, zorder=0)


def _nets(datasets: "Sequence[xr.Dataset]") -> list[tuple[str, str]]:
    """(label, net of the dataset): the teacher once, then the students."""
    teacher = [("teacher", "teacher")] if "teacher" in datasets[0].net.values else []
    return teacher + [(label_of(one), "student") for one in datasets]


def _titles(datasets: "Sequence[xr.Dataset]") -> list[str]:
    """The names in the legend, in the order of `_nets`."""
    teacher = ["teacher"] if "teacher" in datasets[0].net.values else []
    return teacher + [title_of(one, index) for index, one in enumerate(datasets)]


def _quantity(coordinate: "xr.DataArray") -> str:
    """An axis' label: what is counted, and its unit where that says more."""
    name, unit = str(coordinate.attrs.get("long_name", coordinate.name)), str(coordinate.attrs.get("units", ""))
    return name if unit in ("", name) else f"{name} ({unit})"


def _owners(datasets: "Sequence[xr.Dataset]") -> "list[xr.Dataset]":
    """The dataset behind each entry of `_nets`."""
    return [*datasets[: len(_nets(datasets)) - len(datasets)], *datasets]


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


def _outline(
    axis: "Axes", left: np.ndarray, step: float, share: np.ndarray, drawn: dict[str, Any], *, fill: bool
) -> None:
    """A histogram of bins that are counted already; empty bins lie below the axis, since a logarithm has no zero."""
    import seaborn as sns

    edges, middle = np.append(left, left[-1] + step), left + step / 2
    if fill:
        axis.stairs(share, edges, baseline=share.min() / 100, color="0.85", fill=True, zorder=0)
    sns.histplot(x=middle, weights=share, bins=edges.tolist(), element="step", fill=False, lw=1.1, ax=axis, **drawn)


def _band(axis: "Axes", x: np.ndarray, band: np.ndarray, drawn: dict[str, Any], *, fill: bool, ends: bool) -> None:
    """The median; the teacher's 5-95 % band filled, a student's as thin lines where `ends` are wanted."""
    axis.plot(x, band[:, 2], **drawn)
    if fill:
        axis.fill_between(x, band[:, 0], band[:, -1], color="0.85", lw=0, zorder=0)
    elif ends:
        axis.plot(x, band[:, [0, -1]], lw=0.5, color=drawn["color"], ls=drawn["ls"])


def _look(name: str, index: int) -> dict[str, Any]:
    """Colour and dashes; the teacher stands before the students, whose index is one less."""
    return {"color": look(name, max(0, index - 1))["color"], "ls": dash(name, index)}


def _masses(datasets: "Sequence[xr.Dataset]") -> list[str]:
    """Every net's name and the share of probability in its small channels, to two digits."""
    nets = zip(_nets(datasets), _owners(datasets), strict=True)
    return [
        f"{name} ({100 * float(one.small_mass.sel(net=net)):.2g}%)"
        for name, ((_, net), one) in zip(_titles(datasets), nets, strict=True)
    ]
