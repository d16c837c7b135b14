"""A drawn result as text inside the page: SVG where it is small, PNG where it is not."""

import base64
import tempfile
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from kdviz import plots

if TYPE_CHECKING:
    import xarray as xr

LARGEST_SVG = 150_000  # bytes; a 3-D surface takes megabytes
PIXELS = 144  # of the page for an inch of the figure: its 9-point letters become 18 pixels at most
_TYPES = {"svg": "image/svg+xml", "png": "image/png"}


def image(datasets: "Sequence[xr.Dataset]", *styles: str, caption: str) -> str:
    """A <figure> element: the drawing in each style (none: the kind's first) above one caption, which is plain text."""
    words = escape(caption)
    drawn = "".join(_drawing(datasets, style, words) for style in styles or (None,))
    return f"<figure>{drawn}<figcaption>{words}</figcaption></figure>"


def _drawing(datasets: "Sequence[xr.Dataset]", figure: str | None, words: str, venue: str = "neurips") -> str:
    """An <img> element with the drawing inside it."""
    with plots.style(venue), tempfile.TemporaryDirectory() as folder:
        fig = plots.draw(datasets, figure, venue=venue)
        (path,) = plots.save(fig, Path(folder) / "figure", ("svg",))
        if path.stat().st_size > LARGEST_SVG:
            (path,) = plots.save(fig, Path(folder) / "figure", ("png",))
        width = round(PIXELS * fig.get_figwidth())
        data = base64.b64encode(path.read_bytes()).decode()
    source = f"data:{_TYPES[path.suffix[1:]]};base64,{data}"
    return f'<img src="{source}" width="{width}" alt="{words}">'
