"""Figures of rankings: how Kendall's tau is distributed over samples, and what it goes with."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kdviz.plots.style import VENUES, dash, figure, label_of, legend, letter, look, title_of, titles_of

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TAU = "mean $\\tau_b$"


def distribution(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml") -> "Figure":
    """Tau of every sample as one ridge per student; a dot with its interval marks the mean, which is written out.

    Args: datasets: results of kind "tau".
    """
    width = VENUES[venue][0]
    fig = figure(width, 0.6 + 0.42 * max(2, len(datasets)))
    axis = fig.subplots()
    taus = [one.tau_b.values[np.isfinite(one.tau_b.values)] for one in datasets]
    low = min((float(np.quantile(values, 0.002)) for values in taus if len(values)), default=-1.0)
    edges = np.linspace(min(low, 0.95), 1, 61)
    for row, (one, values) in enumerate(zip(datasets, taus, strict=True)):
        base, colour = len(datasets) - 1 - row, look(label_of(one, row), row)["color"]
        counts, _ = np.histogram(values, edges)
        axis.stairs(
            base + 0.75 * counts / max(counts.max(), 1), edges, baseline=base, fill=True, color=colour, alpha=0.25
        )
        axis.stairs(base + 0.75 * counts / max(counts.max(), 1), edges, baseline=base, color=colour, lw=0.9)
        mean, ends = _mean(one, "mean", measure="tau_b")
        marker = look(label_of(one, row), row)["marker"]
        axis.errorbar(
            mean,
            base,
            xerr=ends,
            fmt=marker,
            color=colour,
            ms=8 if marker == "." else 4,
            capsize=2,
            mec="white",
            mew=0.4,
        )
        axis.annotate(
            f"{mean:.3f}", (1, base), (6, 0), textcoords="offset points", va="center", annotation_clip=False, fontsize=8
        )
    axis.annotate(
        "mean",
        (1, len(datasets) - 0.45),
        (6, 0),
        textcoords="offset points",
        va="center",
        fontsize=8,
        annotation_clip=False,
    )
    axis.set_yticks(range(len(datasets)), [title_of(one, at) for at, one in reversed([*enumerate(datasets)])])
    axis.set(
        xlabel="Kendall's $\\tau_b$, student against teacher",
        ylabel="share of samples" if len(datasets) > 2 else "samples",
    )
    axis.set(xlim=(edges[0], 1), ylim=(-0.25, len(datasets)))
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    return fig


def breakdown(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml") -> "Figure":
    """Mean tau by share of channels, by the teacher's confidence, by right and wrong, by class, by measure, the
    differentiable tau_d against the exact one, and by epoch; panels whose numbers are there.

    Args: datasets: results of kind "tau".
    """
    width = VENUES[venue][1]
    panels: list[tuple[str, str, Callable[..., None]]] = [
        ("mean", "measures (top: overlap)", _measures),
        ("share_mean", "largest, smallest channels", _shares),
        ("confidence_mean", "teacher's confidence", _confidence),
        ("group_mean", "right and wrong samples", _groups),
        ("class_mean", "classes", _classes),
        ("smooth_mean", "differentiable $\\tau_d$", _smooth),
        ("epoch_mean", "training", _epochs),
    ]
    shown = [panel for panel in panels if any(panel[0] in one for one in datasets)]
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    fig = figure(width, rows * (0.22 * width + 0.5) + 0.3)
    grid = fig.add_gridspec(rows, columns)
    places = [(index // columns, index % columns) for index in range(len(shown))]
    spans = [slice(at, at + 1) for _, at in places[:-1]] + [slice(places[-1][1], columns)]  # the last fills its row
    axes = [fig.add_subplot(grid[row, span]) for (row, _), span in zip(places, spans, strict=True)]
    for axis, (needed, _, draw) in zip(axes, shown, strict=True):
        for index, one in enumerate(datasets):
            if needed in one:
                draw(axis, one, index, len(datasets))
        _at_least(axis)
    letter(axes, [head for _, head, _ in shown])
    handles = dict(zip(*reversed(axes[0].get_legend_handles_labels()), strict=True))
    legend(fig, list(handles.values()), list(handles))
    return fig


def _mean(dataset: "xr.Dataset", name: str, **where: Any) -> tuple[Any, np.ndarray]:
    """A mean and the lengths of its error bar's two arms, (2, ...)."""
    mean, low, high = (dataset[f"{name}{end}"].sel(where).values for end in ("", "_low", "_high"))
    return mean, np.nan_to_num(np.array([mean - low, high - mean]).reshape(2, -1)).clip(0)


