"""Lines between nets with their barrier, a run's trajectory on its plane, and spectra of the Hessian."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from kdviz.base.check import require
from kdviz.base.variables import belonging
from kdviz.plots.landscape import dark, paint, scale
from kdviz.plots.landscape_panels import (
    ACCURACY,
    chosen,
    compact,
    label_of,
    levels_of,
    long_name,
    on_log_scale,
    smoothness,
    titled,
)
from kdviz.plots.style import BLACK, COLOURS, VENUES, dash, figure, legend, letter, look, title

# What the figure of a comparison shows unless other numbers are asked for.
SHOWN = ("centre", "convex_share", "flatness_radius", "minima", "top_eigenvalue", "trace")

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def line(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml", loss: str | Sequence[str] = ()) -> "Figure":
    """Losses and accuracy on the straight line between two nets, the chord between their losses and the barrier on it.

    Of a sampled result, the 95 % interval as a band.

    Args:
        datasets: kind "path", a pair of nets each.
        venue: its column width sets the size.
        loss: which losses to draw above the accuracy [default: all].
    Raises:
        KdvizError: nothing to draw.
    Source: ours, after Frankle et al. 2020, fig. 2.
    """
    names = chosen(datasets, loss)
    heights = [1.6] * len(names) + [1.1]
    fig = figure(min(VENUES[venue][0], 3.4), sum(heights) + 0.55)
    axes = fig.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for name, axis in zip(names, axes, strict=False):
        for index, one in enumerate(datasets):
            _barrier(axis, one, name, index, len(datasets))
        axis.set_ylabel(titled(datasets[0], name))
        axis.margins(y=0.14)
        axis.grid(axis="y")
    for index, one in enumerate(datasets):
        axes[-1].plot(one["alpha"], 100 * one[ACCURACY], ls=dash("", index), color=COLOURS[index % len(COLOURS)])
        _band(axes[-1], one, ACCURACY, index, 100)
    axes[-1].set_ylabel(f"{long_name(datasets[0], ACCURACY)} (%)")
    axes[-1].set_ylim(0, None)
    axes[-1].grid(axis="y")
    ends = {tuple(map(str, one["mark"].values)) for one in datasets}
    if len(ends) == 1:
        axes[-1].set_xticks(
            [0, 0.5, 1], [title(datasets[0]["mark"].values[0]), "½", title(datasets[0]["mark"].values[1])]
        )
    axes[-1].set_xlabel(r"$\alpha$, share of the way")
    if len(datasets) > 1:
        fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    fig.align_ylabels()
    return fig


def _band(axis: "Axes", dataset: "xr.Dataset", name: str, index: int, factor: float = 1) -> None:
    """The 95 % interval of a sampled result."""
    half_width = belonging(dataset, name, "half-width")
    if half_width is not None:
        middle, half = factor * dataset[name], factor * dataset[half_width]
        colour = COLOURS[index % len(COLOURS)]
        axis.fill_between(dataset["alpha"], middle - half, middle + half, alpha=0.18, linewidth=0, color=colour)


def _barrier(axis: "Axes", dataset: "xr.Dataset", name: str, index: int, several: int) -> None:
    """One line, dots for the nets, and where there is a barrier, its height above the chord."""
    colour = COLOURS[index % len(COLOURS)]
    ends = [title(str(one)) for one in dataset["mark"].values]
    axis.plot(
        dataset["alpha"], dataset[name], ls=dash("", index), color=colour, label=" – ".join(ends) + _after(dataset)
    )
    _band(axis, dataset, name, index)
    chord = np.interp([0.0, 1.0], dataset["alpha"], dataset[name])
    axis.plot([0, 1], chord, "o", color=colour, markersize=3.5)
    barrier, at = dataset[name].attrs.get("barrier", 0.0), dataset[name].attrs.get("barrier_at", 0.0)
    if not barrier > 0.02 * float(dataset[name].max() - dataset[name].min()):
        return
    base = chord[0] + at * (chord[1] - chord[0])
    axis.plot([0, 1], chord, color=colour, linewidth=0.7, linestyle=":")
    shown = at + (0.025 * (2 * index - 1) if several == 2 else 0)  # two arrows beside each other
    axis.annotate(
        "", (shown, base), (shown, base + barrier), arrowprops={"arrowstyle": "<->", "color": colour, "lw": 0.8}
    )
    if several <= 2:
        left = at > 0.5 if several == 1 else index == 0  # where there is more room below the curve
        plate = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none"}
        axis.annotate(
            f"barrier {compact(round(barrier, 2))}",
            (shown, base + 0.2 * barrier),
            (-5 if left else 5, 0),
            va="center",
            textcoords="offset points",
            ha="right" if left else "left",
            fontsize=8,
            bbox=plate,
            color=BLACK if several == 1 else colour,
        )


def _after(dataset: "xr.Dataset") -> str:
    """What is said of a line between nets whose channels were matched first."""
    return " after re-basin" if dataset.attrs.get("rebasin") else ""


def trajectory(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml", loss: str | Sequence[str] = ()) -> "Figure":
    """A run on the plane of its two principal components, and each net's true loss beside that on the plane.

    Args:
        datasets: one result of kind "trajectory".
        venue: its text width sets the size.
        loss: the loss of the plane [default: the first; the panel beside it is always of the first].
    Raises:
        KdvizError: several results, or one without a trajectory.
    Source: ours, after Li et al. 2018, fig. 9.
    """
    from matplotlib.ticker import MaxNLocator

    require(len(datasets) == 1, f"trajectory: one run at a time, got {len(datasets)}")
    (one,) = datasets
    require("trajectory_alpha" in one, "trajectory: the result has no trajectory")
    name = chosen([one], loss)[0]
    text = VENUES[venue][1]
    fig = figure(text, 0.42 * text)
    left, right = fig.subplots(1, 2, width_ratios=[1.15, 1], gridspec_kw={"wspace": 0.1})
    levels, logarithmic = levels_of([one[name]])
    filled = paint(left, one, name, levels, logarithmic)
    scale(fig, filled, left, levels, on_log_scale(titled(one, name), logarithmic))
    shares = [f"{100 * share:.0f} %" for share in np.atleast_1d(one.attrs["explained_variance"])]
    left.set_xlabel(f"first component ({shares[0]} of the variance)")
    left.set_ylabel(f"second component ({shares[1]})")
    epochs = one["trajectory_epoch"]
    right.plot(epochs, one["trajectory_loss"], "-o", color=BLACK, markersize=3, label="true")
    right.plot(epochs, one["trajectory_projected"], "--s", color=COLOURS[1], markersize=3, label="on the plane")
    right.set_xlabel("epoch")
    right.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    right.set_ylabel(titled(one, chosen([one])[0]))
    values = np.concatenate([one["trajectory_loss"], one["trajectory_projected"]])
    if values.min() > 0 and values.max() > 10 * values.min():
        right.set_yscale("log")
        right.yaxis.set_major_formatter(lambda value, _: compact(value))
    right.grid(axis="y")
    right.legend()
    letter([left, right], [long_name(one, name), "what the plane leaves out"])
    marks, names = left.get_legend_handles_labels()
    legend(fig, [dark(mark) for mark in marks], names, title=smoothness([one]) or None, title_fontsize=7)
    return fig


def spectrum(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml") -> "Figure":
    """The largest Hessian eigenvalues of every net, and its trace with one standard error.

    Args:
        datasets: kind "sharpness"; attrs["label"] names the net.
        venue: its text width sets the size.
    Source: ours.
    """
    text = VENUES[venue][1]
    fig = figure(min(text, 6.0), 2.1)
    left, right = fig.subplots(1, 2, width_ratios=[1.5, 1])
    for index, one in enumerate(datasets):
        label = label_of(one, index)
        left.plot(one["rank"], one["eigenvalue"], ls=dash(label, index), **look(label, index), label=title(label))
    left.set_xticks(datasets[0]["rank"].values)
    left.set_xlabel("rank")
    left.set_ylabel(long_name(datasets[0], "eigenvalue"))
    left.set_ylim(0, None)
    left.grid(axis="y")
    left.legend()
    names = [label_of(one, index) for index, one in enumerate(datasets)]
    for index, (name, one) in enumerate(zip(names, datasets, strict=True)):
        if "trace" in one:
            error = float(one["trace_stderr"])
            drawn = look(name, index)
            right.errorbar(index, float(one["trace"]), error, **drawn, ecolor=drawn["color"], capsize=3)
    right.set_xticks(range(len(names)), [title(name) for name in names])
    right.set_xlim(-0.6, len(names) - 0.4)
    right.set_ylim(0, None)
    right.set_ylabel("trace (± standard error)")
    right.grid(axis="y")
    count = datasets[0].sizes["rank"]
    letter([left, right], [f"largest {count}" if count > 1 else "largest", "sum of all"])
    return fig


def numbers(
    datasets: "Sequence[xr.Dataset]",
    *,
    venue: str = "icml",
    loss: str | Sequence[str] = (),
    quantities: Sequence[str] = SHOWN,
) -> "Figure":
    """The numbers of several nets beside each other: a dot per random plane, a bar at their mean.

    Args:
        datasets: one result of kind "comparison".
        venue: its text width sets the size.
        loss: which losses, a row of panels each [default: all].
        quantities: which of the result's numbers, a column of panels each; those that it lacks are left out.
    Raises:
        KdvizError: several results, no such loss.
    Source: ours.
    """
    require(len(datasets) == 1, f"numbers: one comparison at a time, got {len(datasets)}")
    (one,) = datasets
    names = [loss] if isinstance(loss, str) else list(loss) or [str(name) for name in one["loss"].values]
    for name in names:
        require(name in one["loss"].values, f"numbers: the comparison has no loss {name!r}")
    asked = [name for name in quantities if name in one]
    same = [name for name in asked if one[name].attrs.get("units") == "1" and _constant(one[name].sel(loss=names))]
    shown = [name for name in asked if name not in same] or asked
    text = VENUES[venue][1]
    fig = figure(text, 1.75 * len(names) + 0.35)
    rows = np.ravel(fig.subfigures(len(names), 1, squeeze=False))
    for row, name in zip(rows, names, strict=True):
        axes = row.subplots(1, len(shown), squeeze=False)[0]
        for axis, key in zip(axes, shown, strict=True):
            error = belonging(one, key, "error")
            _dots(axis, one[key].sel(loss=name), one[error].sel(loss=name) if error else None)
            axis.set_title(_heading(one, key, name), fontsize=8, loc="left")
        facts = [f"{long_name(one, key)}: {float(one[key].values.flat[0]):g} on every plane" for key in same]
        head = [_of_loss(one, name), *(facts if shown != asked else [])]
        row.suptitle("; ".join(head), x=0.01, ha="left", fontsize=9)
    legend(rows[-1], *fig.axes[0].get_legend_handles_labels())
    return fig


def _constant(values: "xr.DataArray") -> bool:
    """Whether a count is the same for all nets on all planes, so that dots would say no more than the number."""
    return values.size > 1 and "seed" in values.dims and bool((values == values.values.flat[0]).all())


def _heading(comparison: "xr.Dataset", key: str, loss: str) -> str:
    """A quantity's name with its unit below."""
    unit = str(comparison[key].attrs.get("units", "1"))
    if "loss_units" in comparison.coords:
        unit = unit.replace("unit of the loss", str(comparison.sel(loss=loss)["loss_units"].values))
    short = {"1": "", "length of the direction": "length of direction"}
    short["nats per squared unit of weight"] = "nats / weight²"
    return f"{long_name(comparison, key)}\n{short.get(unit, unit)}".rstrip()


