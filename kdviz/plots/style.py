"""The look of every figure: venue widths, one colour and marker per method, deterministic files.

Nothing here changes matplotlib's global state: draw inside `with style(venue):` and save with `save`.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdviz.base.check import require
from kdviz.base.files import atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# (column, full text) widths in inches, from each venue's own LaTeX style file; the last three set one column.
VENUES: dict[str, tuple[float, float]] = {
    "icml": (3.25, 6.75),
    "cvpr": (3.25, 6.875),
    "neurips": (5.5, 5.5),
    "iclr": (5.5, 5.5),
    "tmlr": (6.5, 6.5),
}
FORMATS = ("pdf", "png")

BLACK, GREY = "#000000", "#7f7f7f"
# Okabe and Ito (2008), told apart by every common colour vision; lightness differs too, for prints in grey.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7a5195", "#8c6d31")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_FIXED = {
    "teacher": (BLACK, "o"),
    "ce": (GREY, "."),
    "kd": (COLOURS[0], "o"),
    "kd+rk": (COLOURS[1], "s"),
    "rank_kendall": (COLOURS[1], "s"),
    "pld": (COLOURS[2], "^"),
    "dist": (COLOURS[3], "D"),
    "dkd": (COLOURS[4], "v"),
    "list_mle": (COLOURS[5], "P"),
    "p_list_mle": (COLOURS[7], "*"),
    "mlkd": (COLOURS[6], "X"),
}
SEQUENTIAL, DIVERGING = "viridis", "PuOr"


def look(name: str, index: int = 0) -> dict[str, Any]:
    """The fixed colour and marker of a method, loss or role; others take the palette's entry `index`.

    >>> look("teacher")
    {'color': '#000000', 'marker': 'o'}
    """
    colour, marker = _FIXED.get(name, (COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]))
    return {"color": colour, "marker": marker}


@contextmanager
def style(venue: str = "icml") -> Iterator[tuple[float, float]]:
    """A matplotlib context fit for `venue`'s papers; yields its (column, text) widths in inches."""
    import matplotlib as mpl

    require(venue in VENUES, f"style: venue must be one of {', '.join(VENUES)}, got {venue!r}")
    settings: dict[str, Any] = {
        "font.family": "DejaVu Sans",
        "font.size": 8,
        "axes.titlesize": 8.5,
        "axes.labelsize": 8,
        "xtick.labelsize": 7,
        "ytick.labelsize": 7,
        "legend.fontsize": 7,
        "legend.frameon": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.7,
        "lines.linewidth": 1.3,
        "lines.markersize": 4,
        "figure.dpi": 150,
        "savefig.dpi": 300,
        "pdf.fonttype": 42,
        "ps.fonttype": 42,
        "svg.hashsalt": "kdviz",
        "figure.constrained_layout.use": True,
    }
    with mpl.rc_context(settings):
        yield VENUES[venue]


def figure(width: float, height: float, **kwargs: Any) -> "Figure":
    """An unmanaged Figure in inches (pyplot never sees it, so nothing leaks and nothing pops up)."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", **kwargs)


def save(fig: "Figure", stem: str | os.PathLike, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write `stem.pdf`, `stem.png`, ... atomically, without dates, so that equal figures are equal files."""
    import matplotlib as mpl

    written = []
    for suffix in formats:
        require(suffix in ("pdf", "png", "svg"), f"save: format must be pdf, png or svg, got {suffix!r}")
        path = Path(f"{os.fspath(stem)}.{suffix}")
        metadata = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {"Software": "kdviz"}}[suffix]
        with atomic(path) as partial, mpl.rc_context({"pdf.fonttype": 42, "svg.hashsalt": "kdviz"}):
            fig.savefig(partial, format=suffix, metadata=metadata, dpi=300)
        written.append(path)
    return written
