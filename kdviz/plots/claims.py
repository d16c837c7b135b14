"""A claim tested over several runs of each method: every run a dot, every group its mean, and the verdict."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kdviz.base.check import require
from kdviz.plots.style import VENUES, figure, look, title

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

PER_LINE = 3  # panels beside each other


def claims(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml") -> "Figure":
    """One panel per quantity: the runs of each group as dots, the mean as a bar, p-value and verdict above.

    Args:
        datasets: one result of kind "claims".
        venue: whose full text width it has.
    """
    require(len(datasets) == 1, f"claims: draws one result, got {len(datasets)}")
    (one,) = datasets
    quantities = list(map(str, one["quantity"].values))
    across = min(PER_LINE, len(quantities))
    down = -(-len(quantities) // across)
    above = 0.14 * (one.sizes["other"] if one.sizes["other"] > 1 else 0)  # a line for each verdict
    fig = figure(VENUES[venue][1] * across / PER_LINE, (2.2 + above) * down + 0.3)
    axes = list(fig.subplots(down, across, squeeze=False).ravel())
    for axis in axes[len(quantities) :]:
        axis.set_visible(False)
    for axis, name in zip(axes, quantities, strict=False):
        _panel(axis, one.sel(quantity=name), str(one.attrs["base"]))
    synthetic = " (synthetic)" if one.attrs.get("synthetic") else ""
    fig.suptitle(
        f"{one.attrs.get('data', '')}{synthetic}; each dot a run, each bar a group's mean".lstrip("; "), fontsize=8
    )
    return fig


def _panel(axis: Any, at: "xr.Dataset", base: str) -> None:
    from matplotlib.ticker import MaxNLocator

    groups = list(map(str, at["of_group"].values))
    members = np.array(list(map(str, at["group"].values)))
    for place, group in enumerate(groups):
        values, drawn = at["value"].to_numpy()[members == group], look(group, place)
        spread = np.linspace(-0.15, 0.15, len(values)) if len(values) > 1 else np.zeros(1)
        axis.plot(place + spread, values, linestyle="none", alpha=0.75, **drawn)
        axis.plot([place - 0.3, place + 0.3], [values.mean()] * 2, color=drawn["color"], linewidth=1.6)
    others = list(map(str, at["other"].values))
    shown = [
        f"{'' if len(others) == 1 else f'{title(other)}: '}{at['told'].sel(other=other).values}"
        f" (p = {float(at['p'].sel(other=other)):.2g})"
        for other in others
    ]
    unit = str(at["units"].values)
    wanted = f"{at['wanted'].values} than {title(base)}?"
    asked = [f"{wanted} {shown[0]}"] if len(shown) == 1 else [wanted, *shown]
    axis.set_title("\n".join([_first(str(at["long_name"].values)), *asked]), fontsize=7.5, loc="left")
    axis.set_ylabel({"1": "", "nats per squared unit of weight": "nats / weight²"}.get(unit, unit), fontsize=8)
    axis.set_xticks(
        range(len(groups)), [f"{title(group)}\n{np.sum(members == group)} runs" for group in groups], fontsize=7.5
    )
    axis.set_xlim(-0.6, len(groups) - 0.4)
    axis.margins(y=0.12)
    if unit == "1" and np.all(at["value"] == np.round(at["value"])):  # counts
        axis.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axis.set_ylim(float(at["value"].min()) - 0.6, float(at["value"].max()) + 0.6)
    axis.grid(axis="y")


def _first(text: str) -> str:
    return text[:1].upper() + text[1:]
