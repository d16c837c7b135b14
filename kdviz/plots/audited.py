"""What the figures of an audit share: one look for each net and comparison, and numbers as points with intervals."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kdviz.base.check import require
from kdviz.plots.style import BLACK, COLOURS, VENUES, figure, label_of, legend, letter, look, titles_of

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WITHOUT, RANDOM = "without_teacher", "random_teacher"
_CONTROLS: dict[str, dict[str, Any]] = {
    "teacher": {"color": BLACK, "marker": "o", "ls": "-"},
    WITHOUT: {"color": "#606060", "marker": "<", "ls": (0, (5, 1.5))},
    RANDOM: {"color": "#a6a6a6", "marker": "X", "ls": (0, (1.2, 1.2))},
}


def only(datasets: "Sequence[xr.Dataset]") -> "xr.Dataset":
    """The one result that a figure of an audit shows.

    Raises: KdvizError for several.
    """
    require(
        len(datasets) == 1,
        f"draw: an audit's figure shows one student, got {len(datasets)} results; draw them one by one",
    )
    return datasets[0]


def looks(found: "xr.Dataset", coordinate: str = "compared") -> dict[str, dict[str, Any]]:
    """Colour, marker, dashes and label of every net or comparison of a result."""
    titles = titles_of(found[coordinate])
    own = label_of(found)
    student = look(own) | {"ls": "-"} if own not in ("student", "ce", "teacher") else None
    known = _CONTROLS | {"student": student or {"color": COLOURS[0], "marker": "o", "ls": "-"}}
    return {
        name: known.get(name, {"color": COLOURS[1], "marker": "v", "ls": "-"}) | {"label": titles[name]}
        for name in titles
    }


def key(fig: "Figure", drawn: "dict[str, dict[str, Any]]", *, line: bool = False) -> None:
    """A legend of nets or comparisons below the panels."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=one["color"], marker=one["marker"], ls=one["ls"] if line else "none", ms=4, lw=1.1)
        for one in drawn.values()
    ]
    legend(fig, handles, [one["label"] for one in drawn.values()])


def points(axis: "Axes", found: "xr.Dataset", measures: Sequence[str]) -> None:
    """A row for each measure, a point with its interval for each comparison."""
    drawn = looks(found)
    many = len(drawn)
    for at, (name, one) in enumerate(drawn.items()):
        rows = np.arange(len(measures)) + 0.5 * ((at + 0.5) / many - 0.5)
        values, low, high = (
            np.array([float(found[f"value{end}"].sel(measure=measure, compared=name)) for measure in measures])
            for end in ("", "_low", "_high")
        )
        ends = np.nan_to_num(np.stack([values - low, high - values])).clip(0)
        style = {"color": one["color"], "fmt": one["marker"], "ms": 4, "lw": 1.0}
        axis.errorbar(values, rows, xerr=ends, capsize=2, mec="white", mew=0.4, **style)
    titles = json.loads(found["measure"].attrs["titles"])
    axis.set_yticks(range(len(measures)), [titles[measure] for measure in measures])
    axis.set_ylim(len(measures) - 0.5, -0.5)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x")


