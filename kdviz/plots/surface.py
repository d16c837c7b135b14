"""Surfaces of losses over a plane of logits: 3-D, contours, or the one above the other.

Every panel has its place in inches, so that columns stand exactly below each other and nothing leaves the page.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kdviz.base.check import one_of
from kdviz.plots.relief import bar_axes, fit, flat_axes, place_title, relief
from kdviz.plots.style import MARK, SEQUENTIAL, VENUES, figure, ink, legend, letter, outlined, titles_of

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

LEVELS = 13
A, B = (rf"${name}$ ($\Vert t\Vert$)" for name in "ab")
# Inches: of a title, below a 3-D box and beside it (its labels), left of the first contour, right of each (its colour
# bar), below one (its labels), of the legend.
TITLE, BELOW_BOX, BESIDE_BOX, LEFT, BAR, BELOW, LEGEND = 0.24, 0.34, 0.32, 0.42, 0.58, 0.42, 0.24
DEPTH = 0.9  # of a 3-D box on the page, over its width


def both(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml", scale: str = "own") -> "Figure":
    """Each panel as a 3-D surface, its contours below; four panels to a row.

    Args:
        datasets: surfaces; their panels stand in one figure.
        venue: its text width is used.
        scale: "own" for each panel's own range of values, "shared" for one range.
    """
    return _drawn(datasets, venue, scale, boxes=True, contours=True)


def surface(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml", scale: str = "own") -> "Figure":
    """Each panel as a 3-D surface over its level lines; arguments as `both`."""
    return _drawn(datasets, venue, scale, boxes=True, contours=False)


def contour(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml", scale: str = "own") -> "Figure":
    """Each panel as filled contours with the teacher's logits and the minimum marked; arguments as `both`."""
    return _drawn(datasets, venue, scale, boxes=False, contours=True)


