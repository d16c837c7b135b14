"""Three classes as a triangle: where criteria mislead, and the paths that descent takes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kdviz.plots.style import BLACK, COLOURS, DASHES, GREY, SEQUENTIAL, VENUES, figure, letter, titles_of

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

# Corners of the triangle: class 1 at the lower left, 2 at the lower right, 3 at the top.
CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])
MISLED = "#d55e00"


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
    _mark(axes, ternary, "right student")
    letter(axes, criteria.values())
    return fig


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
        axis.fill(*_cell(label).T, color="#e8eef4", zorder=0)
        for start in range(one.sizes["start"]):
            track = one["probability"].isel(start=start).values @ CORNERS
            dash = DASHES[start % len(DASHES)]
            colour = COLOURS[start % len(COLOURS)]
            axis.plot(*track.T, color=colour, linestyle=dash, linewidth=1.1)
            axis.plot(*track[0], "o", color=colour, markersize=3.5, clip_on=False)
            axis.plot(*track[-1], "s", color=colour, markersize=3.5, clip_on=False, zorder=3)
        _note(axis, _summary(one))
    _mark(axes, descent, None)
    letter(axes, losses.values())
    return fig


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


def _mark(axes: list[Any], dataset: "xr.Dataset", right: str | None) -> None:
    """The teacher as a cross, the right student as a ring, named once below."""
    for axis in axes:
        axis.plot(
            *(dataset["teacher"].values @ CORNERS),
            "X",
            color=BLACK,
            markersize=5.5,
            zorder=5,
            label="teacher",
            markeredgecolor="white",
            markeredgewidth=0.6,
        )
        if right:
            ring = {"markerfacecolor": "white", "markeredgecolor": BLACK, "markersize": 5, "linestyle": "none"}
            axis.plot(*(dataset["right"].values @ CORNERS), "o", zorder=5, label=right, **ring)
        else:
            axis.plot([], [], "o", color=GREY, markersize=3.5, label="start")
            axis.plot([], [], "s", color=GREY, markersize=3.5, label="end")
    handles, labels = axes[0].get_legend_handles_labels()
    axes[0].figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))


def _mesh(points: np.ndarray) -> Any:
    """The points' triangles, without the slivers along the border, whose level lines mean nothing."""
    from matplotlib.tri import TriAnalyzer, Triangulation

    x, y = (points @ CORNERS).T
    mesh = Triangulation(x, y)
    mesh.set_mask(TriAnalyzer(mesh).get_flat_tri_mask(0.02))
    return mesh
