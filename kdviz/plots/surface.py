"""Surfaces of losses over a plane of logits: 3-D, contours, or the one above the other."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kdviz.base.check import one_of
from kdviz.plots.style import BLACK, SEQUENTIAL, VENUES, box, figure, legend, letter, titles_of

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

LEVELS = 13
A, B = (rf"${name}$ ($\Vert t\Vert$)" for name in "ab")
MARK: dict[str, Any] = {
    "color": "white",
    "markerfacecolor": "none",
    "markersize": 4.5,
    "markeredgewidth": 1.1,
    "clip_on": False,
    "linestyle": "none",
}


def both(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml", scale: str = "own") -> "Figure":
    """Each panel as a 3-D surface, its contours below; four panels to a row.

    Args:
        datasets: surfaces; their panels stand in one figure.
        venue: its text width is used.
        scale: "own" for each panel's own range of values, "shared" for one range.
    """
    panels, limits = _panels(datasets, scale)
    columns = _columns(len(panels), 4)
    rows = -(-len(panels) // columns)
    width = _width(columns, venue)
    fig = figure(width, rows * width / columns * 1.9 + 0.25)
    # a layout of its own for each band: 3-D axes in the same one push the contours' labels off the page
    bands: Any = fig.subfigures(2 * rows, 1)
    tops = []
    for row in range(rows):
        above = bands[2 * row].subplots(1, columns, squeeze=False, subplot_kw={"projection": "3d"})[0]
        below = bands[2 * row + 1].subplots(1, columns, squeeze=False)[0]
        for column, at in enumerate(range(row * columns, (row + 1) * columns)):
            if at >= len(panels):
                above[column].set_axis_off()
                below[column].set_axis_off()
                continue
            _surface(above[column], panels[at], limits[at])
            _contour(bands[2 * row + 1], below[column], panels[at], limits[at], column == 0)
            tops.append(above[column])
    letter(tops, [_name(panel) for panel in panels])
    for axis in tops:  # inside of the axes, whose box leaves room there, so that the page's edge cuts nothing
        axis.set_title(axis.get_title(loc="left"), loc="left", y=0.95)
    _legend(bands[-1])
    return fig


def surface(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml", scale: str = "own") -> "Figure":
    """Each panel as a 3-D surface; arguments as `both`."""
    panels, limits = _panels(datasets, scale)
    fig, axes, _columns = _grid(panels, venue, 0.92, subplot_kw={"projection": "3d"})
    for axis, panel, limit in zip(axes, panels, limits, strict=True):
        _surface(axis, panel, limit)
    letter(axes, [_name(panel) for panel in panels])
    return fig


def contour(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml", scale: str = "own") -> "Figure":
    """Each panel as filled contours with the teacher's logits and the minimum marked; arguments as `both`."""
    panels, limits = _panels(datasets, scale)
    fig, axes, columns = _grid(panels, venue, 0.86)
    for at, (axis, panel, limit) in enumerate(zip(axes, panels, limits, strict=True)):
        _contour(fig, axis, panel, limit, at % columns == 0)
    _legend(fig)
    letter(axes, [_name(panel) for panel in panels])
    return fig


