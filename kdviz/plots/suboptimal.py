"""Suboptimal cases as numbers: the toy case, how losses rank right and wrong samples, angles, pairs of students."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kdviz.plots.style import (
    BLACK,
    SEQUENTIAL,
    VENUES,
    figure,
    label_of,
    legend,
    letter,
    look,
    title_of,
    titles_of,
    unit_of,
)

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

STUDENTS = ("#56b4e9", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
HATCHES = ("", "///", "...", "xx", "\\\\\\")
ANGLES = {"kl": "-", "rank_kendall": (0, (4, 1, 1, 1)), "kl+rk": (0, (4, 2)), "pld": (0, (1, 1))}
RIGHT, WRONG = "right class", "wrong class"


def bars(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml") -> "Figure":
    """The toy case: class probabilities of teacher and students, and the value of each criterion for the students."""
    (toy, *_others) = datasets
    fig = figure(VENUES[venue][1], 2.2)
    left, right = list(fig.subfigures(1, 2, width_ratios=[0.72, 1]))  # pyright: ignore
    _probabilities(left, toy)
    criteria = {name: text for name, text in titles_of(toy["criterion"]).items() if name != "kl+rk"}
    axes = np.ravel(right.subplots(1, len(criteria)))
    for axis, name in zip(axes, criteria, strict=True):
        _verdict(axis, toy, name)
    verdicts = [_preferred(toy, name) for name in criteria]
    heads = [f"{text}:\nprefers {verdict}" for text, verdict in zip(criteria.values(), verdicts, strict=True)]
    letter([left.axes[0], *axes], ["class probabilities\n", *heads])
    return fig


def _preferred(toy: "xr.Dataset", name: str) -> str:
    """Whether the student of the smaller loss is the right or the wrong one."""
    best = int(toy["loss"].sel(criterion=name).values.argmin())
    return "right" if bool(toy["right"][best]) else "wrong"


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
    verdicts = ["right" if right else "wrong" for right in toy["right"].values]
    axis.set_xticks(range(len(values)), [f"{at + 1}\n{verdict}" for at, verdict in enumerate(verdicts)])
    axis.set_xlabel("student", labelpad=1)
    axis.axhline(0, color=BLACK, linewidth=0.7)
    axis.margins(x=0.2, y=0.18)
    unit = unit_of(toy["criterion"], name)
    axis.set_ylabel("loss" if unit in (None, "1") else unit, labelpad=1)
    axis.tick_params(labelsize=7)


def overlap(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml") -> "Figure":
    """KL of right and wrong samples, and the share of (wrong, right) pairs that each criterion ranks the wrong way."""
    many = len(datasets)
    fig = figure(VENUES[venue][1], max(2.2, 1.0 + 0.36 * many))
    left, right = fig.subplots(1, 2)
    losses = [one["loss"].sel(criterion="kl").values for one in datasets]
    every = np.concatenate(losses)
    floor = max(float(every[every > 0].min()) if (every > 0).any() else 1e-6, float(every.max()) * 1e-5)
    edges = np.geomspace(floor, max(float(every.max()), 2 * floor), 31)
    if many == 1:
        _one_overlap(left, losses[0], datasets[0]["right"].values.astype(bool), edges)
    else:
        _ridges(left, datasets, losses, edges)
    left.set(xscale="log", xlabel="KL to the teacher (nats)")
    if edges[-1] < 30 * edges[0]:  # too short for ticks at the powers of ten alone
        left.set_xticks(
            [one for one in np.outer(10.0 ** np.arange(-9, 4), (1, 2, 5)).flat if floor <= one <= edges[-1]]
        )
        left.xaxis.set_major_formatter("{x:g}")
        left.xaxis.set_minor_formatter("")
    _shares(right, datasets)
    letter((left, right), ("KL of right and wrong samples", "pairs ranked wrongly"))
    return fig


def _one_overlap(axis: Any, values: np.ndarray, good: np.ndarray, edges: np.ndarray) -> None:
    """Two histograms over each other."""
    import seaborn as sns

    for chosen, name, colour, hatch in ((good, RIGHT, "#56b4e9", ""), (~good, WRONG, "#d55e00", "////")):
        if chosen.any():
            look = {"color": colour, "alpha": 0.6, "hatch": hatch, "edgecolor": "white", "linewidth": 0.3}
            label, clipped = f"{name} ({chosen.sum():,})", np.clip(values[chosen], edges[0], None)
            sns.histplot(x=clipped, bins=list(edges), stat="proportion", element="step", label=label, ax=axis, **look)
    axis.set_ylabel("share of samples")
    axis.set_ylim(0, 1.5 * axis.dataLim.ymax)
    axis.legend(loc="upper left")


def _ridges(axis: Any, datasets: "Sequence[xr.Dataset]", losses: Sequence[np.ndarray], edges: np.ndarray) -> None:
    """Both histograms of every student on a line of its own, each scaled to the same height."""
    for row, (one, values) in enumerate(zip(datasets, losses, strict=True)):
        base, good = len(datasets) - 1 - row, one["right"].values.astype(bool)
        looks = {"color": "#56b4e9"}, {"color": "#d55e00", "hatch": "/////"}
        for chosen, name, drawn in zip((good, ~good), (RIGHT, WRONG), looks, strict=True):
            counts = np.histogram(np.clip(values[chosen], edges[0], edges[-1]), edges)[0]
            heights = base + 0.85 * counts / max(counts.max(), 1)
            label = name if not row else None
            axis.stairs(heights, edges, baseline=base, fill=True, alpha=0.55, ec="white", lw=0, label=label, **drawn)
            axis.stairs(heights, edges, baseline=base, color=drawn["color"], lw=0.8)
    names = [f"{title_of(one, at)}\n({int((~one['right']).sum()):,} wrong)" for at, one in enumerate(datasets)]
    axis.set_yticks(range(len(datasets)), names[::-1], fontsize=7.5)
    axis.set(ylabel="share of samples", ylim=(-0.05, len(datasets) + 0.45))
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.legend(loc="upper left", ncols=2, borderaxespad=0.1)


def _shares(axis: Any, datasets: "Sequence[xr.Dataset]") -> None:
    criteria = titles_of(datasets[0]["criterion"])
    width = 0.8 / len(datasets)
    for at, one in enumerate(datasets):
        x = np.arange(len(criteria)) + (at - (len(datasets) - 1) / 2) * width
        shares = 100 * np.nan_to_num(one["share"].values)  # without pairs: no bar
        axis.bar(x, shares, 0.9 * width, color=look(label_of(one, at), at)["color"], label=title_of(one, at))
        if len(datasets) == 1 and int(one["candidates"]):
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
    axis.set_xticks(range(len(criteria)), list(criteria.values()))
    axis.set(xlabel="criterion", ylabel="of all pairs (%)")
    axis.margins(y=0.25)
    if not any(int(one["candidates"]) for one in datasets):
        axis.set(ylim=(0, 1), yticks=())
        axis.text(0.5, 0.5, "all samples are right,\nor all are wrong", ha="center", transform=axis.transAxes)
    elif len(datasets) > 1:
        columns = 3 if max(len(label_of(one)) for one in datasets) < 8 else 1
        rows = -(-len(datasets) // columns)
        axis.set_ylim(0, axis.dataLim.ymax * (1.1 + 0.18 * rows))
        axis.legend(loc="upper right", handlelength=1.0, ncols=columns, columnspacing=1.0)


def angles(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml") -> "Figure":
    """Angles of the criteria's gradients to cross-entropy's, cumulated; beyond 90 degrees a small step raises it."""
    import seaborn as sns

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
        for name, text in titles_of(datasets[at]["criterion"]).items():
            values = datasets[at]["angle"].sel(criterion=name).values
            drawn = {"color": look(name)["color"], "linestyle": ANGLES.get(name, "-"), "label": text}
            sns.ecdfplot(x=values[np.isfinite(values)], stat="percent", ax=axis, **drawn)
        axis.set(xlim=(0, 180), xticks=(0, 45, 90, 135, 180), ylim=(0, 100), yticks=(0, 50, 100))
        axis.set(xlabel="angle to CE's gradient (°)", ylabel="samples below (%)")
    letter(axes[: len(datasets)], [title_of(one, at) for at, one in enumerate(datasets)])
    legend(fig, *axes[0].get_legend_handles_labels())
    return fig


def matrix(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml") -> "Figure":
    """Samples on which the row's student is nearer than the column's and wrong where that one is right."""
    import seaborn as sns

    (duels, *_others) = datasets
    names = list(titles_of(duels["this"]).values())
    titles = titles_of(duels["criterion"])
    criteria = [name for name in ("kl", "kl+rk", "pld") if name in titles]
    side = min(0.4 * len(names), (VENUES[venue][1] - 1.6) / len(criteria))  # of a panel, in inches
    fig = figure(min(VENUES[venue][1], 1.8 + len(criteria) * (side + 0.25)), side + 1.05)
    axes = np.ravel(fig.subplots(1, len(criteria), sharey=True))
    for axis, name in zip(axes, criteria, strict=True):
        pairs, share = (duels[key].sel(criterion=name).values for key in ("pairs", "share"))
        sns.heatmap(
            100 * share,
            mask=np.eye(len(names), dtype=bool) | ~np.isfinite(share),
            vmin=0,
            vmax=100,
            cmap=SEQUENTIAL,
            annot=pairs,
            fmt="d",
            annot_kws={"fontsize": 7},
            square=True,
            cbar=False,
            xticklabels=names,
            yticklabels=names,
            ax=axis,
        )
        axis.tick_params(length=0)
        axis.set_xticks(axis.get_xticks(), names, rotation=45, ha="right", rotation_mode="anchor")
        axis.set_yticks(axis.get_yticks(), names, rotation=0)
        axis.set(xlabel="right, larger loss", ylabel="wrong, smaller loss")
        axis.label_outer()
    bar = fig.colorbar(axes[0].collections[0], cax=axes[-1].inset_axes((1.06, 0, 0.06, 1)))
    bar.set_label("of the samples on\nwhich they differ (%)", fontsize=7)
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_linewidth(0.4)
    letter(axes, [titles[name] for name in criteria])
    return fig
