"""What the figures of landscapes share: which variables, panels, levels and names."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.interpolate import interpn

from kdviz.base.check import require, unknown
from kdviz.base.variables import with_role
from kdviz.plots.style import COLOURS, VENUES, figure, letter, title

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

RED = COLOURS[1]
ACCURACY = "accuracy"  # drawn below the losses or left out, unless it is asked for
MANTISSAS = (
    (1.0,),
    (1.0, 3.0),
    (1.0, 2.0, 5.0),
    (1.0, 1.5, 2.0, 3.0, 5.0, 7.0),
    (1.0, 1.2, 1.4, 1.7, 2.0, 2.4, 2.9, 3.5, 4.2, 5.0, 6.0, 7.2, 8.5),
)


def chosen(datasets: "Sequence[xr.Dataset]", loss: str | Sequence[str] = ()) -> list[str]:
    """The variables to draw: those asked for, or all but the accuracy that all datasets have.

    Raises:
        KdvizError: none, or one that a dataset has not.
    """
    grid = {"alpha", "beta", "seed"}
    there = [
        name
        for name in with_role(datasets[0], "loss", "metric")
        if "alpha" in datasets[0][name].dims
        and set(datasets[0][name].dims) <= grid
        and all(name in one for one in datasets)
    ]
    wanted = [loss] if isinstance(loss, str) else list(loss)
    for name in wanted:
        if name not in there:
            raise unknown("variable of the landscape", name, there)
    wanted = wanted or [name for name in there if name != ACCURACY]
    require(wanted, "landscape: the results have no loss in common to draw")
    return wanted


def panels(
    datasets: "Sequence[xr.Dataset]", rows: Sequence[str], venue: str, ratio: float, **kwargs: Any
) -> "tuple[Figure, Any, int]":
    """A figure with a panel for every loss (rows) and net (columns), its axes [rows, columns], how many are abreast.

    One panel takes a column's width, more take the text's; `ratio` is a panel's height over its width. The losses of a
    single net are wrapped, two or three abreast.
    """
    column, text = VENUES[venue]
    count, abreast = len(rows) * len(datasets), len(datasets)
    if abreast == 1 < count:
        abreast = 2 if count in (2, 4) else 3
    down = -(-count // abreast)
    width = min(column, 3.4) if abreast == 1 else text * min(1.0, (0.25 + abreast * 0.32))
    margin = 0.9 if abreast == len(datasets) else 0.8 * abreast  # room for the colour bars
    fig = figure(
        width, (ratio * ((width - margin) / abreast) + (0.26 if abreast == len(datasets) else 0.5)) * down + 0.35
    )
    axes = fig.subplots(down, abreast, squeeze=False, **kwargs).flatten()
    for axis in axes[count:]:
        axis.remove()
    return fig, axes[:count].reshape(len(rows), len(datasets)), abreast


def levels_of(arrays: "Sequence[xr.DataArray]") -> tuple[np.ndarray, bool]:
    """Ten to twenty round levels over all finite values, and whether they step by ratio.

    Positive losses that span more than a factor of two have levels such as 1, 1.5, 2, 3, 5, 7, 10; others even ones.
    """
    values, better = np.concatenate([np.ravel(one) for one in arrays]).astype(float), larger_is_better(arrays[0])
    values = values[np.isfinite(values)]
    require(values.size, "landscape: no finite value to draw")
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-9 * max(abs(high), 1e-300):
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    if high > 0 and low >= 0 and high > 2 * low and not better:
        found = nice(max(low, high * 1e-5), high)
        return found, True
    from matplotlib.ticker import MaxNLocator

    return np.asarray(MaxNLocator(14, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)), False


def nice(low: float, high: float, least: int = 11) -> np.ndarray:
    """Round levels that step by ratio, from at or below `low` to at or above `high`, `least` or more if that can be.

    >>> nice(0.8, 40, least=5).tolist()
    [0.3, 1.0, 3.0, 10.0, 30.0, 100.0]
    """
    powers = 10.0 ** np.arange(np.floor(np.log10(low)) - 1, np.ceil(np.log10(high)) + 2)
    found = np.empty(0)
    for mantissas in MANTISSAS:
        every = np.unique(np.round(np.outer(powers, mantissas), 12))
        first = max(int(np.searchsorted(every, low, side="right")) - 1, 0)
        last = int(np.searchsorted(every, high))
        found = every[first : last + 1]
        if len(found) >= least:
            return found
    return found if len(found) > 7 else np.geomspace(low, high, least)


def ticks_of(levels: np.ndarray, logarithmic: bool) -> np.ndarray:
    """A few of the round values within the levels, for an axis of heights.

    >>> ticks_of(np.array([0.6, 0.72, 1.0, 2.0, 3.5, 5.0]), logarithmic=True).tolist()
    [1.0, 3.0]
    """
    ticks = nice(levels[0], levels[-1], 4) if logarithmic else thin(levels, 5)
    return ticks[(ticks >= levels[0]) & (ticks <= levels[-1])]


def thin(levels: np.ndarray, count: int) -> np.ndarray:
    """About `count` of the levels, evenly spread."""
    return levels[:: max(1, round(len(levels) / count))]


def compact(value: float) -> str:
    """A number in few characters.

    >>> [compact(one) for one in (0.15, 2.0, 1200.0, 3e6, -0.5)]
    ['0.15', '2', '1200', '$3{\\\\times}10^{6}$', '−0.5']
    """
    if value and not 1e-3 <= abs(value) < 1e5:
        power = int(np.floor(np.log10(abs(value))))
        lead = round(value / 10.0**power, 2)
        return f"$10^{{{power}}}$" if lead == 1 else f"${lead:g}{{\\times}}10^{{{power}}}$"
    return f"{value:.4g}".replace("-", "−")


def larger_is_better(values: "xr.DataArray") -> bool:
    """Whether larger values of a variable are better, as of accuracy."""
    return values.attrs.get("better") == "higher"


def is_fraction(values: "xr.DataArray") -> bool:
    """Whether a variable is a fraction, which figures show in per cent."""
    return values.attrs.get("units") == "fraction"


def long_name(dataset: "xr.Dataset", name: str) -> str:
    """What a variable is called in figures."""
    return str(dataset[name].attrs.get("long_name", name))


def titled(dataset: "xr.Dataset", name: str) -> str:
    """A variable's name with its unit, e.g. "cross-entropy (nats)"."""
    unit = dataset[name].attrs.get("units", "1")
    return long_name(dataset, name) + (f" ({unit})" if unit != "1" else "")


