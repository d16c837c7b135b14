"""Training curves from a run's journal: loss terms and top-1 over the epochs."""

from typing import TYPE_CHECKING, Any

from kdviz.plots.style import VENUES, figure, look

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xarray as xr
    from matplotlib.figure import Figure


def curves(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml", **_: Any) -> "Figure":
    """Validation top-1 (left) and the total training loss (right) of every run over its epochs.

    Args:
        datasets: kind "training", dim epoch; variables "total" and the terms (nats, means over the epoch) and, where
            the run held a part out, "val_top1" (fraction); attrs name, method.
        venue: its column widths set the size.
    Source: ours.
    """
    fig = figure(VENUES[venue][1], 2.3)
    left, right = fig.subplots(1, 2)
    for index, run in enumerate(datasets):
        drawn = {
            **look(str(run.attrs.get("method", "")), index),
            "label": str(run.attrs.get("name", "")),
            "markersize": 3,
        }
        if "val_top1" in run:
            left.plot(run["epoch"], 100 * run["val_top1"], **drawn)
        right.plot(run["epoch"], run["total"], **drawn)
    left.set(xlabel="epoch", ylabel="top-1 on val (%)")
    right.set(xlabel="epoch", ylabel="training loss (nats)")
    if not left.lines:
        left.text(0.5, 0.5, "no part held out", ha="center", va="center", transform=left.transAxes)
    if len(datasets) > 1:
        right.legend()
    return fig


def terms(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml", **_: Any) -> "Figure":
    """The weighted terms of one run's loss over its epochs, with their sum in black."""
    run = datasets[0]
    fig = figure(VENUES[venue][0] if VENUES[venue][0] < 5 else 3.25, 2.3)
    axes = fig.subplots()
    for index, name in enumerate(str(name) for name in run.data_vars if name not in ("val_top1", "val_loss", "total")):
        axes.plot(run["epoch"], run[name], **look(name, index), label=name, markersize=3)
    axes.plot(run["epoch"], run["total"], color="black", label="total")
    axes.set(xlabel="epoch", ylabel="training loss (nats)")
    axes.legend()
    return fig