def _of_loss(comparison: "xr.Dataset", loss: str) -> str:
    """What a loss of a comparison is called."""
    known = "loss_long_name" in comparison.coords
    return str(comparison.sel(loss=loss)["loss_long_name"].values) if known else title(loss)


def _dots(axis: "Axes", values: "xr.DataArray", stderr: "xr.DataArray | None") -> None:
    """One quantity: nets side by side."""
    for index, net in enumerate(map(str, values["net"].values)):
        found = np.atleast_1d(values.sel(net=net).values)
        found = found[:1] if "rank" in values.dims else found
        drawn = look(net, index)
        spread = np.linspace(-0.12, 0.12, len(found)) if len(found) > 1 else np.zeros(1)
        axis.plot(index + spread, found, linestyle="none", markersize=4, alpha=0.75, label=title(net), **drawn)
        if len(found) > 1:
            axis.plot([index - 0.28, index + 0.28], [found.mean()] * 2, color=drawn["color"], linewidth=1.6)
        if stderr is not None:
            axis.errorbar(index, found, stderr.sel(net=net).values, color=drawn["color"], capsize=3)
    axis.set_xticks([])
    axis.set_xlim(-0.6, values.sizes["net"] - 0.4)
    axis.set_ylim(0, 1.06 * axis.get_ylim()[1])
    axis.grid(axis="y")
    axis.yaxis.set_major_formatter(lambda value, _: compact(value))
