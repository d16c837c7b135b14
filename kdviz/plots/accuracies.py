"""Accuracies of methods against a setting, or side by side as bars: printed numbers and measured ones, a panel each."""

import re
import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kdviz.plots.style import BLACK, VENUES, dash, figure, legend, letter, look

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

PER_LINE = 2  # panels beside each other
NAME_WIDTH = 12  # characters of a bar's label in one line


def lines(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml") -> "Figure":
    """One panel per result, one line per row over the columns, whose labels are numbers.

    Measured means are filled and carry their standard deviation over seeds; printed numbers are open and dashed. A row
    named by the attribute `constant` does not depend on the column and is a level line.

    Args:
        datasets: results of kind "accuracies".
        venue: whose full text width it has.
    """
    fig, axes = _panels(datasets, venue)
    for axis, panel in zip(axes, datasets, strict=True):
        places = _numbers(panel)
        for index, row in enumerate(map(str, panel["row"].values)):
            _line(axis, panel, row, places, look(row.lower(), index))
        axis.set_xticks(places, [_short(str(column)) for column in panel["column"].values])
        axis.set_xlabel(str(panel.attrs["xlabel"]))
        axis.grid(axis="y")
    _key(fig, datasets, lambda row, drawn: _line_key(datasets[0], row, drawn))
    return fig


def _line_key(panel: "xr.Dataset", row: str, drawn: dict[str, Any]) -> Any:
    """A row as it is drawn: a level line, or marks that a line joins."""
    from matplotlib.lines import Line2D

    level = {"color": drawn["color"], "linestyle": dash(row.lower())}
    return Line2D([], [], **(level if row == panel.attrs.get("constant") else drawn))


def _line(axis: Any, panel: "xr.Dataset", row: str, places: np.ndarray, colours: dict[str, Any]) -> None:
    value, std = (panel[name].sel(row=row).to_numpy() for name in ("value", "std"))
    known = np.isfinite(value)
    is_printed = panel.attrs["source"] == "printed"
    if row == panel.attrs.get("constant"):
        level, spread = float(value[known][0]), float(std[known][0])
        axis.axhline(level, color=colours["color"], linestyle=dash(row.lower()))
        if np.isfinite(spread):
            axis.axhspan(level - spread, level + spread, color=colours["color"], alpha=0.15, linewidth=0)
        return
    if is_printed:
        how = {"linestyle": (0, (3, 2)), "markerfacecolor": "white"}
        axis.plot(places[known], value[known], **colours, **how)
        return
    axis.errorbar(places[known], value[known], yerr=_bars(std[known]), capsize=2, elinewidth=0.9, **colours)


def bars(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml") -> "Figure":
    """One panel per result: the rows as bars side by side in every column, with their values.

    Measured means are filled and carry their standard deviation over seeds; printed numbers are open bars. The axis
    does not begin at 0, which its label says.

    Args:
        datasets: results of kind "accuracies".
        venue: whose full text width it has.
    """
    from matplotlib.patches import Patch

    fig, axes = _panels(datasets, venue, height=2.5)
    for axis, panel in zip(axes, datasets, strict=True):
        rows = list(map(str, panel["row"].values))
        width = 0.84 / len(rows)
        is_printed = panel.attrs["source"] == "printed"
        for index, row in enumerate(rows):
            at = np.arange(panel.sizes["column"]) + (index - (len(rows) - 1) / 2) * width
            value, std = (panel[name].sel(row=row).to_numpy() for name in ("value", "std"))
            colour = look(row.lower(), index)["color"]
            fill = {"facecolor": "white", "hatch": "////"} if is_printed else {"facecolor": colour}
            axis.bar(at, value, width * 0.92, edgecolor=colour, linewidth=0.9, **fill)
            if not is_printed:
                axis.errorbar(at, value, yerr=_bars(std), fmt="none", ecolor=BLACK, capsize=1.5, elinewidth=0.8)
            top = value + np.nan_to_num(std)
            for x, number, y in zip(at, value, top, strict=True):
                if np.isfinite(number):
                    how = {"ha": "center", "va": "bottom", "fontsize": 6, "rotation": 90}
                    axis.annotate(f"{number:.1f}", (x, y), (0, 2.5), textcoords="offset points", **how)
        axis.set_ylim(*_cut(panel))
        labels = ["\n".join(textwrap.wrap(_short(str(one)), NAME_WIDTH)) for one in panel["column"].values]
        axis.set_xticks(range(len(labels)), labels, fontsize=6.5)
        axis.tick_params(axis="x", length=0)
        axis.set_xlabel(str(panel.attrs["xlabel"]))
    for axis in axes[::PER_LINE]:
        axis.set_ylabel(f"{axis.get_ylabel()} (axis cut)")
    _key(fig, datasets, lambda _, drawn: Patch(facecolor=drawn["color"]))
    return fig


def _panels(datasets: "Sequence[xr.Dataset]", venue: str, *, height: float = 2.1) -> "tuple[Figure, list[Any]]":
    across = min(PER_LINE, len(datasets))
    down = -(-len(datasets) // across)
    fig = figure(VENUES[venue][1], down * height + 0.3)
    axes = list(fig.subplots(down, across, squeeze=False).ravel())
    for axis in axes[len(datasets) :]:
        axis.set_visible(False)
    axes = axes[: len(datasets)]
    letter(axes, ["\n".join(textwrap.wrap(_title(one), 48)) for one in datasets])
    for axis, one in list(zip(axes, datasets, strict=True))[::PER_LINE]:
        axis.set_ylabel(str(one.attrs["metric"]))
    return fig, axes


def _title(panel: "xr.Dataset") -> str:
    return str(panel.attrs["title"]).replace(" > ", " to ")


def _numbers(panel: "xr.Dataset") -> np.ndarray:
    """Where the columns stand: at the numbers that their labels begin with, or one after another."""
    found = [re.match(r"-?[\d.]+", str(column)) for column in panel["column"].values]
    if all(found):
        return np.array([float(one.group()) for one in found if one])
    return np.arange(panel.sizes["column"], dtype=float)


def _short(column: str) -> str:
    return column.replace(" > ", " to ")


def _bars(std: np.ndarray) -> np.ndarray:
    """Lengths of error bars; none for a single seed."""
    return np.nan_to_num(std)


def _cut(panel: "xr.Dataset") -> tuple[float, float]:
    """Limits of the axis: from a little below the lowest value to where the highest one's number has room."""
    values, spread = panel["value"].to_numpy(), np.nan_to_num(panel["std"].to_numpy())
    low, high = np.nanmin(values - spread), np.nanmax(values + spread)
    room = max(high - low, 0.5)
    return low - 0.25 * room, high + 0.3 * room


def _key(fig: "Figure", datasets: "Sequence[xr.Dataset]", handle: Callable[[str, dict[str, Any]], Any]) -> None:
    """The rows, each by its `handle`, and how printed and measured numbers look."""
    from matplotlib.lines import Line2D

    rows = list(dict.fromkeys(str(row) for one in datasets for row in one["row"].values))
    handles: list[Any] = [handle(row, look(row.lower(), index)) for index, row in enumerate(rows)]
    sources = {str(one.attrs["source"]) for one in datasets}
    ways = {"printed": ("white", "printed (open)"), "measured": (BLACK, "measured, ± standard deviation")}
    named = [ways[source] for source in ways if source in sources]
    handles += [Line2D([], [], color=BLACK, marker="s", linestyle="none", markerfacecolor=fill) for fill, _ in named]
    legend(fig, handles, [*rows, *(name for _, name in named)])
