"""Suboptimal cases as numbers: the toy case, how losses rank right and wrong samples, angles, pairs of students."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kdviz.plots.style import BLACK, SEQUENTIAL, VENUES, figure, legend, letter, look, title

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

STUDENTS = ("#56b4e9", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
HATCHES = ("", "///", "...", "xx", "\\\\\\")
ANGLES = {"kl": "-", "rank_kendall": (0, (4, 1, 1, 1)), "kl+rk": (0, (4, 2)), "pld": (0, (1, 1))}
RIGHT, WRONG = "right class", "wrong class"


def bars(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml", **_: Any) -> "Figure":
    """The toy case: class probabilities of teacher and students, and what each criterion says of the students."""
    (toy, *_others) = datasets
    fig = figure(VENUES[venue][1], 2.2)
    left, right = list(fig.subfigures(1, 2, width_ratios=[0.72, 1]))  # pyright: ignore
    _probabilities(left, toy)
    criteria = [str(one) for one in toy["criterion"].values if one != "kl+rk"]
    axes = np.ravel(right.subplots(1, len(criteria)))
    for axis, name in zip(axes, criteria, strict=True):
        _verdict(axis, toy, name)
    letter([left.axes[0], *axes], ["class probabilities", *map(title, criteria)])
    return fig


def _probabilities(place: Any, toy: "xr.Dataset") -> None:
    axis = place.subplots()
    nets, channels = [str(one) for one in toy["net"].values], toy.sizes["channel"]
    width = 0.8 / len(nets)
    for at, net in enumerate(nets):
        values = toy["probability"].isel(net=at).values
        x = np.arange(channels) + (at - (len(nets) - 1) / 2) * width
        right = at == 0 or bool(toy["right"][at - 1])
        colour = BLACK if at == 0 else STUDENTS[(at - 1) % len(STUDENTS)]
        name = net if at == 0 else f"{net} ({'right' if right else 'wrong'})"
        axis.bar(
            x,
            values,
            0.9 * width,
            color=colour,
            hatch=HATCHES[at % len(HATCHES)] if at else "",
            edgecolor="white",
            linewidth=0,
            label=name,
        )
        best = int(values.argmax())
        axis.plot(x[best], values[best] + 0.025, "v", color=colour, markersize=4, clip_on=False)
    axis.set(xlabel="class", ylabel="probability", xticks=range(channels), xticklabels=range(1, channels + 1))
    axis.set_ylim(0, 1.12 * float(toy["probability"].max()))
    axis.legend(loc="upper right", handlelength=1.4)


def _verdict(axis: Any, toy: "xr.Dataset", name: str) -> None:
    """One criterion's values of the students; the bar that it prefers is the lower one."""
    values = toy["loss"].sel(criterion=name).values
    for at, value in enumerate(values):
        axis.bar(
            at,
            value,
            0.66,
            color=STUDENTS[at % len(STUDENTS)],
            hatch=HATCHES[(at + 1) % len(HATCHES)],
            edgecolor="white",
            linewidth=0,
        )
        shown = f"{value:.3f}" if abs(value) >= 0.01 else f"{value:.4f}"
        offset = 2 if value >= 0 else -2
        axis.annotate(
            shown.replace("-", "\N{MINUS SIGN}"),
            (at, value),
            (0, offset),
            textcoords="offset points",
            ha="center",
            va="bottom" if value >= 0 else "top",
            fontsize=7.5,
        )
    best = int(values.argmin())
    verdict = "right" if bool(toy["right"][best]) else "wrong"
    axis.set_xticks(range(len(values)), [f"{at + 1}" for at in range(len(values))])
    axis.set_xlabel(f"student\nprefers the\n{verdict} one", fontsize=8, linespacing=1.0)
    axis.axhline(0, color=BLACK, linewidth=0.7)
    axis.margins(x=0.2, y=0.18)
    axis.set_ylabel("loss" if name == "rank_kendall" else "nats", labelpad=1)
    axis.tick_params(labelsize=7)