def _drawn(datasets: "Sequence[xr.Dataset]", venue: str, scale: str, *, boxes: bool, contours: bool) -> "Figure":
    panels, levels = _panels(datasets, scale)
    columns = _columns(len(panels), 4)
    rows = -(-len(panels) // columns)
    width = _width(columns, venue)
    pitch = (width - LEFT) / columns
    side, across = pitch - BAR, pitch - BESIDE_BOX  # of a contour, of a 3-D box
    deep = boxes * (DEPTH * across + BELOW_BOX)
    row = TITLE + deep + contours * (side + BELOW)
    fig = figure(width, rows * row + contours * LEGEND)
    fig.set_layout_engine("none")
    heads: list[Any] = []
    for at, (panel, steps) in enumerate(zip(panels, levels, strict=True)):
        left = LEFT + at % columns * pitch
        top = fig.get_figheight() - at // columns * row - TITLE
        if boxes:
            heads.append(axis := fig.add_subplot(projection="3d"))
            _surface(axis, panel, steps, floor=not contours)
            fit(axis, left - 0.1, top - DEPTH * across, across, DEPTH * across)
        if contours:
            axis = flat_axes(fig, left, top - deep - side, side, side)
            _contour(axis, panel, steps, first=at % columns == 0)
            _bar(axis, bar_axes(fig, left + side + 0.05, top - deep - side, 0.07, side), panel, steps)
            heads += [] if boxes else [axis]
    letter(heads, [_name(panel) for panel in panels])
    for at, axis in enumerate(heads):
        place_title(axis, LEFT + at % columns * pitch, fig.get_figheight() - at // columns * row - 0.06)
    if contours:
        _legend(fig)
    return fig


def _width(columns: int, venue: str) -> float:
    """Text width, but no panel beyond that of a two-column paper's column."""
    column, text = VENUES[venue]
    return min(column, 3.25) if columns == 1 else text * (1 if columns > 2 else 0.7)


def _columns(count: int, most: int) -> int:
    """The columns that leave the fewest places of the last row empty, with as few rows as there can be."""
    rows = -(-count // most)
    return -(-count // rows)


def _panels(datasets: "Sequence[xr.Dataset]", scale: str) -> tuple[list[Any], list[np.ndarray]]:
    """The panels, and the round levels that cover each one's values, or those of all."""
    one_of("surface", ("own", "shared"), scale=scale)
    panels = [each.isel(panel=at) for each in datasets for at in range(each.sizes["panel"])]
    ranges = [(float(each["value"].min()), float(each["value"].max())) for each in panels]
    whole = (min(low for low, _ in ranges), max(high for _, high in ranges))
    return panels, [_levels(*(whole if scale == "shared" else each)) for each in ranges]


def _levels(low: float, high: float) -> np.ndarray:
    from matplotlib.ticker import MaxNLocator

    return np.asarray(MaxNLocator(LEVELS, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high))


def _named(levels: np.ndarray) -> np.ndarray:
    """Three to five of the levels, so that each number stands on a line of the drawing."""
    every = -(-(len(levels) - 2) // 4)
    return levels[len(levels) % 2 :: every] if every > 1 else levels


def _name(panel: "xr.Dataset") -> str:
    temperature = float(panel["temperature"])
    (name,) = titles_of(panel["loss"]).values()
    return name if np.isnan(temperature) else f"{name}, $T={temperature:g}$"


def _unit(panel: "xr.Dataset") -> str:
    """The unit of the panel's loss; where it is a pure number, what it is."""
    unit = str(panel["unit"].values)
    return "loss" if unit == "1" else unit


def _surface(axis: Any, panel: "xr.Dataset", levels: np.ndarray, *, floor: bool) -> None:
    a, b = panel["alpha"].values, panel["beta"].values
    relief(axis, a, b, panel["value"].values, (levels[0], levels[-1]), floor=floor)
    edge = float(a[-1])
    axis.set(xticks=(-edge, 0, edge), yticks=(-edge, 0, edge))
    axis.set_zticks([one for one in _named(levels) if floor or one > levels[0]])  # the corner holds b's last number
    axis.set_xlabel(A, labelpad=-8)
    axis.set_ylabel(B, labelpad=-8)
    axis.text(edge, edge, levels[-1], _unit(panel), fontsize=7, ha="center", va="bottom")


def _contour(axis: Any, panel: "xr.Dataset", levels: np.ndarray, *, first: bool) -> None:
    a, b, values = panel["alpha"].values, panel["beta"].values, panel["value"].values
    axis.contourf(a, b, values.T, levels=levels, cmap=SEQUENTIAL)
    axis.contour(a, b, values.T, levels=levels[1:-1], colors=ink(levels)[1:-1], linewidths=0.35, linestyles="solid")
    marks = {"minimum": ("o", (panel["minimum_alpha"], panel["minimum_beta"])), "$t$": ("+", (0.0, 0.0))}
    if "student_position" in panel:
        marks = {"student": ("^", panel["student_position"].values), **marks}
    for name, (marker, (x, y)) in marks.items():
        axis.plot(float(x), float(y), marker, label=name, path_effects=outlined(), **MARK)
    axis.set(aspect="equal", xlabel=A, xlim=(a[0], a[-1]), ylim=(b[0], b[-1]))
    axis.set(xticks=(a[0], 0, a[-1]), yticks=(b[0], 0, b[-1]))
    axis.tick_params(labelleft=first)
    if first:
        axis.set_ylabel(B, labelpad=1)


def _bar(axis: Any, beside: Any, panel: "xr.Dataset", levels: np.ndarray) -> None:
    """The colour bar of a contour, numbered at lines of the drawing."""
    bar = axis.figure.colorbar(axis.collections[0], cax=beside, ticks=_named(levels))
    bar.outline.set_linewidth(0.4)
    bar.ax.tick_params(labelsize=7, width=0.5, size=2, pad=2)
    bar.set_label(_unit(panel), fontsize=8, labelpad=2)


def _legend(fig: Any) -> None:
    """What the marks on the contours are, once for all panels."""
    from matplotlib.lines import Line2D

    found: dict[str, Any] = {}
    for axis in fig.axes:
        for line in axis.lines if axis.name == "rectilinear" else ():
            black = {**MARK, "color": "black", "clip_on": True, "marker": line.get_marker()}
            found.setdefault(str(line.get_label()), Line2D([], [], **black))
    drawn = {name: line for name, line in found.items() if not name.startswith("_")}
    legend(fig, list(drawn.values()), list(drawn), handlelength=1.0)
