"""Topology of landscapes: merge trees of several nets beside each other, and their persistence diagram."""

from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from kdviz.plots.landscape_panels import compact, label_of
from kdviz.plots.style import BLACK, GREY, VENUES, figure, legend, letter, look, title

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDE = 20  # times the lowest loss from which an axis is logarithmic


def tree(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml") -> "Figure":
    """Merge trees: a line from each minimum up to the loss where its basin joins that of a lower one.

    Losses are rows, nets are columns; a row shares its axis. Minima that count have a filled dot, those below their
    threshold an open one and a grey line; the lowest minimum's line goes on to the largest loss on the grid.

    Args:
        datasets: kind "topology", of one or several losses and nets.
        venue: its text width sets the size (its column's for one panel).
    Source: ours; merge trees as Edelsbrunner & Harer 2010, ch. VI.
    """
    rows = _by_loss(datasets)
    across = max(len(nets) for nets in rows.values())
    width = VENUES[venue][1] if across > 1 else min(VENUES[venue][0], 3.4)
    fig = figure(width, 1.9 * len(rows) + 0.45)
    axes = fig.subplots(len(rows), across, squeeze=False, sharey="row")
    for line, nets in zip(axes, rows.values(), strict=True):
        for axis in line[len(nets) :]:
            axis.set_visible(False)
        for index, (axis, one) in enumerate(zip(line, nets, strict=False)):
            _draw_tree(axis, one, index)
        low = min(float(one["birth"].min()) for one in nets)
        _scale(line[0], "y", low, max(float(one.attrs["highest"]) for one in nets))
        line[0].set_ylabel(_named(nets[0]))
    for axis in axes[-1]:
        axis.set_xlabel("minima, by basin")
    shown = [axis for axis in axes.ravel() if axis.get_visible()]
    room = int(14 * (width - 0.5) / across)  # characters above a panel
    letter(shown, [fill(title(label_of(one)), room) for nets in rows.values() for one in nets])
    legend(fig, *_key())
    return fig


def persistence(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml") -> "Figure":
    """Persistence diagram: every minimum at its loss and the loss where its basin joins a lower one, nets in colours.

    The height above the diagonal is the persistence. Minima that count are filled; the lowest of each net, whose basin
    joins none, stands on the line at the top.

    Args:
        datasets: as `tree`; a panel for every loss.
        venue: its text width sets the size (its column's for one panel).
    Source: ours; as Edelsbrunner & Harer 2010, ch. VII.
    """
    rows = _by_loss(datasets)
    width = VENUES[venue][1] if len(rows) > 1 else min(VENUES[venue][0], 3.4)
    fig = figure(width, 0.85 * width / max(len(rows), 1) + 0.35)
    axes = fig.subplots(1, len(rows), squeeze=False)[0]
    for axis, nets in zip(axes, rows.values(), strict=True):
        births = [value for one in nets for value in (float(one["birth"].min()), float(one["birth"].max()))]
        _scale(axis, "x", min(births), max(births))
        _scale(axis, "y", min(births), max(float(one.attrs["highest"]) for one in nets))
        left, right = axis.get_xlim()
        diagonal = np.linspace(left, right, 100)
        axis.plot(diagonal, diagonal, color=GREY, linewidth=0.7, scalex=False, scaley=False)
        top = axis.get_ylim()[1]
        axis.axhline(top, color=GREY, linewidth=0.7, linestyle=":")
        axis.text(0.98, 0.985, "never joins", transform=axis.transAxes, ha="right", va="top", fontsize=7)
        for index, one in enumerate(nets):
            _points(axis, one, look(label_of(one, index), index), top)
        axis.set_xlabel(f"loss of the minimum{_unit(nets[0])}")
    axes[0].set_ylabel(f"loss where it joins{_unit(datasets[0])}")
    letter(axes, [str(nets[0].attrs.get("loss_long_name", loss)) for loss, nets in rows.items()])
    legend(fig, *_nets(datasets))
    return fig


def _points(axis: "Axes", dataset: "xr.Dataset", drawn: dict[str, Any], top: float) -> None:
    """One net's minima; those of infinite persistence at `top`."""
    deaths = np.where(np.isfinite(dataset["death"].values), dataset["death"].values, top)
    for birth, death, counted in zip(dataset["birth"].values, deaths, dataset["counted"].values, strict=True):
        face = drawn["color"] if counted else "white"
        axis.plot(birth, death, markerfacecolor=face, clip_on=False, zorder=3, scalex=False, scaley=False, **drawn)


def _by_loss(datasets: "Sequence[xr.Dataset]") -> "dict[str, list[xr.Dataset]]":
    """The results of each loss, in their order."""
    rows: dict[str, list[Any]] = {}
    for one in datasets:
        rows.setdefault(str(one.attrs.get("loss_name", "loss")), []).append(one)
    return rows


def branches(dataset: "xr.Dataset") -> list[int]:
    """The minima of a merge tree from left to right, as rows of the dataset, so that no two lines of it cross.

    Right of each minimum stand those that join it, the one that joins lowest first, each with its own.

    >>> import xarray as xr
    >>> tree = {"parent": ("minimum", [0, 1, 1, 3]), "death": ("minimum", [9.0, 5.0, 4.0, 2.0])}
    >>> branches(xr.Dataset(tree))
    [0, 2, 3, 1]
    """
    deaths, order = dataset["death"].values, []
    children: dict[int, list[int]] = {}
    for row, parent in enumerate(_parents(dataset)):
        children.setdefault(parent, []).append(row)
    pending = children.get(-1, [])[::-1]
    while pending:
        row = pending.pop()
        order.append(row)
        pending += sorted(children.get(row, []), key=lambda one: -deaths[one])
    return order


def _parents(dataset: "xr.Dataset") -> list[int]:
    """The row of each minimum's parent, an earlier one, or -1."""
    given = dataset["parent"].values.astype(int) - 1
    return [int(parent) if 0 <= parent < row else -1 for row, parent in enumerate(given)]


def _draw_tree(axis: "Axes", dataset: "xr.Dataset", index: int) -> None:
    drawn = look(label_of(dataset, index), index)
    place = {row: at for at, row in enumerate(branches(dataset))}
    birth, death, counted = (dataset[name].values for name in ("birth", "death", "counted"))
    top = float(dataset.attrs["highest"])
    for row, parent in enumerate(_parents(dataset)):
        colour, x = drawn["color"] if counted[row] else GREY, place[row]
        end = death[row] if np.isfinite(death[row]) else max(top, birth[row])
        axis.plot([x, x], [birth[row], end], color=colour, linewidth=1.2 if counted[row] else 0.8)
        if parent >= 0:
            axis.plot([place[parent], x], [end, end], color=colour, linewidth=0.8)
        axis.plot(x, birth[row], color=drawn["color"], marker=drawn["marker"], clip_on=False, zorder=3,
                  markerfacecolor=drawn["color"] if counted[row] else "white")  # fmt: skip
    axis.text(0.98, 0.97, _counted(dataset), transform=axis.transAxes, ha="right", va="top", fontsize=8)
    axis.set_xlim(-0.7, len(place) - 0.3)
    axis.set_xticks([])
    axis.grid(axis="y")


def _counted(dataset: "xr.Dataset") -> str:
    """How many minima count.

    >>> import xarray as xr
    >>> _counted(xr.Dataset(attrs={"minima": 1})), _counted(xr.Dataset({"counted": ("minimum", [1, 1, 0])}))
    ('1 minimum', '2 of 3 minima')
    """
    every = dataset.sizes.get("minimum", 1)
    count = int(dataset["counted"].sum()) if "counted" in dataset else int(dataset.attrs["minima"])
    return f"{count} of {every} minima" if count < every else f"{count} minim{'um' if count == 1 else 'a'}"


def _scale(axis: "Axes", which: str, low: float, high: float) -> None:
    """Limits around low and high; logarithmic where they lie far apart."""
    part = getattr(axis, f"{which}axis")
    if low > 0 and high > WIDE * low:
        getattr(axis, f"set_{which}scale")("log")
        low, high = low / 1.3, high * 1.3
        part.set_minor_formatter("")
    else:
        room = 0.08 * (high - low) or 0.5 * abs(high) or 1.0
        low, high = low - room, high + room
    getattr(axis, f"set_{which}lim")(low, high)
    part.set_major_formatter(lambda value, _: compact(value))


def _unit(dataset: "xr.Dataset") -> str:
    unit = dataset["birth"].attrs.get("units", "1")
    return "" if unit == "1" else f" ({unit})"


def _named(dataset: "xr.Dataset") -> str:
    return f"{dataset.attrs.get('loss_long_name', 'loss')}{_unit(dataset)}"


def _key() -> tuple[list[Any], list[str]]:
    """What the marks of both figures mean."""
    from matplotlib.lines import Line2D

    dots = [
        Line2D([], [], color=BLACK, marker="o", linestyle="none", markerfacecolor=fill) for fill in (BLACK, "white")
    ]
    return dots, ["minimum", "below its threshold"]


def _nets(datasets: "Sequence[xr.Dataset]") -> tuple[list[Any], list[str]]:
    """The nets' colours."""
    from matplotlib.lines import Line2D

    handles: dict[str, Any] = {}
    for nets in _by_loss(datasets).values():
        for index, one in enumerate(nets):
            label = label_of(one, index)
            handles.setdefault(title(label), Line2D([], [], linestyle="none", **look(label, index)))
    (_, below), (_, meaning) = _key()
    return [*handles.values(), below], [*handles, meaning]