def _look(dataset: "xr.Dataset", index: int, *, line: bool = True) -> dict[str, Any]:
    found = look(label_of(dataset), index) | {
        "label": title_of(dataset, index),
        "ms": 3.5,
        "capsize": 1.5,
        "elinewidth": 0.8,
    }
    return found | {"ls": dash(label_of(dataset), index) if line else "none", "lw": 1.1}


def _beside(count: int, index: int, many: int) -> np.ndarray:
    """Places 0, 1, ... moved a little, so that several students' marks stand side by side."""
    return np.arange(count) + 0.6 * ((index + 0.5) / many - 0.5)


def _at_least(axis: "Axes", span: float = 0.1) -> None:
    """Keep small differences small on the page."""
    low, high = axis.get_ylim()
    if high - low < span:
        middle = (low + high) / 2
        axis.set_ylim(middle - span / 2, middle + span / 2)


def _measures(axis: "Axes", one: "xr.Dataset", index: int, many: int) -> None:
    names = [str(name) for name in one.measure.values]
    mean, ends = _mean(one, "mean")
    axis.errorbar(_beside(len(names), index, many), mean, yerr=ends, **_look(one, index, line=False))
    axis.set_xticks(
        range(len(names)), list(titles_of(one.measure).values()), rotation=40, ha="right", rotation_mode="anchor"
    )
    axis.set(xlabel="measure", ylabel="mean (1: same)")


def _shares(axis: "Axes", one: "xr.Dataset", index: int, many: int) -> None:
    """Largest to the right, smallest to the left, all channels in the middle of the scale they share."""
    part = [float(share) for share in one.share.values if share < 1]
    places = [("min", share) for share in part] + [("top", 1.0)] + [("top", share) for share in reversed(part)]
    whole = 1.0 in one.share.values
    places = places if whole else [place for place in places if place[1] < 1]
    found = [_mean(one, "share_mean", end=end, share=share) for end, share in places]
    axis.errorbar(
        _beside(len(places), index, many),
        [mean for mean, _ in found],
        yerr=np.hstack([ends for _, ends in found]),
        **_look(one, index, line=False),
    )
    names = {"min": "min", "top": "top"}
    axis.set_xticks(
        range(len(places)),
        ["all" if share == 1 else f"{names[end]} {share:.0%}" for end, share in places],
        rotation=40,
        ha="right",
        rotation_mode="anchor",
    )
    axis.set(xlabel="share of the channels", ylabel=TAU)


def _confidence(axis: "Axes", one: "xr.Dataset", index: int, _many: int) -> None:
    """Equally many samples in each bin, evenly spaced: most samples of a good teacher lie close to 1."""
    mean, ends = _mean(one, "confidence_mean")
    places = np.arange(len(mean))
    axis.errorbar(places, mean, yerr=ends, **_look(one, index))
    axis.set_xticks(places[::3], [f"{float(at):.3g}" for at in one.confidence_at.values[::3]])
    axis.set(xlabel="its largest probability", ylabel=TAU)


def _groups(axis: "Axes", one: "xr.Dataset", index: int, many: int) -> None:
    mean, ends = _mean(one, "group_mean")
    axis.errorbar(_beside(2, index, many), mean, yerr=ends, **_look(one, index, line=False))
    axis.set_xticks([0, 1], ["right", "wrong"])
    axis.set(xlim=(-0.5, 1.5), xlabel="student's class", ylabel=TAU)


def _classes(axis: "Axes", one: "xr.Dataset", index: int, _many: int) -> None:
    colour = look(label_of(one), index)["color"]
    means = np.sort(one.class_mean.values)
    axis.plot(np.arange(1, len(means) + 1), means, color=colour, ls=dash(label_of(one), index), lw=1.1)
    axis.set(xlabel="classes, by their mean", ylabel=TAU)


def _smooth(axis: "Axes", one: "xr.Dataset", index: int, _many: int) -> None:
    style = look(label_of(one), index)
    axis.plot(one.steepness, one.smooth_mean, ls=dash(label_of(one), index), ms=3.5, lw=1.1, **style)
    axis.axhline(float(one.smooth_exact), color=style["color"], lw=0.6)
    axis.set(xscale="log", xlabel="steepness k", ylabel="mean $\\tau_d$ (thin: exact)")
    axis.set_xticks(one.steepness.values[::2], [f"{at:g}" for at in one.steepness.values[::2]])
    axis.minorticks_off()


def _epochs(axis: "Axes", one: "xr.Dataset", index: int, _many: int) -> None:
    mean, ends = _mean(one, "epoch_mean")
    axis.errorbar(one.epoch.values, mean, yerr=ends, **_look(one, index))
    axis.locator_params(axis="x", integer=True)
    axis.set(xlabel="epoch", ylabel=TAU)
