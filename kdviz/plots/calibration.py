"""Reliability diagrams and the cells of right and wrong."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kdviz.plots.audited import looks, only
from kdviz.plots.cases import channels, nothing, picture, short
from kdviz.plots.style import BLACK, VENUES, figure, legend, letter, titles_of

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

CELLS = {"both_right": "#0072b2", "lost": "#d55e00", "gained": "#56b4e9", "both_wrong": "#7f7f7f"}
HATCHES = {"lost": "////", "gained": "....", "both_right": None, "both_wrong": None}


def reliability(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml") -> "Figure":
    """One reliability diagram for each net, with its expected calibration error and where its samples lie.

    Args: datasets: one result of kind "calibration".
    """
    found = only(datasets)
    width = VENUES[venue][1]
    drawn = looks(found, "net")
    fig = figure(width, width / len(drawn) + 0.75)
    axes = np.ravel(fig.subplots(1, len(drawn), sharey=True))
    heads: list[str] = []
    bins = found.sizes["bin"]
    edges = np.linspace(0, 1, bins + 1)
    for axis, (name, one) in zip(axes, drawn.items(), strict=True):
        here = found.sel(net=name)
        share = here["count"].values / max(1, int(here["count"].sum()))
        axis.stairs(share, edges, fill=True, color="0.88", zorder=0)
        axis.plot([0, 1], [0, 1], color="0.4", lw=0.7)
        sure, right = here["confidence"].values, here["reliability"].values
        ends = np.stack([right - here["reliability_low"].values, here["reliability_high"].values - right])
        axis.errorbar(
            sure,
            right,
            yerr=np.nan_to_num(ends).clip(0),
            fmt=one["marker"],
            color=one["color"],
            ms=3.2,
            lw=0.9,
            capsize=1.5,
            mec="white",
            mew=0.3,
        )
        number = found.sel(measure="ece", compared=name)
        value, low, high = (100 * float(number[f"value{end}"]) for end in ("", "_low", "_high"))
        short_label = one["label"].removeprefix("student ")
        heads.append(f"{short_label}\nECE {value:.1f} % [{low:.1f}, {high:.1f}]")
        axis.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="confidence")
        axis.set_xticks([0, 0.5, 1], ["0", ".5", "1"])
    axes[0].set_ylabel("fraction right")
    letter(axes, heads)
    for axis in axes:
        axis._left_title.set_fontsize(7.5)
    return fig


def cells(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml") -> "Figure":
    """The shares of the four cells, for the student and for both controls.

    Args: datasets: one result of kind "cells".
    """
    from matplotlib.patches import Patch

    found = only(datasets)
    width = VENUES[venue][1]
    drawn = looks(found)
    fig = figure(width, 0.32 * len(drawn) + 0.9)
    axis = fig.subplots()
    for row, name in enumerate(drawn):
        left = 0.0
        for cell, colour in CELLS.items():
            share = 100 * float(found["value"].sel(measure=cell, compared=name))
            axis.barh(row, share, 0.7, left, color=colour, hatch=HATCHES[cell], edgecolor="white", lw=0.5)
            if share >= 5:
                white = {"color": "white", "fontsize": 8, "ha": "center", "va": "center"}
                box = {"boxstyle": "square,pad=0.1", "fc": colour, "ec": "none"}
                axis.text(left + share / 2, row, f"{share:.1f}", bbox=box, **white)
            left += share
    axis.set_yticks(range(len(drawn)), [one["label"] for one in drawn.values()])
    axis.set(xlim=(0, 100), ylim=(len(drawn) - 0.5, -0.5), xlabel="samples (%)")
    axis.tick_params(axis="y", length=0)
    titles = titles_of(found["measure"])
    handles = [Patch(facecolor=one, hatch=HATCHES[cell], edgecolor="white") for cell, one in CELLS.items()]
    legend(fig, handles, [titles[cell] for cell in CELLS], handlelength=1.4)
    return fig


def flips(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml", cases: int = 6) -> "Figure":
    """Samples on which the teacher alone is right (lost), or the student alone (gained), with both nets' first classes.

    Args:
        datasets: one result of kind "cells".
        cases: of each kind.
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    found = only(datasets)
    width = VENUES[venue][1]
    sides = {side: np.flatnonzero(found["case_side"].values == side)[:cases] for side in ("lost", "gained")}
    lost, gained = sides["lost"], sides["gained"]
    if not len(lost) + len(gained):
        return nothing(width, "there is no sample on which only one of the two is right")
    if len(lost) and len(gained):  # a column for each
        placed = [(row, column, int(at)) for column, side in enumerate((lost, gained)) for row, at in enumerate(side)]
    else:
        placed = [(order // 2, order % 2, int(at)) for order, at in enumerate([*lost, *gained])]
    rows = 1 + max(row for row, _, _ in placed)
    fig = figure(width, 1.3 * rows + 0.55)
    places = fig.subfigures(rows, 2, squeeze=False)
    drawn = looks(found, "net")
    colours: dict[str, Any] = {"teacher": BLACK, "student": drawn["student"]["color"]}
    for row, column, at in placed:
        case = found.isel(case=at)
        side = str(case["case_side"].values)
        who = "student" if side == "lost" else "teacher"  # the one that is wrong
        image, axis = places[row, column].subplots(1, 2, width_ratios=[1, 2.6])
        picture(image, case)
        channels(axis, case, {"teacher": 0, "student": 1}, colours, "probability")
        axis.set_ylim(0, 1.1)
        taken = int(case["probability"].sel(net=who).values.argmax())
        axis.set_title(f"{side}: {who} says {short(str(found['class_name'].values[taken]))}", loc="left", fontsize=8)
    handles: list[Any] = [Patch(color=colour) for colour in colours.values()]
    handles.append(Line2D([], [], color=BLACK, marker="v", markersize=4, linestyle="none"))
    legend(fig, handles, [drawn["teacher"]["label"], drawn["student"]["label"], "argmax"], handlelength=1.0)
    return fig
