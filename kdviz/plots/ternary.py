"""Three classes as a triangle: where criteria mislead, and the paths that descent takes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kdviz.plots.style import BLACK, COLOURS, DASHES, GREY, SEQUENTIAL, VENUES, figure, legend, letter, titles_of

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

# Corners of the triangle: class 1 at the lower left, 2 at the lower right, 3 at the top.
CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])
MISLED, PREFERRED = "#d55e00", "wrong, yet preferred to the right student"
CELL = "#dfe8f1"
# of a path; open, so that several on one place, and the teacher within, are seen
END: dict[str, Any] = {"marker": "s", "markersize": 7, "markerfacecolor": "none", "linestyle": "none", "clip_on": False}


def maps(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml") -> "Figure":
    """Level lines of each criterion over the students; hatched: preferred to the right student, and wrong."""
    (ternary, *_others) = datasets
    criteria = titles_of(ternary["criterion"])
    fig, axes = _triangles(len(criteria), VENUES[venue][1], lines=1)
    mesh = _mesh(ternary["probability"].values)
    for axis, name in zip(axes, criteria, strict=True):
        one = ternary.sel(criterion=name)
        _map(axis, one, mesh)
        _note(axis, f"misled: {100 * float(one['area']):.1f} %")
    _mark(axes, ternary, "right student", _explained())
    letter(axes, criteria.values())
    return fig


def _explained() -> list[Any]:
    """What the hatching and the lines mean, as handles of the legend."""
    import matplotlib as mpl
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    small, large = mpl.colormaps[SEQUENTIAL]([0.05, 0.95])
    return [
        Patch(facecolor=(*_rgb(MISLED), 0.45), edgecolor=BLACK, linewidth=0, hatch="//////", label=PREFERRED),
        Line2D([], [], color=BLACK, linewidth=1.0, label="loss of the right student"),
        Line2D([], [], color=small, linewidth=1.0, label="smaller loss"),
        Line2D([], [], color=large, linewidth=1.0, label="larger loss"),
    ]


def _rgb(colour: str) -> tuple[float, float, float]:
    from matplotlib.colors import to_rgb

    return to_rgb(colour)


def _map(axis: Any, one: "xr.Dataset", mesh: Any) -> None:
    values, level = one["loss"].values, float(one["level"])
    low, high = np.quantile(values, [0, 0.95])
    levels = np.unique(np.concatenate([np.linspace(low, level, 4)[1:-1], np.linspace(level, high, 6)[1:]]))
    axis.tricontour(mesh, values, levels=levels, cmap=SEQUENTIAL, linewidths=0.7)
    axis.tricontour(mesh, values, levels=[level], colors=BLACK, linewidths=1.0, linestyles="solid")
    if one["misled"].values.any():
        inside = one["misled"].values.astype(float)
        axis.tricontourf(mesh, inside, levels=[0.5, 1.5], colors=[MISLED], alpha=0.45)
        axis.tricontourf(mesh, inside, levels=[0.5, 1.5], colors="none", hatches=["//////"])


def paths(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml") -> "Figure":
    """Descent of the same starts under each loss; ends as dots, and the first step from which each stays right."""
    (descent, *_others) = datasets
    losses = titles_of(descent["loss"])
    fig, axes = _triangles(len(losses), VENUES[venue][1], lines=3)
    label = int(descent.attrs["label"])
    for axis, name in zip(axes, losses, strict=True):
        one = descent.sel(loss=name)
        axis.fill(*_cell(label).T, color=CELL, zorder=0)
        for start in range(one.sizes["start"]):
            track = one["probability"].isel(start=start).values @ CORNERS
            dash = DASHES[start % len(DASHES)]
            colour = COLOURS[start % len(COLOURS)]
            axis.plot(*track.T, color=colour, linestyle=dash, linewidth=1.1)
            axis.plot(*track[0], "o", color=colour, markersize=3.5, clip_on=False)
            axis.plot(*track[-1], zorder=6, color=colour, **END)
        _note(axis, _summary(one))
    _mark(axes, descent, None, _descents(label))
    letter(axes, losses.values())
    return fig


def _descents(label: int) -> list[Any]:
    """What stands on the triangles of a descent, as handles of the legend."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    return [
        Line2D([], [], color=GREY, linewidth=1.1, marker="o", markersize=3.5, label="a start and its path"),
        Line2D([], [], color=GREY, label="end", **END),
        Patch(color=CELL, label=f"class {label + 1}, the right one, is largest"),
    ]


