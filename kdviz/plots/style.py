"""The style of every figure: venue widths, one colour and marker per method, deterministic files.

Nothing here changes matplotlib's global state: draw inside `with style(venue):` and save with `save`.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdviz.base.check import one_of
from kdviz.base.files import atomic

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

# (column, full text) widths in inches: icml20XX.sty's text of 6.75 with a gap of .25, CVPR's author guidelines (text
# 6 7/8, columns 3 1/4), \textwidth of neurips_20XX.sty and iclr20XX_conference.sty, tmlr.sty; the last three set one
# column.
VENUES: dict[str, tuple[float, float]] = {
    "icml": (3.25, 6.75),
    "cvpr": (3.25, 6.875),
    "neurips": (5.5, 5.5),
    "iclr": (5.5, 5.5),
    "tmlr": (6.5, 6.5),
}
FORMATS = ("pdf", "png")  # what is written unless formats are named
KNOWN_FORMATS = ("pdf", "png", "svg")

BLACK, GREY, INDIGO = "#000000", "#7f7f7f", "#332288"
# Okabe and Ito (2008), distinct for every common colour vision; lightness differs too, for prints in grey.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7a5195", "#8c6d31")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (2.5, 2)), (0, (8, 1.5, 1, 1.5, 1, 1.5)))
# Colour, marker, and which of DASHES; CE, KD, KD+RK, DIST and PLD share none of the three.
_FIXED = {
    "teacher": (BLACK, "o", 0),
    "ce": ("#606060", ".", 1),
    "kd": (COLOURS[0], "o", 2),
    "kd+rk": (COLOURS[1], "s", 3),
    "kl": (COLOURS[0], "o", 2),
    "kl+rk": (COLOURS[1], "s", 3),
    "rank_kendall": (COLOURS[5], "P", 1),
    "pld": (COLOURS[2], "^", 5),
    "dist": (COLOURS[3], "D", 4),
    "dkd": (COLOURS[4], "v", 1),
    "list_mle": (INDIGO, "X", 4),
    "p_list_mle": (COLOURS[7], "*", 2),
    "mlkd": (COLOURS[6], "p", 3),
}
SEQUENTIAL, DIVERGING = "viridis", "PuOr"
# A mark on a coloured plane: an open white shape, with `outlined()` visible on every colour and in grey.
MARK: dict[str, Any] = {
    "color": "white",
    "markerfacecolor": "none",
    "markersize": 4.5,
    "markeredgewidth": 1.1,
    "clip_on": False,
    "linestyle": "none",
}

# Times-like, as the venues' own text; both families come with matplotlib, so a figure is the same everywhere.
SETTINGS: dict[Any, Any] = {
    "font.family": ["STIXGeneral", "DejaVu Sans"],
    "mathtext.fontset": "stix",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "lines.linewidth": 1.3,
    "lines.markersize": 4,
    "grid.color": "#d9d9d9",
    "grid.linewidth": 0.5,
    "image.cmap": SEQUENTIAL,
    "figure.dpi": 150,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "kdviz",
}


def look(name: str, index: int = 0) -> dict[str, Any]:
    """The fixed colour and marker of a method, a loss or the teacher; others take the palette's entry `index`.

    >>> look("teacher")
    {'color': '#000000', 'marker': 'o'}
    """
    colour, marker, _ = _FIXED.get(name, (COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)], index))
    return {"color": colour, "marker": marker}


def outlined() -> list[Any]:
    """Path effects that put a thin black edge around a white mark."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=2.2, foreground="black")]


def ink(levels: np.ndarray) -> list[str]:
    """Colours of level lines and numbers on SEQUENTIAL over these levels: white on dark, dark on light.

    >>> ink(np.arange(4))
    ['#ffffff', '#ffffff', '#333333', '#333333']
    """
    place = np.linspace(0, 1, len(levels))
    return ["#333333" if one > 0.6 else "#ffffff" for one in place]


def title(name: str) -> str:
    r"""A name as it stands in a figure where the data give it no title; a user's own holds no mathematics.

    >>> title("kd"), title("my_loss"), title("a net for $5")
    ('KD', 'my loss', 'a net for \\$5')
    """
    if name in _FIXED and name.replace("+", "").isalpha() and name != "teacher":
        return name.upper()
    return name.replace("_", " ").replace("$", r"\$")


def label_of(dataset: "xr.Dataset", index: int = 0) -> str:
    """The label of a student's result, by which its colour is chosen."""
    return str(dataset.attrs.get("label", f"student {index + 1}" if index else "student"))


def title_of(dataset: "xr.Dataset", index: int = 0) -> str:
    """What a figure calls a student: the title that its result carries, or its label."""
    return str(dataset.attrs.get("title") or title(label_of(dataset, index)))


def titles_of(coordinate: "xr.DataArray") -> dict[str, str]:
    """What a figure calls each value of a coordinate of names: the titles that the data carry, or the names.

    >>> import xarray as xr
    >>> titles_of(xr.DataArray(["rank_kendall", "mine"], dims="loss", attrs={"titles": '{"rank_kendall": "ranking"}'}))
    {'rank_kendall': 'ranking', 'mine': 'mine'}
    """
    known = json.loads(coordinate.attrs.get("titles", "{}"))
    return {name: known.get(name) or title(name) for name in map(str, np.ravel(coordinate.values))}