def label_of(dataset: "xr.Dataset", index: int = 0) -> str:
    """The net's name in figures."""
    return str(dataset.attrs.get("label") or dataset.attrs.get("name") or f"net {index + 1}")


def name_of(dataset: "xr.Dataset", index: int = 0) -> str:
    """The net's name, or those of the nets that a plane goes through, as they stand in figures."""
    names = map(str, dataset["mark"].values) if "mark" in dataset.coords else [label_of(dataset, index)]
    return ", ".join(map(title, names))


class Places(NamedTuple):
    """Places on a plane: the nets that it goes through, or (run) a run's path over it.

    alpha, beta, values: [n], of the grid's variable there, between its points along straight lines; names: of the nets,
    or the epoch at every tenth place of the path and "" between.
    """

    alpha: np.ndarray
    beta: np.ndarray
    values: np.ndarray
    names: list[str]
    run: bool


def places(dataset: "xr.Dataset", name: str) -> Places | None:
    """What a result marks on its plane, with the values of one variable; None where that is nothing."""
    run = "mark_alpha" not in dataset
    kind, between = ("trajectory", 10) if run else ("mark", 1)
    if f"{kind}_alpha" not in dataset:
        return None
    corners = [dataset[f"{kind}_{axis}"].values for axis in ("alpha", "beta")]
    steps = np.arange((len(corners[0]) - 1) * between + 1)
    alpha, beta = (np.interp(steps, steps[::between], one) for one in corners)
    grid = dataset["alpha"].values, dataset["beta"].values
    inside = np.stack([one.clip(axis[0], axis[-1]) for one, axis in zip((alpha, beta), grid, strict=True)], -1)
    values = interpn(grid, dataset[name].transpose("alpha", "beta").values, inside)
    written = dataset["trajectory_epoch" if run else "mark"].values
    names = ["" if i % between else title(str(written[i // between])) for i in steps]
    return Places(alpha, beta, values, names, run)


def head(axes: Any, datasets: "Sequence[xr.Dataset]", rows: Sequence[str], *, units: bool = False) -> None:
    """Letters and titles: the net, and the loss where there are several (or, with its unit, always)."""
    titles = []
    for name in rows:
        for index, one in enumerate(datasets):
            named = "label" in one.attrs and "mark" not in one.coords  # marked nets have their names beside them
            parts = [name_of(one, index)] if named or len(datasets) > 1 else []
            parts += [titled(one, name) if units else long_name(one, name)] if units or len(rows) > 1 else []
            titles.append(", ".join(parts))
    letter(axes.flat, titles)
