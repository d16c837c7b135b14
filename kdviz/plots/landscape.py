"""Landscapes as filled contours and as shaded surfaces, one panel per net and loss, on shared scales."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kdviz.base.check import require
from kdviz.plots.landscape_panels import (
    RED,
    Places,
    chosen,
    compact,
    head,
    larger_is_better,
    levels_of,
    panels,
    places,
    thin,
    ticks_of,
    titled,
)
from kdviz.plots.style import SEQUENTIAL, box, title

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PLATE = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}


def contour(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml", loss: str | Sequence[str] = ()) -> "Figure":
    """Contours of every loss (rows) of every net (columns), at levels that step by ratio where a loss is positive.

    A row shares its levels, colours and bar. The trained weights are marked by a cross, the least value on the grid by
    a star (where larger is better, the greatest by a triangle); a trajectory and further checkpoints
    are drawn where the result has them.

    Args:
        datasets: kind "landscape", "plane" or "trajectory"; attrs["label"] names the net. Optional variables:
            trajectory_alpha, trajectory_beta (a dim of their own, in order); mark_alpha, mark_beta (dim mark, whose
            coordinate holds the names).
        venue: its column and text widths set the size.
        loss: which variables to draw [default: all but the accuracy].
    Raises:
        KdvizError: nothing to draw, or a line instead of a plane.
    Source: ours, after Li et al. 2018, fig. 5.
    """
    rows = _rows(datasets, loss)
    extents = [[float(np.ptp(one[name].values)) for name in ("alpha", "beta")] for one in datasets]
    ratio = max(b / a if a > 0 else 1.0 for a, b in extents)
    alike = 0.5 < ratio < 2  # a run's plane may be too oblong to be drawn true to scale
    fig, axes, abreast = panels(datasets, rows, venue, ratio if alike else 0.8)
    fig.set_layout_engine("compressed")  # made for panels of fixed aspect; "constrained" cuts their labels off
    for name, line in zip(rows, axes, strict=True):
        levels, _log = levels_of([one[name] for one in datasets])
        filled = None
        for axis, one in zip(line, datasets, strict=True):
            filled = paint(axis, one, name, levels)
            axis.set_aspect("equal" if alike else "auto", adjustable="box")
        scale(fig, filled, line[-1], levels).set_label(titled(datasets[0], name))
    head(axes, datasets, rows)
    for axis in axes.flat:
        axis.locator_params(nbins=4)
        axis.tick_params(labelbottom=False, labelleft=False)
    for axis in axes.flat[-abreast:]:  # read row by row, the last ones are the lowest of every column
        axis.set_xlabel(_named("alpha", datasets[0]))
        axis.tick_params(labelbottom=True)
    for axis in axes.flat[::abreast]:
        axis.set_ylabel(_named("beta", datasets[0]))
        axis.tick_params(labelleft=True)
    marks = {label: mark for axis in axes.flat for mark, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    fig.legend(marks.values(), marks, loc="outside lower center", ncols=4, handletextpad=0.3, columnspacing=1.2)
    return fig


def paint(axis: "Axes", dataset: "xr.Dataset", name: str, levels: np.ndarray) -> Any:
    """One panel: filled contours with labelled lines and the marks; returns what a colour bar wants."""
    from matplotlib.colors import BoundaryNorm

    values = np.clip(dataset[name].transpose("beta", "alpha"), levels[0], levels[-1])
    grid = dataset["alpha"], dataset["beta"], values
    filled = axis.contourf(*grid, levels=levels, norm=BoundaryNorm(levels, 256), cmap=SEQUENTIAL)
    lines = axis.contour(*grid, levels[1:-1], colors="white", linewidths=0.4, linestyles="solid")
    _number(axis, lines, levels, places(dataset, name))
    _mark(axis, dataset, name)
    axis.spines[["top", "right"]].set_visible(True)
    return filled


def scale(fig: "Figure", filled: Any, axis: "Axes", levels: np.ndarray) -> Any:
    """The colour bar of `paint`, beside the last panel of a row."""
    bar = fig.colorbar(filled, cax=axis.inset_axes((1.05, 0, 0.055, 1)))
    bar.set_ticks(thin(levels, 7).tolist())
    bar.ax.yaxis.set_major_formatter(lambda value, _: compact(value))
    bar.ax.minorticks_off()
    return bar


def surface(
    datasets: "Sequence[xr.Dataset]",
    *,
    venue: str = "icml",
    loss: str | Sequence[str] = (),
    elevation: float = 30.0,
    azimuth: float = -58.0,
) -> "Figure":
    """Shaded surfaces of every loss (rows) of every net (columns); heights on a log scale where a loss is positive.

    Checkpoints that the result marks stand on pins, a trajectory lies on the surface.

    Args:
        datasets, venue, loss: as `contour`.
        elevation, azimuth: of the eye, in degrees.
    Raises:
        KdvizError: nothing to draw, or a line instead of a plane.
    Source: ours, after Li et al. 2018, fig. 1.
    """
    rows = _rows(datasets, loss)
    fig, axes, _abreast = panels(datasets, rows, venue, 0.95, subplot_kw={"projection": "3d"})
    for name, line in zip(rows, axes, strict=True):
        levels, logarithmic = levels_of([one[name] for one in datasets])
        ticks = ticks_of(levels, logarithmic)
        height = np.log10 if logarithmic else np.asarray
        for axis, one in zip(line, datasets, strict=True):
            values = one[name].transpose("beta", "alpha").values
            _relief(axis, one, height(np.clip(values, levels[0], levels[-1])), *height(levels[[0, -1]]))
            _pin(axis, places(one, name), lambda v, h=height, e=levels: h(np.clip(v, e[0], e[-1])))
            axis.set_zticks(height(ticks), [compact(tick) for tick in ticks])
            axis.set_xlabel(r"$\alpha$", labelpad=-8)
            axis.set_ylabel(r"$\beta$", labelpad=-8)
            axis.locator_params("x", nbins=2)
            axis.locator_params("y", nbins=2)
            axis.view_init(elevation, azimuth)
            axis.set_box_aspect((1, 1, 0.8), zoom=1.0)
            box(axis)
    head(axes, datasets, rows, units=True)
    return fig


def _named(axis: str, dataset: "xr.Dataset") -> str:
    """The symbol of a coordinate, with its unit where that is a length and no share of a direction."""
    unit = str(dataset[axis].attrs.get("units", ""))
    return rf"$\{axis}$ ({unit})" if unit.startswith("distance") else rf"$\{axis}$"


def _rows(datasets: "Sequence[xr.Dataset]", loss: str | Sequence[str]) -> list[str]:
    for one in datasets:
        require("beta" in one.dims, "landscape: the result is a line (dim alpha alone); draw it with --style profile")
    return chosen(datasets, loss)


def _number(axis: "Axes", lines: Any, levels: np.ndarray, marked: Places | None) -> None:
    """Numbers on some of the levels, dark on light colours; none that the frame cuts or something marked hides."""
    (left, right), (bottom, top) = axis.get_xlim(), axis.get_ylim()
    nets = marked or (np.empty(0), np.empty(0))
    shown, light = thin(levels[1:-1], 6), {compact(level) for level in levels[round(0.75 * len(levels)) :]}
    drawn, kept = {"fmt": compact, "fontsize": 6}, []
    for text in axis.clabel(lines, shown, inline=False, **drawn):
        x, y = text.get_position()
        edge = min(x - left, right - x) / (right - left), min(y - bottom, top - y) / (top - bottom)
        distance = np.hypot((nets[0] - x) / (right - left), (nets[1] - y) / (top - bottom)).min(initial=1)
        if min(edge) > 0.04 and distance > 0.07:
            kept.append((x, y))
        text.remove()
    for text in axis.clabel(lines, shown, inline_spacing=2, manual=kept, **drawn):
        text.set_color("#222222" if text.get_text() in light else "white")


def _mark(axis: "Axes", dataset: "xr.Dataset", name: str) -> None:
    """The trajectory, the marked checkpoints, the trained weights and the best value."""
    if "trajectory_alpha" in dataset:
        path = dataset["trajectory_alpha"], dataset["trajectory_beta"]
        axis.plot(*path, "-o", color=RED, markersize=2.2, linewidth=0.9, label="training", zorder=4)
    if "mark_alpha" in dataset:
        for a, b, text in zip(dataset["mark_alpha"], dataset["mark_beta"], dataset["mark"].values, strict=True):
            axis.plot(a, b, "D", color="white", markeredgecolor="black", markersize=4, markeredgewidth=0.7, zorder=5)
            axis.annotate(
                title(str(text)),
                (float(a), float(b)),
                (-5, -5),
                textcoords="offset points",
                ha="right",
                va="top",
                fontsize=7,
                zorder=6,
                bbox=PLATE,
            )
    else:
        axis.plot(
            0,
            0,
            "P",
            color="white",
            markeredgecolor="black",
            markersize=5.5,
            markeredgewidth=0.7,
            linestyle="none",
            label="trained weights",
            zorder=5,
        )
    better = larger_is_better(dataset[name])
    best = (dataset[name].argmax if better else dataset[name].argmin)(["alpha", "beta"])
    a, b = dataset["alpha"][best["alpha"]], dataset["beta"][best["beta"]]
    star, text = ("^", "greatest on the grid") if better else ("*", "least on the grid")
    axis.plot(
        a,
        b,
        star,
        color=RED,
        markeredgecolor="white",
        markersize=6,
        markeredgewidth=0.5,
        linestyle="none",
        label=text,
        zorder=6,
    )


def _relief(axis: Any, dataset: "xr.Dataset", z: np.ndarray, low: float, high: float) -> None:
    """A surface coloured by height and lit from the left, with its contours on the floor."""
    import matplotlib as mpl
    from matplotlib.colors import LightSource, Normalize

    a, b = np.meshgrid(dataset["alpha"], dataset["beta"])
    colours = mpl.colormaps[SEQUENTIAL](Normalize(low, high)(z))[..., :3]
    steepness = 0.5 * float(a.max() - a.min()) / max(high - low, 1e-12)
    lit = LightSource(azdeg=225, altdeg=45).shade_rgb(
        colours, z, blend_mode="soft", vert_exag=steepness, dx=float(a[0, 1] - a[0, 0]), dy=float(b[1, 0] - b[0, 0])
    )
    floor = low - 0.3 * (high - low)
    axis.contour(a, b, z, 10, zdir="z", offset=floor, cmap=SEQUENTIAL, linewidths=0.6)
    axis.plot_surface(
        a,
        b,
        z,
        facecolors=lit,
        rcount=len(b),
        ccount=len(a),
        linewidth=0.1,
        edgecolor=(0, 0, 0, 0.2),
        antialiased=True,
        shade=False,
    )
    axis.set_zlim(floor, high)


def _pin(axis: Any, found: Places | None, height: Any) -> None:
    """The trajectory on a surface, or its nets on pins as high as the axis; drawn over the surface, that they show."""
    if found is None:
        return
    alpha, beta, values, names, _run = found
    if found.run:
        stops = [i for i, epoch in enumerate(names) if epoch]
        look = {"color": RED, "markersize": 2.2, "linewidth": 0.9, "zorder": 10}
        axis.plot(alpha, beta, height(values), "-o", markevery=stops, **look)
        return
    top = axis.get_zlim()[1]
    for a, b, z, text in zip(alpha, beta, height(values), names, strict=True):
        axis.plot([a, a], [b, b], [z, top], color="black", linewidth=0.7, zorder=10)
        axis.plot(a, b, z, "D", color="white", markeredgecolor="black", markersize=3.5, markeredgewidth=0.7, zorder=11)
        axis.text(a, b, top, text, ha="center", va="bottom", fontsize=7, zorder=12, bbox=PLATE)