def unit_of(coordinate: "xr.DataArray", name: str) -> str | None:
    """The unit of the values that belong to a name of a coordinate, or None where the data do not say."""
    return json.loads(coordinate.attrs.get("units_of", "{}")).get(name)


def dash(name: str, index: int = 0) -> Any:
    """The line pattern that goes with `look(name)`, so that lines differ in a grey print too.

    >>> dash("ce") == dash("kd")
    False
    """
    return DASHES[_FIXED[name][2] if name in _FIXED else index % len(DASHES)]


def drawable(venue: str = "icml", formats: Iterable[str] = ()) -> None:
    """Refuse a venue or formats that nobody knows, before anything is computed for a figure that cannot be.

    Raises:
        KdvizError: one that is not among VENUES or KNOWN_FORMATS.
    """
    one_of("style", VENUES, venue=venue)
    for suffix in formats:
        one_of("save", KNOWN_FORMATS, format=suffix)


@contextmanager
def style(venue: str = "icml") -> Iterator[tuple[float, float]]:
    """A matplotlib context for `venue`'s papers; yields its (column, text) widths in inches."""
    import matplotlib as mpl

    drawable(venue)
    with mpl.rc_context(SETTINGS):
        yield VENUES[venue]


def figure(width: float, height: float, **kwargs: Any) -> "Figure":
    """An unmanaged Figure in inches (pyplot never sees it, so nothing leaks and nothing pops up)."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", **kwargs)


def letter(axes: Iterable[Any], titles: Iterable[str] = ()) -> None:
    """Head the panels (a), (b), ... with their titles, left-aligned; a single panel keeps its title alone."""
    many, named = list(axes), [*titles]
    for index, axis in enumerate(many):
        title = named[index] if index < len(named) else ""
        axis.set_title(f"({chr(97 + index)}) {title}".rstrip() if len(many) > 1 else title, loc="left")


def legend(fig: "Figure", handles: Sequence[Any], names: Sequence[str], **kwargs: Any) -> None:
    """A legend below the panels, in as many columns as the figure's width holds; further rows make it taller."""
    width, columns = fig.bbox.width / fig.dpi, len(names)
    while columns > 1 and _row(names, columns) > width:
        columns -= 1
    rows = -(-len(names) // columns)
    if rows > 1 and hasattr(fig, "set_figheight"):
        fig.set_figheight(fig.get_figheight() + 0.16 * (rows - 1))
    fig.legend(handles, names, loc="outside lower center", ncols=-(-len(names) // rows), **kwargs)


def _row(names: Sequence[str], columns: int) -> float:
    """Inches of a row: each column's handle and its longest name, at 8 points."""
    rows = -(-len(names) // columns)
    return sum(0.58 + 0.058 * max(map(len, names[at : at + rows])) for at in range(0, len(names), rows))


def save(fig: "Figure | str", stem: str | os.PathLike, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write `stem.pdf`, `stem.png`, ... atomically, without dates, so that equal figures are equal files.

    A page (a string of HTML) is written as `stem.html`, whatever the formats.
    """
    import matplotlib as mpl

    if isinstance(fig, str):
        path = Path(f"{os.fspath(stem)}.html")
        with atomic(path) as partial:
            partial.write_text(fig, encoding="utf-8")
        return [path]
    drawable(formats=formats)
    written = []
    with mpl.rc_context(SETTINGS), _settled(fig):
        for suffix in formats:
            path = Path(f"{os.fspath(stem)}.{suffix}")
            metadata = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {"Software": "kdviz"}}[suffix]
            with atomic(path) as partial:
                _render(fig, suffix, partial, metadata)
            written.append(path)
    return written


def _render(fig: "Figure", suffix: str, path: Path, metadata: Mapping[str, Any]) -> None:
    """One file by its canvas. `Figure.savefig` would draw everything twice, to lay out what `_settled` has laid out."""
    from importlib import import_module

    module, name = {"pdf": ("pdf", "Pdf"), "png": ("agg", "Agg"), "svg": ("svg", "SVG")}[suffix]
    kept = fig.canvas, fig.dpi
    try:
        canvas = getattr(import_module(f"matplotlib.backends.backend_{module}"), f"FigureCanvas{name}")(fig)
        fig.dpi = SETTINGS["savefig.dpi"]
        getattr(canvas, f"print_{suffix}")(path, metadata=metadata)
    finally:
        fig.set_canvas(kept[0])
        fig.dpi = kept[1]


@contextmanager
def _settled(fig: "Figure") -> Iterator[None]:
    """The figure laid out once for all formats; its solver leaves noise in the last digits, which is rounded off."""
    engine = fig.get_layout_engine()
    if engine is None:
        yield
        return
    engine.execute(fig)
    fig.set_layout_engine("none")
    parts = list(fig.subfigs)
    for part in parts:
        parts += part.subfigs
        part.bbox_relative.set_points(part.bbox_relative.get_points().round(6))
    for axis in fig.axes:
        left, low, width, height = axis.get_position(original=True).bounds
        axis.set_position((round(left, 6), round(low, 6), round(width, 6), round(height, 6)))
        axis.set_in_layout(True)
    try:
        yield
    finally:
        fig.set_layout_engine(engine)
