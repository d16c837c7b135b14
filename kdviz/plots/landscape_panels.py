"""What the figures of landscapes share: which variables, panels, levels and names."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.interpolate import interpn

from kdviz.base.check import require, unknown
from kdviz.base.variables import with_role
from kdviz.plots.relief import is_fine
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


class Room(NamedTuple):
    """Inches around the panels of a figure.

    left: of the first panel of a line; between: two panels; bar: right of a panel with a colour bar; title: above a
    panel; below: each line; foot: below the last line, with the legend and the note.
    """

    left: float = 0.5
    between: float = 0.22
    bar: float = 0.72
    title: float = 0.24
    below: float = 0.06
    foot: float = 0.78


class Cell(NamedTuple):
    """A panel's place on the page in inches (left and bottom edge, width and height), and where in the figure it is."""

    left: float
    bottom: float
    width: float
    height: float
    first: bool  # of its line
    last: bool  # of its line, or the only one with its scale: a colour bar stands beside it
    lowest: bool  # of its column


def panels(nets: int, losses: int, venue: str, ratio: float, room: Room) -> "tuple[Figure, list[list[Cell]]]":
    """A figure with a place for every loss (outer list) and net (inner list).

    One panel takes a column's width, more take the text's. The losses of a single net are wrapped, two or three to a
    line, each with a scale of its own; the nets of one loss, four to a line at most, share theirs.

    Args:
        nets, losses: how many.
        venue: its widths.
        ratio: a panel's height over its width.
        room: what to leave around the panels.
    """
    column, text = VENUES[venue]
    many = losses if nets == 1 else nets
    abreast = many if many < 4 else 2 if many == 4 else 3
    loss_of = range(losses)
    lines = _chunks([(loss, 0) for loss in loss_of], abreast) if nets == 1 else []
    for loss in loss_of if nets > 1 else ():
        lines += _chunks([(loss, net) for net in range(nets)], abreast)
    width = min(column, 3.4) if abreast == 1 else text * min(1.0, 0.25 + abreast * 0.32)
    between = room.bar + room.between if nets == 1 else room.between
    side = (width - room.left - room.bar - (abreast - 1) * between) / abreast
    high = room.title + ratio * side + room.below
    fig = figure(width, len(lines) * high + room.foot)
    fig.set_layout_engine("none")
    cells = [[Cell(0, 0, 0, 0, False, False, False)] * nets for _ in loss_of]
    for down, line in enumerate(lines):
        bottom = room.foot + (len(lines) - 1 - down) * high + room.below
        for at, (loss, net) in enumerate(line):
            place = room.left + at * (side + between), bottom, side, ratio * side
            last = nets == 1 or at == len(line) - 1
            cells[loss][net] = Cell(*place, at == 0, last, at >= len([*lines, []][down + 1]))
    return fig, cells


def _chunks(sequence: list[Any], size: int) -> list[list[Any]]:
    return [sequence[at : at + size] for at in range(0, len(sequence), size)]


def foot(fig: "Figure", marks: "dict[str, Any]", note: str) -> None:
    """The legend of the marks and, below it, a note, at the foot of a figure of `panels`."""
    if marks:
        spot = {"loc": "lower center", "bbox_to_anchor": (0.5, 0.12 / fig.get_figheight())}
        fig.legend(marks.values(), marks, ncols=4, handletextpad=0.3, columnspacing=1.2, borderaxespad=0.1, **spot)
    if note:
        fig.text(0.5, 0.04 / fig.get_figheight(), note, ha="center", va="bottom", fontsize=7, color="#555555")


def smoothness(datasets: "Sequence[xr.Dataset]") -> str:
    """What a figure says of a grid that it draws smoothly; nothing where the grid is fine enough as it is."""
    counts = sorted({(one.sizes["alpha"], one.sizes["beta"]) for one in datasets})
    if all(is_fine(count) for pair in counts for count in pair):
        return ""
    return "drawn smoothly through the " + ", ".join(f"{a} × {b}" for a, b in counts) + " points of the grid"


def on_log_scale(name: str, logarithmic: bool) -> str:
    """The label of a scale, which says where it is logarithmic."""
    return f"{name}, log scale" if logarithmic else name


def levels_of(arrays: "Sequence[xr.DataArray]") -> tuple[np.ndarray, bool]:
    """Ten to twenty round levels over all finite values, and whether they step by ratio.

    Positive losses that span more than a factor of two, and lie mostly in the lower half of what they span, have levels
    such as 1, 1.5, 2, 3, 5, 7, 10; others (a loss that saturates, an accuracy) even ones.
    """
    values, better = np.concatenate([np.ravel(one) for one in arrays]).astype(float), larger_is_better(arrays[0])
    values = values[np.isfinite(values)]
    require(values.size, "landscape: no finite value to draw")
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-9 * max(abs(high), 1e-300):
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    low_lying = float(np.median(values)) < (low + high) / 2 if values.size else False
    if high > 0 and low >= 0 and high > 2 * low and low_lying and not better:
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


def numbered(levels: np.ndarray) -> np.ndarray:
    """The levels that have numbers, on the lines and on the colour bar alike."""
    return thin(levels[1:-1], 6)


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


def head(axes: Sequence[Any], datasets: "Sequence[xr.Dataset]", rows: Sequence[str]) -> None:
    """Letters and titles: of several nets their names (the scale beside a line says the loss), of several losses of one
    net theirs, with the net's name in front where it has one."""
    titles = []
    for name in rows:
        for index, one in enumerate(datasets):
            named = "label" in one.attrs and "mark" not in one.coords  # marked nets have their names beside them
            parts = [name_of(one, index)] if named or len(datasets) > 1 else []
            parts += [long_name(one, name)] if len(rows) > 1 and len(datasets) == 1 else []
            titles.append(", ".join(parts))
    letter(axes, titles)
