"""Shaded surfaces in 3-D boxes, and measured grids drawn smoothly: shared by landscapes and surfaces of logits."""

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from kdviz.plots.style import BLACK, SEQUENTIAL

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Grid = tuple[np.ndarray, np.ndarray, np.ndarray]  # x [n], y [m] and the values over them [n, m]
POINTS = 81  # along an axis, from which on a surface at a column's width shows no facets
VIEW, HEIGHT = {"elev": 28.0, "azim": -57.0}, 0.9  # of a box, over its width


def is_fine(count: int, points: int = POINTS) -> bool:
    """Whether an axis of so many points is drawn as it is: it shows no facets, or it is too short for a spline."""
    return count < 4 or 2 * count > points


def smooth(x: np.ndarray, y: np.ndarray, values: np.ndarray, points: int = POINTS) -> Grid:
    """A measured grid on a finer one that holds all of its points, by cubic splines through them.

    Args:
        x, y: the grid, increasing, [n] and [m].
        values: [n, m].
        points: how many the finer grid has along an axis at least; a grid of half of them is left as it is.
    Returns:
        Finer x, y and values; those given where they are fine enough, too few for a spline (4) or not finite. The
        splines stay within the range of the measured values.

    >>> x = np.linspace(-1, 1, 5)
    >>> fine = smooth(x, x, x[:, None] ** 3 + x, 17)
    >>> fine[0][:4].tolist(), round(float(fine[2][2, 0]), 9)  # at x = -.75, y = -1
    ([-1.0, -0.875, -0.75, -0.625], -1.421875)
    """
    if any(is_fine(len(one), points) for one in (x, y)) or not np.isfinite(values).all():
        return x, y, values
    parts = [-(-(points - 1) // (len(one) - 1)) for one in (x, y)]
    from scipy.interpolate import RectBivariateSpline

    fine_x, fine_y = (
        np.interp(np.arange((len(one) - 1) * part + 1), np.arange(len(one)) * part, one)
        for one, part in zip((x, y), parts, strict=True)
    )
    found = np.asarray(RectBivariateSpline(x, y, values)(fine_x, fine_y))
    return fine_x, fine_y, found.clip(values.min(), values.max())


def relief(
    axis: Any, x: np.ndarray, y: np.ndarray, heights: np.ndarray, limits: tuple[float, float], *, floor: bool = True
) -> None:
    """A surface coloured by height, drawn smoothly through the points measured.

    Args:
        axis: of three dimensions.
        x, y, heights: the measured grid, [n], [m] and [n, m].
        limits: the heights at the ends of the colour scale and of the axis.
        floor: leave room below and draw level lines there.
    """
    box(axis)
    low, high = limits
    fine_x, fine_y, z = smooth(x, y, heights)
    plane = np.meshgrid(fine_x, fine_y, indexing="ij")
    drawn = {"rstride": 1, "cstride": 1, "linewidth": 0, "antialiased": False, "shade": False, "rasterized": True}
    faces = axis.plot_surface(*plane, z, color=BLACK, **drawn)
    # as one array, which is several times as fast as plot_surface's own list of colours
    faces.set_facecolor(_shaded(fine_x, fine_y, z, limits)[:-1, :-1].reshape(-1, 4))
    faces.set_edgecolor("none")
    bottom = low - 0.3 * ((high - low) or 1.0) if floor else low
    if floor:
        levels = np.linspace(low, high, 12)[1:-1]
        lines = {"zdir": "z", "offset": bottom, "cmap": SEQUENTIAL, "vmin": low, "vmax": high, "linewidths": 0.6}
        axis.contour(*plane, z, levels, **lines)
    axis.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]), zlim=(bottom, high))
    axis.view_init(**VIEW)
    axis.set_box_aspect((1, 1, HEIGHT))


def _shaded(x: np.ndarray, y: np.ndarray, z: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """The colour scale's colours [n, m, 4], up to a quarter darker where the surface turns from the light.

    Hue and order stay those of the colour bar; a grey print keeps the depth.
    """
    import matplotlib as mpl
    from matplotlib.colors import LightSource

    low, high = limits
    level = (z - low) / ((high - low) or 1.0)
    colours = mpl.colormaps[SEQUENTIAL](level)
    step = float(x[1] - x[0]) / float(np.ptp(x)), float(y[1] - y[0]) / float(np.ptp(y))
    light = LightSource(azdeg=300, altdeg=50).hillshade(level, vert_exag=0.6, dx=step[1], dy=step[0])
    colours[..., :3] *= 0.75 + 0.25 * light[..., None]
    return colours


def box(axis: Any) -> None:
    """Pale panes, thin lines and close ticks for a 3-D axis, so that the surface alone has weight."""
    for side in (axis.xaxis, axis.yaxis, axis.zaxis):
        side.set_pane_color((0.97, 0.97, 0.97, 1.0))
        side._axinfo["grid"].update({"color": "#d9d9d9", "linewidth": 0.4})
        side.line.set_linewidth(0.6)
        side._axinfo["tick"].update({"inward_factor": 0.1, "outward_factor": 0.1})
    axis.tick_params(labelsize=7, pad=-3)
    axis.set_facecolor("none")


def fit(axis: Any, left: float, bottom: float, width: float, height: float) -> None:
    """Place a 3-D axis so that its box, labels apart, fills a rectangle of the page (inches) as far as it can.

    Limits, aspect and view have to be set before: the box is projected by them.
    """
    fig = axis.figure
    page = fig.get_figwidth(), fig.get_figheight()
    axis.set_position((0, 0, 1 / page[0], 1 / page[1]))  # a square inch, to measure in
    corners = np.array([*product(axis.get_xlim(), axis.get_ylim(), axis.get_zlim(), (1.0,))])
    x, y, _z, w = axis.get_proj() @ corners.T  # homogeneous
    found = axis.transData.transform(np.column_stack([x / w, y / w])) / fig.dpi
    low, size = found.min(0), np.ptp(found, axis=0)
    side = float((np.array([width, height]) / size).min())
    x, y = np.array([left + width / 2, bottom + height / 2]) - side * (low + size / 2)
    axis.set_position((x / page[0], y / page[1], side / page[0], side / page[1]))


def flat_axes(fig: Any, left: float, bottom: float, width: float, height: float, label: str = "") -> "Axes":
    """Plain axes on a rectangle of the page, in inches; `label` says what they are for."""
    page = fig.get_figwidth(), fig.get_figheight()
    return fig.add_axes((left / page[0], bottom / page[1], width / page[0], height / page[1]), label=label)


def bar_axes(fig: Any, left: float, bottom: float, width: float, height: float) -> "Axes":
    """Axes for a colour bar, as `flat_axes`, under the name that matplotlib's own have."""
    return flat_axes(fig, left, bottom, width, height, "<colorbar>")


def place_title(axis: Any, left: float, top: float) -> None:
    """Move a panel's title so that it begins and ends at a place of the page, in inches."""
    fig = axis.figure
    x, y = axis.transAxes.inverted().transform(fig.dpi * np.array([left, top]))
    axis.set_title(axis.get_title(loc="left"), loc="left", x=x, y=y, va="top", pad=0)
