"""Gains of a table of runs: each row's paired difference to its base, with both intervals, and what was printed."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kdviz.base.check import require
from kdviz.plots.style import BLACK, COLOURS, GREY, VENUES, figure, legend, letter

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

ROW_HEIGHT = 0.24  # inches
PER_LINE = 2  # panels beside each other


def gains(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml") -> "Figure":
    """One panel per column, all on one scale: points gained over the base row, one line per row.

    The thick bar is the bootstrap interval, the thin one Student's over seeds; a gain inside the noise is grey. A
    diamond is the printed gain.

    Args:
        datasets: one result of kind "table", with measured gains.
        venue: whose full text width it has.
    """
    require(len(datasets) == 1, f"gains: draws one table, got {len(datasets)}")
    table = datasets[0]
    shown = [column for column in table["column"].values if np.isfinite(table["gain"].sel(column=column)).any()]
    require(shown, "gains: no gain of this table is measured yet; kdviz table says what is missing")
    rows = [row for row in table["row"].values if np.isfinite(table["gain"].sel(row=row)).any()]
    across = min(PER_LINE, len(shown))
    down = -(-len(shown) // across)
    fig = figure(VENUES[venue][1], down * (0.7 + ROW_HEIGHT * len(rows)) + 0.4)
    axes = fig.subplots(down, across, squeeze=False, sharex=True, sharey=True).ravel()
    for axis, column in zip(axes, shown, strict=False):
        _panel(axis, table.sel(column=column), rows)
    for axis in axes[len(shown) :]:
        axis.set_visible(False)
    axis_name = table.attrs.get("axis", "")
    letter(axes[: len(shown)], [f"{axis_name} {column}".strip().replace(" > ", " to ") for column in shown])
    for axis in axes[max(0, len(shown) - across) : len(shown)]:
        axis.tick_params(labelbottom=True)  # of a panel above an empty place too
        axis.set_xlabel(f"gain, points of {str(table.attrs.get('metric', 'accuracy')).split(',')[0]}")
    legend(fig, *_key())
    if table.attrs.get("scale") == "small":
        scale = str(table.attrs["title"]).rpartition(": ")[2]  # "small scale, glyphs100 (synthetic)"
        fig.suptitle(f"{scale}; printed gains are of other nets and data", fontsize=8)
    return fig


def _panel(axis: Any, at: "xr.Dataset", rows: Sequence[str]) -> None:
    axis.axvline(0, color=BLACK, linewidth=0.7)
    for place, row in enumerate(rows):
        one = at.sel(row=row)
        colour = COLOURS[0] if int(one["clear"]) else GREY
        for names, width in ((("t_low", "t_high"), 0.8), (("low", "high"), 2.6)):
            ends = [float(one[name]) for name in names]
            if np.isfinite(ends).all():
                axis.plot(ends, [place, place], color=colour, linewidth=width, solid_capstyle="butt")
        axis.plot([float(one["gain"])], [place], "o", color=colour)
        base = at.sel(row=at["row"] == one["base"])["published"].values
        printed = float(one["published"]) - float(base[0]) if len(base) else np.nan
        if np.isfinite(printed):
            axis.plot([printed], [place], "D", color=BLACK, markerfacecolor="none", markersize=4)
    axis.set_yticks(range(len(rows)), [f"{row} − {at['base'].sel(row=row).values}" for row in rows])
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.grid(axis="x")


def _key() -> tuple[list[Any], list[str]]:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=COLOURS[0], marker="o", linewidth=2.6),
        Line2D([], [], color=COLOURS[0], linewidth=0.8),
        Line2D([], [], color=GREY, marker="o", linewidth=2.6),
        Line2D([], [], color=BLACK, marker="D", markerfacecolor="none", linestyle="none"),
    ]
    return handles, ["bootstrap interval", "Student's t", "inside the noise", "printed"]
