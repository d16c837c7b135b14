"""Landscapes as filled contours and as shaded surfaces, one panel per net and loss, on shared scales."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kdviz.base.check import require
from kdviz.plots.landscape_panels import (
    RED,
    Places,
    Room,
    chosen,
    compact,
    foot,
    head,
    larger_is_better,
    levels_of,
    numbered,
    on_log_scale,
    panels,
    places,
    smoothness,
    ticks_of,
    titled,
)
from kdviz.plots.relief import bar_axes, fit, flat_axes, place_title, relief, smooth
from kdviz.plots.style import MARK, SEQUENTIAL, ink, outlined, title

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FLAT = Room()
DEEP = Room(left=0.2, between=0.4, bar=1.04, below=0.3, foot=0.2)  # numbers of heights, then the colour bar
CLOSE = DEEP._replace(between=0.1, bar=0.78)  # the colour bar alone, whose numbers are the heights'
DEPTH = 1.0  # of a 3-D box on the page, over its width
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
    fig, cells = panels(len(datasets), len(rows), venue, ratio if alike else 0.8, FLAT)
    axes = []
    for name, line in zip(rows, cells, strict=True):
        levels, logarithmic = levels_of([one[name] for one in datasets])
        for one, cell in zip(datasets, line, strict=True):
            axis = flat_axes(fig, *cell[:4])
            filled = paint(axis, one, name, levels, logarithmic)
            axis.set_aspect("equal" if alike else "auto", adjustable="box")
            axis.locator_params(nbins=4, steps=[1, 2, 5, 10])
            for side in (axis.xaxis, axis.yaxis):
                side.set_major_formatter(lambda value, _: f"{value:g}".replace("-", "\N{MINUS SIGN}"))
            axis.tick_params(labelbottom=cell.lowest, labelleft=cell.first)
            axis.set_xlabel(_named("alpha", one) if cell.lowest else "")
            axis.set_ylabel(_named("beta", one) if cell.first else "", labelpad=2)
            if cell.last:
                scale(fig, filled, axis, levels, _scale_name(datasets, rows, name, logarithmic))
            axes.append(axis)
    head(axes, datasets, rows)
    marks = {label: mark for axis in axes for mark, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    foot(fig, {label: dark(mark) for label, mark in marks.items()}, smoothness(datasets))
    return fig


def paint(axis: "Axes", dataset: "xr.Dataset", name: str, levels: np.ndarray, logarithmic: bool) -> Any:
    """One panel: filled contours with labelled lines and the marks; returns what a colour bar wants.

    Lines run smoothly through the grid's points, between logarithms where the levels step by ratio.
    """
    from matplotlib.colors import BoundaryNorm

    alpha, beta, heights = smooth(*_heights(dataset, name, levels, logarithmic))
    values = (10**heights if logarithmic else heights).clip(levels[0], levels[-1]).T
    filled = axis.contourf(alpha, beta, values, levels=levels, norm=BoundaryNorm(levels, 256), cmap=SEQUENTIAL)
    drawn = {"colors": ink(levels)[1:-1], "linewidths": 0.4, "linestyles": "solid"}
    lines = axis.contour(alpha, beta, values, levels[1:-1], **drawn)
    axis.set(xlim=(alpha[0], alpha[-1]), ylim=(beta[0], beta[-1]))
    marked = _mark(axis, dataset, name)
    _number(axis, lines, levels, marked)
    axis.spines[["top", "right"]].set_visible(True)
    return filled


def scale(fig: "Figure", filled: Any, axis: "Axes", levels: np.ndarray, name: str) -> Any:
    """The colour bar of `paint`, beside the last panel of a line, numbered at the levels that the lines are."""
    bar = fig.colorbar(filled, cax=axis.inset_axes((1.05, 0, 0.055, 1), label="<colorbar>"))
    bar.set_ticks(numbered(levels).tolist())
    bar.ax.yaxis.set_major_formatter(lambda value, _: compact(value))
    bar.ax.minorticks_off()
    bar.ax.tick_params(pad=2)
    bar.set_label(name, labelpad=2)
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
    alone = len(datasets) == 1 < len(rows)  # each surface with a colour bar beside it, which has the heights' numbers
    room = CLOSE if alone else DEEP
    fig, cells = panels(len(datasets), len(rows), venue, DEPTH, room)
    axes = []
    for name, line in zip(rows, cells, strict=True):
        levels, logarithmic = levels_of([one[name] for one in datasets])
        ticks = ticks_of(levels, logarithmic)
        height = np.log10 if logarithmic else np.asarray
        ends = float(height(levels[0])), float(height(levels[-1]))
        for one, cell in zip(datasets, line, strict=True):
            axis: Any = fig.add_subplot(projection="3d")
            axes.append(axis)
            relief(axis, *_heights(one, name, levels, logarithmic), ends)
            _pin(axis, places(one, name), lambda v, h=height, e=levels: h(np.clip(v, e[0], e[-1])))
            axis.set_zticks(height(ticks), labels=["" if alone else compact(tick) for tick in ticks])
            axis.locator_params("x", nbins=2)
            axis.locator_params("y", nbins=2)
            for side, end in ((axis.get_xticklabels(), "right"), (axis.get_yticklabels(), "left")):
                for text in side:
                    text.set_horizontalalignment(end)  # away from the corner in which both meet
            axis.view_init(elevation, azimuth)
            fit(axis, *cell[:4])
            longest = max(len(f"{tick:g}") for tick in (*axis.get_xticks(), *axis.get_yticks()))
            beyond = -11 + 2 * min(longest, 5)  # the longest number
            axis.set_xlabel(r"$\alpha$", labelpad=beyond)
            axis.set_ylabel(r"$\beta$", labelpad=beyond)
            if cell.last:
                beside = cell.left + cell.width + room.bar - 0.62, cell.bottom + 0.15 * cell.height
                bar = bar_axes(fig, *beside, 0.09, 0.7 * cell.height)
                _height_scale(bar, ends, height(ticks), ticks, _scale_name(datasets, rows, name, logarithmic))
    head(axes, datasets, rows)
    for axis, cell in zip(axes, (cell for line in cells for cell in line), strict=True):
        place_title(axis, cell.left - 0.1, cell.bottom + cell.height + room.title - 0.06)
    foot(fig, {}, smoothness(datasets))
    return fig


def _height_scale(axis: "Axes", ends: Any, places: np.ndarray, ticks: np.ndarray, name: str) -> None:
    """The colour bar of a line of surfaces, numbered as their vertical axes are."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    bar = axis.figure.colorbar(ScalarMappable(Normalize(*ends), SEQUENTIAL), cax=axis)
    bar.set_ticks(places.tolist(), labels=[compact(tick) for tick in ticks])
    bar.ax.minorticks_off()
    bar.ax.tick_params(labelsize=7, pad=2)
    bar.set_label(name, fontsize=8, labelpad=2)