def _grid(panels: list[Any], venue: str, ratio: float, **kwargs: Any) -> tuple["Figure", list[Any], int]:
    columns = _columns(len(panels), 4 if VENUES[venue][1] > 6 else 3)
    width = _width(columns, venue)
    rows = -(-len(panels) // columns)
    fig = figure(width, rows * width / columns * ratio + 0.25)
    axes = list(np.ravel(fig.subplots(rows, columns, **kwargs)))
    for unused in axes[len(panels) :]:
        unused.remove()
    return fig, axes[: len(panels)], columns


def _width(columns: int, venue: str) -> float:
    """Text width, but no panel beyond that of a two-column paper's column."""
    column, text = VENUES[venue]
    return min(column, 3.25) if columns == 1 else text * (1 if columns > 2 else 0.7)


def _columns(count: int, most: int) -> int:
    """The columns that leave the fewest places of the last row empty, with as few rows as there can be."""
    rows = -(-count // most)
    return -(-count // rows)


def _panels(datasets: "Sequence[xr.Dataset]", scale: str) -> tuple[list[Any], list[tuple[float, float]]]:
    one_of("surface", ("own", "shared"), scale=scale)
    panels = [each.isel(panel=at) for each in datasets for at in range(each.sizes["panel"])]
    ranges = [(float(each["value"].min()), float(each["value"].max())) for each in panels]
    whole = (min(low for low, _ in ranges), max(high for _, high in ranges))
    return panels, [whole if scale == "shared" else each for each in ranges]


def _name(panel: "xr.Dataset") -> str:
    temperature = float(panel["temperature"])
    (name,) = titles_of(panel["loss"]).values()
    return name if np.isnan(temperature) else f"{name}, $T={temperature:g}$"


def _unit(panel: "xr.Dataset") -> str:
    """The unit of the panel's loss; nothing where it is a pure number."""
    unit = str(panel["unit"].values)
    return "" if unit == "1" else unit


def _surface(axis: Any, panel: "xr.Dataset", limit: tuple[float, float]) -> None:
    box(axis)
    a, b = np.meshgrid(panel["alpha"], panel["beta"], indexing="ij")
    values = panel["value"].values
    low, high = limit
    height = (high - low) or 1.0
    floor = low - 0.35 * height
    faces = axis.plot_surface(
        a, b, values, color=BLACK, rstride=1, cstride=1, linewidth=0, antialiased=False, shade=False, rasterized=True
    )
    # as one array, which is several times as fast as plot_surface's own list of colours
    faces.set_facecolor(_shaded(values, a[:, 0], low, height)[:-1, :-1].reshape(-1, 4))
    faces.set_edgecolor("none")
    axis.contour(a, b, values, levels=9, zdir="z", offset=floor, cmap=SEQUENTIAL, linewidths=0.6)
    edge = float(a[-1, 0])
    axis.set(xlim=(-edge, edge), ylim=(-edge, edge), zlim=(floor, high))
    axis.set(xticks=(-edge, 0, edge), yticks=(-edge, 0, edge))
    axis.set_xlabel(A, labelpad=-8)
    axis.set_ylabel(B, labelpad=-8)
    axis.text2D(1.06, 0.9, _unit(panel) or "loss", transform=axis.transAxes, fontsize=7, ha="right", va="bottom")
    axis.zaxis.set_major_locator(_ticks())
    axis.view_init(elev=26, azim=-56)
    axis.set_box_aspect((1, 1, 0.85), zoom=1.22)


def _shaded(values: np.ndarray, grid: np.ndarray, low: float, height: float) -> np.ndarray:
    """The map's colours, darker where the surface turns from the light: depth that a grey print keeps."""
    import matplotlib as mpl
    from matplotlib.colors import LightSource

    colours = mpl.colormaps[SEQUENTIAL]((values - low) / height)
    step = float(grid[1] - grid[0]) / float(np.ptp(grid))
    light = LightSource(azdeg=300, altdeg=50).hillshade((values - low) / height, vert_exag=0.6, dx=step, dy=step)
    colours[..., :3] *= 0.72 + 0.28 * light[..., None]
    return colours


def _contour(fig: Any, axis: Any, panel: "xr.Dataset", limit: tuple[float, float], first: bool) -> None:
    a, b, values = panel["alpha"].values, panel["beta"].values, panel["value"].values
    levels = np.linspace(limit[0], limit[1] + 1e-12, LEVELS)
    filled = axis.contourf(a, b, values.T, levels=levels, cmap=SEQUENTIAL)
    axis.contour(a, b, values.T, levels=levels, colors="white", linewidths=0.35, linestyles="solid", alpha=0.7)
    axis.plot(0, 0, "+", color="black", markersize=6, markeredgewidth=1.0)
    marks = {"minimum": ("o", (panel["minimum_alpha"], panel["minimum_beta"])), "$t$": ("+", (0.0, 0.0))}
    if "student_position" in panel:
        marks = {"student": ("^", panel["student_position"].values), **marks}
    for name, (marker, (x, y)) in marks.items():
        axis.plot(float(x), float(y), marker, label=name, **MARK)
    axis.set(aspect="equal", xlabel=A, xlim=(a[0], a[-1]), ylim=(b[0], b[-1]))
    axis.set(xticks=(a[0], 0, a[-1]), yticks=(b[0], 0, b[-1]))
    if first:
        axis.set_ylabel(B)
    bar = fig.colorbar(filled, ax=axis, fraction=0.05, pad=0.03, aspect=18)
    bar.outline.set_linewidth(0.4)
    bar.ax.tick_params(labelsize=7, width=0.5, size=2)
    bar.locator = _ticks()
    bar.update_ticks()
    bar.ax.set_title(_unit(panel) or " ", fontsize=7, pad=3)


def _legend(fig: Any) -> None:
    """What the marks on the contours are, once for all panels; a thin black edge lets them stand on yellow too."""
    from matplotlib.lines import Line2D
    from matplotlib.patheffects import withStroke

    found: dict[str, Any] = {}
    for axis in fig.axes:
        for line in axis.lines if axis.name == "rectilinear" else ():
            line.set_path_effects([withStroke(linewidth=2.2, foreground="black")])
            black = {**MARK, "color": "black", "clip_on": True, "marker": line.get_marker()}
            found.setdefault(str(line.get_label()), Line2D([], [], **black))
    drawn = {name: line for name, line in found.items() if not name.startswith("_")}
    legend(fig, list(drawn.values()), list(drawn), handlelength=1.0)


def _ticks() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(4)
