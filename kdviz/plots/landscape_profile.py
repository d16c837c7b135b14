"""Profiles: losses along lines through the trained weights, accuracy below, bands for intervals and ensembles."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from kdviz.base.variables import belonging
from kdviz.plots.landscape_panels import ACCURACY, chosen, compact, is_fraction, label_of, levels_of, long_name, titled
from kdviz.plots.style import VENUES, dash, figure, look, title

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def profile(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml", loss: str | Sequence[str] = ()) -> "Figure":
    """Every loss, and below it the accuracy, along lines through the trained weights.

    Of a plane, its two slices through the centre (solid along alpha, dashed along beta). Of an ensemble (dim seed), the
    mean and a band from the lowest to the highest of the draws. Of a sampled result, the 95 % interval as a band.

    Args:
        datasets: kind "landscape" or "profile"; attrs["label"] names the net.
        venue: its column width sets the size.
        loss: which variables to draw above the accuracy [default: all].
    Raises:
        KdvizError: nothing to draw.
    Source: ours; slices as Goodfellow et al. 2015, ensembles of directions ours.
    """
    names = chosen(datasets, loss)
    names += [ACCURACY] if ACCURACY not in names and all(ACCURACY in one for one in datasets) else []
    fig, axes, abreast, vacant = _panels(names, [is_fraction(datasets[0][name]) for name in names], venue)
    for axis, name in zip(axes, names, strict=True):
        for index, one in enumerate(datasets):
            _lines(axis, one, name, index, len(datasets) > 1)
        _scale(axis, datasets, name)
        axis.axvline(0, color="#b0b0b0", linewidth=0.6, zorder=0)
        axis.grid(axis="y")
    for axis in axes[-abreast:]:
        axis.set_xlabel(_abscissa(datasets))
        axis.tick_params(labelbottom=True)
    handles, labels = axes[0].get_legend_handles_labels()
    if len(labels) > 1 or any("seed" in one.dims for one in datasets):
        if vacant is None:
            fig.legend(handles, labels, loc="outside upper center", ncols=1 if "seed" in datasets[0].dims else 2)
        else:
            vacant.legend(handles, labels, loc="center")
    fig.align_ylabels()
    return fig


def _panels(names: Sequence[str], low: Sequence[bool], venue: str) -> "tuple[Figure, list[Axes], int, Axes | None]":
    """A panel for every variable: up to four in a column of the venue, more two abreast over the width of its text.

    Returns the panels, how many are abreast, and the empty axes beside the last one where there is room left. A row of
    variables that are all `low` (fractions, with little to see) is less high.
    """
    abreast = 1 if len(names) < 5 else 2
    rows = [low[at : at + abreast] for at in range(0, len(names), abreast)]
    heights = [1.1 if all(row) else 1.5 for row in rows]
    width = min(VENUES[venue][0], 3.4) if abreast == 1 else VENUES[venue][1]
    fig = figure(width, sum(heights) + 0.55)
    axes = fig.subplots(len(rows), abreast, sharex=True, squeeze=False, height_ratios=heights).flatten()
    left_over = axes[len(names) :]
    for axis in left_over:
        axis.set_axis_off()
    return fig, list(axes[: len(names)]), abreast, left_over[0] if len(left_over) else None


def _lines(axis: "Axes", dataset: "xr.Dataset", name: str, index: int, several: bool) -> None:
    factor = 100 if is_fraction(dataset[name]) else 1
    label = label_of(dataset, index)
    drawn = {"color": look(label, index)["color"]}
    values = factor * dataset[name]
    if "seed" in values.dims:
        # Not mean ± s.d.: a loss spans decades, and the difference would fall below 0 on its log scale.
        mean, low, high = values.mean("seed"), values.min("seed"), values.max("seed")
        axis.fill_between(values["alpha"], low, high, alpha=0.22, linewidth=0, **drawn)
        text = f"{title(label)}, mean and range of {values.sizes['seed']} directions"
        pattern = dash(label, index) if several else "-"
        axis.plot(values["alpha"], mean, linestyle=pattern, label=text, **drawn)
        return
    half_width = belonging(dataset, name, "half-width")
    slices = {"alpha": "-", "beta": (0, (4, 1.5))} if "beta" in values.dims else {"alpha": "-"}
    for dim, pattern in slices.items():
        other = {key: 0.0 for key in slices if key != dim}
        line = values.sel(other, method="nearest")
        along = f"along $\\{dim}$"
        text = (f"{title(label)}, {along}" if len(slices) > 1 else title(label)) if several else along
        axis.plot(line[dim], line, linestyle=pattern, label=text, **drawn)
        if half_width is not None:
            half = factor * dataset[half_width].sel(other, method="nearest")
            axis.fill_between(line[dim], line - half, line + half, alpha=0.18, linewidth=0, **drawn)


def _scale(axis: "Axes", datasets: "Sequence[xr.Dataset]", name: str) -> None:
    """A log scale for positive losses that span a lot; round ticks; the unit."""
    if is_fraction(datasets[0][name]):
        axis.set_ylabel(f"{long_name(datasets[0], name).removesuffix(' with teacher')} (%)")
        axis.set_ylim(0, None)
        return
    axis.set_ylabel(titled(datasets[0], name))
    shown = [one[name] if "beta" not in one[name].dims else one[name].sel(beta=0, method="nearest") for one in datasets]
    finite = np.concatenate([np.ravel(one)[np.isfinite(np.ravel(one))] for one in shown])
    if levels_of(shown)[1] and finite.min() > 0 and finite.max() > 20 * finite.min():
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter(lambda value, _: compact(value))


def _abscissa(datasets: "Sequence[xr.Dataset]") -> str:
    unit = str(datasets[0]["alpha"].attrs.get("units", ""))
    if "span_by" in datasets[0].attrs and unit.startswith("distance"):
        return rf"$\alpha$ ({unit})"
    normalize = {str(one.attrs.get("normalize", "")) for one in datasets}
    kind = f"{normalize.pop()}-normalised" if len(normalize) == 1 and normalize <= {"filter", "layer"} else ""
    given = datasets[0]["alpha"].attrs.get("long_name", "")
    words = " ".join(["distance along the", kind, "direction"]).replace("  ", " ")
    return words if str(given).startswith("direction") or not given else str(given)