def overlap(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml", **_: Any) -> "Figure":
    """KL of right and wrong samples, and the share of (wrong, right) pairs that each criterion ranks the wrong way."""
    fig = figure(VENUES[venue][1], 2.2)
    left, right = fig.subplots(1, 2)
    first = datasets[0]
    values, good = first["loss"].sel(criterion="kl").values, first["right"].values.astype(bool)
    floor = max(float(values[values > 0].min()) if (values > 0).any() else 1e-6, float(values.max()) * 1e-5)
    edges = np.geomspace(floor, max(float(values.max()), 2 * floor), 31)
    for chosen, name, colour, hatch in ((good, RIGHT, "#56b4e9", ""), (~good, WRONG, "#d55e00", "////")):
        if chosen.any():
            share = np.histogram(np.clip(values[chosen], floor, None), edges)[0] / chosen.sum()
            left.stairs(
                share,
                edges,
                fill=True,
                color=colour,
                alpha=0.6,
                hatch=hatch,
                edgecolor="white",
                linewidth=0.3,
                label=f"{name} ({chosen.sum():,})",
            )
    left.set(xscale="log", xlabel="KL to the teacher (nats)", ylabel="share of samples")
    if edges[-1] < 30 * edges[0]:  # too short for ticks at the powers of ten alone
        left.set_xticks(
            [one for one in np.outer(10.0 ** np.arange(-9, 4), (1, 2, 5)).flat if floor <= one <= edges[-1]]
        )
        left.xaxis.set_major_formatter("{x:g}")
        left.xaxis.set_minor_formatter("")
    left.set_ylim(0, 1.5 * left.dataLim.ymax)
    left.legend(loc="upper left")
    _shares(right, datasets)
    letter((left, right), (f"samples of {title(_label(first, 0))}", "pairs ranked the wrong way"))
    return fig


def _shares(axis: Any, datasets: "Sequence[xr.Dataset]") -> None:
    criteria = [str(one) for one in datasets[0]["criterion"].values]
    width = 0.8 / len(datasets)
    for at, one in enumerate(datasets):
        name = _label(one, at)
        x = np.arange(len(criteria)) + (at - (len(datasets) - 1) / 2) * width
        shares = 100 * one["share"].values
        axis.bar(x, shares, 0.9 * width, color=look(name, at)["color"], label=title(name))
        if len(datasets) == 1:
            for place, share, pairs in zip(x, shares, one["pairs"].values, strict=True):
                axis.annotate(
                    f"{share:.1f} %\n{int(pairs):,}",
                    (place, share),
                    (0, 2),
                    textcoords="offset points",
                    ha="center",
                    va="bottom",
                    fontsize=7,
                )
    axis.set_xticks(range(len(criteria)), [title(name) for name in criteria])
    axis.set(xlabel="criterion", ylabel="of all pairs (%)")
    axis.margins(y=0.25)
    if len(datasets) > 1:
        columns = 3 if max(len(_label(one, 0)) for one in datasets) < 8 else 1
        rows = -(-len(datasets) // columns)
        axis.set_ylim(0, axis.dataLim.ymax * (1.1 + 0.18 * rows))
        axis.legend(loc="upper right", handlelength=1.0, ncols=columns, columnspacing=1.0)


def angles(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml", **_: Any) -> "Figure":
    """Angles of the criteria's gradients to cross-entropy's, cumulated; beyond 90 degrees a small step raises it."""
    columns = min(3, len(datasets))
    rows = -(-len(datasets) // columns)
    width = VENUES[venue][int(columns > 1)]
    fig = figure(width, max(1.5, 0.75 * width / columns) * rows + 0.35)
    axes = np.ravel(fig.subplots(rows, columns, squeeze=False))
    for at, axis in enumerate(axes):
        if at >= len(datasets):
            axis.set_axis_off()
            continue
        axis.axvspan(90, 180, color="#f2f2f2", linewidth=0)
        for name in (str(one) for one in datasets[at]["criterion"].values):
            values = datasets[at]["angle"].sel(criterion=name).values
            values = np.sort(values[np.isfinite(values)])
            share = 100 * np.arange(1, len(values) + 1) / max(1, len(values))
            axis.plot(values, share, color=look(name)["color"], linestyle=ANGLES.get(name, "-"), label=title(name))
        axis.set(xlim=(0, 180), xticks=(0, 45, 90, 135, 180), ylim=(0, 100), yticks=(0, 50, 100))
        axis.set(xlabel="angle to CE's gradient (°)", ylabel="samples below (%)")
    letter(axes[: len(datasets)], [title(_label(one, at)) for at, one in enumerate(datasets)])
    legend(fig, *axes[0].get_legend_handles_labels())
    return fig


def matrix(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml", **_: Any) -> "Figure":
    """Samples on which the row's student is nearer than the column's and wrong where that one is right."""
    (duels, *_others) = datasets
    names = [title(str(one)) for one in duels["this"].values]
    criteria = [name for name in ("kl", "kl+rk", "pld") if name in duels["criterion"].values]
    fig = figure(VENUES[venue][1], 0.9 + VENUES[venue][1] / len(criteria) * 0.85)
    axes = np.ravel(fig.subplots(1, len(criteria), sharey=True))
    shown: Any = None
    for axis, name in zip(axes, criteria, strict=True):
        pairs, share = (duels[key].sel(criterion=name).values for key in ("pairs", "share"))
        shown = axis.imshow(100 * share, vmin=0, vmax=100, cmap=SEQUENTIAL)
        for row, column in np.ndindex(*pairs.shape):
            if row != column:
                dark = not np.isfinite(share[row, column]) or share[row, column] > 0.6
                colour = "black" if dark else "white"
                axis.text(column, row, f"{pairs[row, column]}", ha="center", va="center", color=colour, fontsize=7)
        axis.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
        axis.set_yticks(range(len(names)), names)
        axis.set(xlabel="right, larger loss", ylabel="wrong, smaller loss")
        axis.label_outer()
        axis.spines[:].set_visible(False)
        axis.tick_params(length=0)
    bar = fig.colorbar(shown, ax=axes, fraction=0.025, pad=0.02, shrink=0.7)
    bar.set_label("of the disagreements (%)", fontsize=8)
    bar.outline.set_linewidth(0.4)
    letter(axes, [title(name) for name in criteria])
    return fig


def _label(one: "xr.Dataset", at: int) -> str:
    return str(one.attrs.get("label", f"student {at + 1}"))