def _summary(one: "xr.Dataset") -> str:
    """How long the argmax stayed wrong, how often it changed, and how far from the teacher the end is."""
    first = one["right_from"].values
    late = "never right" if (first < 0).any() else f"right from step {int(first.max())} at the latest"
    return (
        f"{late}\n{int(one['changes'].sum())} changes of class\nend {float(one['to_teacher'].max()):.2f} from teacher"
    )


def _cell(winner: int) -> np.ndarray:
    """The students whose argmax is `winner`: a corner, the middles of its two sides, and the centre."""
    others = [at for at in range(3) if at != winner]
    corner, (left, right) = CORNERS[winner], CORNERS[others]
    return np.array([corner, (corner + left) / 2, CORNERS.mean(0), (corner + right) / 2])


def _triangles(count: int, width: float, lines: int) -> tuple["Figure", list[Any]]:
    """Empty triangles in a row, with room for `lines` of text under each."""
    inch = 1.2 * count / width  # of the triangle's side
    foot = (0.2 + 0.13 * lines) * inch
    fig = figure(width, (1.0 + foot) / inch + 0.5)
    axes = list(np.ravel(fig.subplots(1, count)))
    for axis in axes:
        axis.set_axis_off()
        axis.set(aspect="equal", xlim=(-0.1, 1.1), ylim=(-foot, 1.0))
        axis.plot(*np.vstack([CORNERS, CORNERS[:1]]).T, color=BLACK, linewidth=0.8, clip_on=False)
        for pair in ((0, 1), (1, 2), (2, 0)):
            middle = CORNERS[list(pair)].mean(0)
            axis.plot(*np.vstack([middle, CORNERS.mean(0)]).T, color=GREY, linewidth=0.6, linestyle=DASHES[2])
        for at, (x, y) in enumerate(CORNERS):
            offset = (0, 3) if at == 2 else (0, -3)
            axis.annotate(
                f"class {at + 1}",
                (x, y),
                offset,
                textcoords="offset points",
                ha="center",
                va="bottom" if at == 2 else "top",
                fontsize=7.5,
                annotation_clip=False,
            )
    return fig, axes


def _note(axis: Any, text: str) -> None:
    axis.annotate(
        text, (0.5, 0), (0, -14), textcoords="offset points", ha="center", va="top", fontsize=8, linespacing=1.25
    )


def _mark(axes: list[Any], dataset: "xr.Dataset", right: str | None, explained: list[Any]) -> None:
    """The teacher as a cross, the right student as a ring, named once below with what else is drawn."""
    cross = {"marker": "X", "color": BLACK, "markersize": 5.5, "markeredgecolor": "white", "markeredgewidth": 0.6}
    ring = {"marker": "o", "markerfacecolor": "white", "markeredgecolor": BLACK, "markersize": 5}
    for axis in axes:
        axis.plot(*(dataset["teacher"].values @ CORNERS), zorder=5, linestyle="none", label="teacher", **cross)
        if right:
            axis.plot(*(dataset["right"].values @ CORNERS), zorder=5, linestyle="none", label=right, **ring)
    handles = [*axes[0].get_legend_handles_labels()[0], *explained]
    legend(axes[0].figure, handles, [str(one.get_label()) for one in handles])


def _mesh(points: np.ndarray) -> Any:
    """The points' triangles, without the slivers along the border, whose level lines mean nothing."""
    from matplotlib.tri import TriAnalyzer, Triangulation

    x, y = (points @ CORNERS).T
    mesh = Triangulation(x, y)
    mesh.set_mask(TriAnalyzer(mesh).get_flat_tri_mask(0.02))
    return mesh