def fidelity(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml") -> "Figure":
    """Agreement, overlap, KL and tau of the student and of both controls, each with its interval.

    Args: datasets: one result of kind "fidelity".
    """
    found = only(datasets)
    width = VENUES[venue][1]
    names = [str(one) for one in found["measure"].values]
    others = [one for one in names if one != "kl"]
    fig = figure(width, 0.3 * len(names) + 1.1)
    first, second = fig.subplots(2, 1, height_ratios=[len(others), 1])
    points(first, found, others)
    first.axvline(0, color="0.6", lw=0.7)
    first.set(xlim=(None, 1.02), xlabel="fraction of samples; mean of samples' τ")
    points(second, found, ["kl"])
    second.set(xscale="log", xlabel="nats")
    letter([first, second])
    key(fig, looks(found))
    return fig


def temperatures(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml") -> "Figure":
    """KL, entropy and the differentiable tau against the temperature.

    Args: datasets: one result of kind "temperature_curves".
    """
    found = only(datasets)
    width = VENUES[venue][1]
    panels = [("kl", "KL(teacher ‖ student) (nats)"), ("entropy", "entropy (nats)"), ("smooth", "mean $\\tau_d$")]
    panels = [panel for panel in panels if panel[0] in found]
    fig = figure(width, 0.3 * width + 0.4)
    axes = np.ravel(fig.subplots(1, len(panels)))
    drawn = looks(found)
    at = found["temperature"].values
    for axis, (name, label) in zip(axes, panels, strict=True):
        for column, one in drawn.items():
            values, low, high = (found[f"{name}{end}"].sel(compared=column).values for end in ("", "_low", "_high"))
            if np.isnan(values).all() or (name, column) == ("entropy", RANDOM):  # the teacher's own
                continue
            line = {"color": one["color"], "marker": one["marker"], "ls": one["ls"], "ms": 3.5, "lw": 1.1}
            axis.plot(at, values, **line)
            axis.fill_between(at, low, high, color=one["color"], alpha=0.2, lw=0)
            if name == "smooth" and np.isfinite(float(found["exact"].sel(compared=column))):
                axis.axhline(float(found["exact"].sel(compared=column)), color=one["color"], lw=0.6)
        axis.set(xscale="log", xlabel="temperature", ylabel=label, yscale="log" if name == "kl" else "linear")
        axis.set_xticks(at[::2], [f"{one:g}" for one in at[::2]])
        axis.minorticks_off()
    letter(axes)
    key(fig, drawn, line=True)
    return fig


def margins(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml") -> "Figure":
    """Margins of each net, the student's against its teacher's, and the gaps between ranks.

    Args: datasets: one result of kind "margins".
    """
    from matplotlib.ticker import LogLocator

    found = only(datasets)
    width = VENUES[venue][1]
    fig = figure(width, 0.34 * width + 0.4)
    first, second, third = fig.subplots(1, 3)
    drawn = looks(found, "net")
    values = {name: found["margin"].sel(net=name).values for name in drawn}
    shown = np.concatenate([one for name, one in values.items() if name != RANDOM])
    low, high = np.quantile(shown, [0.002, 0.998])
    edges = np.linspace(low, max(high, low + 1e-6), 41)
    for name, one in drawn.items():
        if name != RANDOM:  # of another sample's logits, far to the left of the others
            counts, _ = np.histogram(np.clip(values[name], edges[0], edges[-1]), edges)
            first.stairs(counts / counts.sum(), edges, color=one["color"], ls=one["ls"], lw=1.1)
    first.axvline(0, color="0.6", lw=0.7)
    first.set(xlabel="margin of the label (logit)", ylabel="share of samples")
    second.plot(
        values["teacher"], values["student"], ".", ms=1.5, alpha=0.35, color=drawn["student"]["color"], rasterized=True
    )
    second.axline((0, 0), slope=1, color="0.4", lw=0.7)
    second.axhline(0, color="0.6", lw=0.7)
    second.axvline(0, color="0.6", lw=0.7)
    second.set(xlabel="teacher's margin (logit)", ylabel="student's margin (logit)")
    ranks = found["rank"].values
    for name, one in drawn.items():
        if name == RANDOM:  # the teacher's own logits
            continue
        gap, ends = (
            found["gap"].sel(net=name).values,
            [found[f"gap_{end}"].sel(net=name).values for end in ("low", "high")],
        )
        third.plot(ranks, gap, color=one["color"], marker=one["marker"], ls=one["ls"], ms=3, lw=1.1)
        third.fill_between(ranks, *ends, color=one["color"], alpha=0.2, lw=0)
    third.set(xlabel="rank", ylabel="gap to the next (logit)", yscale="log")
    third.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    third.yaxis.set_major_formatter("{x:g}")
    third.yaxis.set_minor_formatter("")
    third.locator_params(axis="x", integer=True)
    letter((first, second, third))
    key(fig, {name: one for name, one in drawn.items() if name != RANDOM}, line=True)
    return fig