def _heights(
    dataset: "xr.Dataset", name: str, levels: np.ndarray, logarithmic: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Alpha, beta and the heights over them, [alpha, beta]: values within the levels, or their logarithms."""
    values = np.clip(dataset[name].transpose("alpha", "beta").values, levels[0], levels[-1])
    return dataset["alpha"].values, dataset["beta"].values, np.log10(values) if logarithmic else values


def _scale_name(datasets: "Sequence[xr.Dataset]", rows: Sequence[str], name: str, logarithmic: bool) -> str:
    """What stands beside a colour bar: the loss, unless the panel's title is the loss, the unit, the kind of scale."""
    unit = str(datasets[0][name].attrs.get("units", "1"))
    heading = len(datasets) == 1 and len(rows) > 1
    bare = (unit if unit != "1" else "") if heading else titled(datasets[0], name)
    return on_log_scale(bare, logarithmic)


def _named(axis: str, dataset: "xr.Dataset") -> str:
    """The symbol of a coordinate, with its unit where that is a length and no share of a direction."""
    unit = str(dataset[axis].attrs.get("units", ""))
    return rf"$\{axis}$ ({unit})" if unit.startswith("distance") else rf"$\{axis}$"


def _rows(datasets: "Sequence[xr.Dataset]", loss: str | Sequence[str]) -> list[str]:
    for one in datasets:
        require("beta" in one.dims, "landscape: the result is a line (dim alpha alone); draw it with --style profile")
    return chosen(datasets, loss)


def _number(axis: "Axes", lines: Any, levels: np.ndarray, marked: list[tuple[float, float]]) -> None:
    """Numbers on some of the levels; none that the frame cuts, something marked hides or another number touches."""
    (left, right), (bottom, top) = axis.get_xlim(), axis.get_ylim()
    inches = np.array(axis.get_window_extent().size) / axis.figure.dpi
    per_unit = inches / (right - left, top - bottom)
    colours = dict(zip(map(compact, levels), ink(levels), strict=True))
    drawn, kept = {"fmt": compact, "fontsize": 6}, []
    taken = [per_unit * place for place in marked]
    for text in axis.clabel(lines, numbered(levels), inline=False, **drawn):
        at = per_unit * text.get_position()
        edge = np.minimum(at - per_unit * (left, bottom), per_unit * (right, top) - at).min()
        near = min((float(np.hypot(*(at - other))) for other in taken), default=np.inf)
        if edge > 0.1 and near > 0.24:
            kept.append(text.get_position())
            taken.append(at)
        text.remove()
    for text in axis.clabel(lines, numbered(levels), inline_spacing=2, manual=kept, **drawn):
        text.set_color(colours[text.get_text()])


def _mark(axis: "Axes", dataset: "xr.Dataset", name: str) -> list[tuple[float, float]]:
    """The trajectory, the marked checkpoints, the trained weights and, as a ring around whatever lies there, the best
    value; returns where they are."""
    found = []
    if "trajectory_alpha" in dataset:
        path = dataset["trajectory_alpha"], dataset["trajectory_beta"]
        axis.plot(*path, "-o", color=RED, markersize=2.2, linewidth=0.9, label="training", zorder=4)
        found += [*zip(*(map(float, one) for one in path), strict=True)]
    if "mark_alpha" in dataset:
        for a, b, text in zip(dataset["mark_alpha"], dataset["mark_beta"], dataset["mark"].values, strict=True):
            axis.plot(a, b, "D", color="white", markeredgecolor="black", markersize=4, markeredgewidth=0.7, zorder=5)
            look = {
                "textcoords": "offset points",
                "ha": "right",
                "va": "top",
                "fontsize": 7,
                "zorder": 6,
                "bbox": PLATE,
            }
            axis.annotate(title(str(text)), (float(a), float(b)), (-5, -5), **look)
            found.append((float(a), float(b)))
    else:
        axis.plot(0, 0, "+", label="trained weights", zorder=6, path_effects=outlined(), **MARK)
        found.append((0.0, 0.0))
    better = larger_is_better(dataset[name])
    best = (dataset[name].argmax if better else dataset[name].argmin)(["alpha", "beta"])
    a, b = float(dataset["alpha"][best["alpha"]]), float(dataset["beta"][best["beta"]])
    ring, text = ("s", "greatest on the grid") if better else ("o", "least on the grid")
    axis.plot(a, b, ring, label=text, zorder=5, path_effects=outlined(), **{**MARK, "markersize": 8})
    return [*found, (a, b)]


def dark(mark: Any) -> Any:
    """A mark as the legend shows it, on white."""
    from matplotlib.lines import Line2D

    if mark.get_color() != MARK["color"]:
        return mark
    size = min(mark.get_markersize(), 6)
    return Line2D([], [], **{**MARK, "color": "black", "marker": mark.get_marker(), "markersize": size})


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
