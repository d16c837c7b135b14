"""An interactive landscape as one HTML page that opens without a network."""

import json
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from kdviz.base.check import KdvizError, require
from kdviz.plots.landscape_panels import ACCURACY, RED, Places, chosen, levels_of, long_name, name_of, places, ticks_of
from kdviz.plots.style import SEQUENTIAL

if TYPE_CHECKING:
    import xarray as xr

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ --ink: #1b1f24; --soft: #555; --back: #fff; color-scheme: light dark; }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink: #e8e8e8; --soft: #aaa; --back: #15181c; }} }}
* {{ box-sizing: border-box; }}
body {{ margin: 0; height: 100vh; display: flex; flex-direction: column; padding: .8rem 1rem;
  color: var(--ink); background: var(--back); font: 15px/1.4 Georgia, "Times New Roman", serif; }}
h1 {{ font-size: 1.2rem; font-weight: normal; margin: 0; overflow-wrap: anywhere; }}
p {{ color: var(--soft); margin: .2rem 0; max-width: 75ch; }}
header, main {{ width: 100%; max-width: calc({wide} * 100vh); margin: 0 auto; }}
main {{ flex: 1; min-height: 280px; max-height: calc(76vw / {wide}); }}
</style></head><body>
<header><h1>{title}</h1>
<p>{caption}</p></header>
<main>{plot}</main>
</body></html>
"""
# The plot's own colours follow the page's, now and when the reader's setting changes.
PAINT = """
const dark = window.matchMedia("(prefers-color-scheme: dark)");
function paint() {
  const ink = dark.matches ? "#e8e8e8" : "#1b1f24", line = dark.matches ? "#444b53" : "#d3d8de";
  const back = dark.matches ? "#15181c" : "#ffffff", pane = dark.matches ? "#1d2126" : "#f5f6f8";
  const change = {"font.color": ink, "paper_bgcolor": back};
  for (const scene of SCENES) for (const axis of ["xaxis", "yaxis", "zaxis"]) {
    change[`${scene}.${axis}.color`] = ink;
    change[`${scene}.${axis}.gridcolor`] = line;
    change[`${scene}.${axis}.backgroundcolor`] = pane;
  }
  if (MENU) Object.assign(change, {"updatemenus[0].bgcolor": pane, "updatemenus[0].font.color": ink});
  Plotly.relayout("landscape", change);
}
dark.addEventListener("change", paint);
paint();
"""


def page(datasets: "Sequence[xr.Dataset]", *, venue: str = "icml", loss: str | Sequence[str] = ()) -> str:
    """A self-contained page: a surface to turn and zoom for every net, a menu for the loss, values under the pointer.

    Heights are on a log scale where a loss is positive; a loss shares its scale over the nets.

    Args:
        datasets: kind "landscape", "plane" or "trajectory"; attrs["label"] names the net. Marked checkpoints and a
            trajectory stand on the surface.
        venue: as the other figures have it; a page has no width.
        loss: which variables the menu offers [default: all, the accuracy last].
    Returns:
        HTML with plotly.js inside; `plots.save` writes it as .html.
    Raises:
        KdvizError: nothing to draw; plotly is not installed.
    Source: ours.
    """
    try:
        import plotly.graph_objects as go
        from plotly.subplots import make_subplots
    except ImportError as error:
        raise KdvizError("the interactive page needs plotly: pip install 'kdviz[notebooks]'") from error
    for one in datasets:
        require("beta" in one.dims, "landscape: the result is a line (dim alpha alone); draw it with --style profile")
    names = chosen(datasets, loss)
    names += [ACCURACY] if not loss and all(ACCURACY in one for one in datasets) else []
    titles = [escape(name_of(one, index)) for index, one in enumerate(datasets)]
    over = titles if len(titles) > 1 else None  # of a single net the page's heading says it
    kinds = [[{"type": "surface"}] * len(datasets)]
    fig = make_subplots(1, len(datasets), specs=kinds, subplot_titles=over, horizontal_spacing=0.02)
    buttons, drawn, zaxes = [], [], []
    for row, name in enumerate(names):
        height, axis, span = _height([one[name] for one in datasets])
        for column, one in enumerate(datasets):
            drawn.append((row, column, go.Surface(**_surface(one, name, height, axis, span))))
            drawn += [(row, column, go.Scatter3d(**nets)) for nets in _nets(one, name, height, span[1])]
        called = long_name(datasets[0], name)
        zaxes.append({"title": {"text": called}, "range": _room(*span), **axis})
        # single properties, since a whole axis would lose the colours that the page has given it
        parts = {"title.text": called, "range": zaxes[-1]["range"], **axis}
        scenes = {f"{_scene(k)}.zaxis.{part}": one for k in range(len(datasets)) for part, one in parts.items()}
        buttons.append({"label": called, "method": "update", "args": [{}, scenes]})
    for index, button in enumerate(buttons):
        button["args"][0]["visible"] = [row == index for row, _column, _trace in drawn]
    for row, column, trace in drawn:
        trace.visible = row == 0
        fig.add_trace(trace, 1, column + 1)
    first = {_scene(k): _box(one, zaxes[0]) for k, one in enumerate(datasets)}
    menu = {"buttons": buttons, "x": 0.0, "xanchor": "left", "y": 1.0, "yanchor": "top", "pad": {"t": 4}}
    several = len(buttons) > 1
    margin = {"l": 0, "r": 55, "t": 30 if len(titles) > 1 else 0, "b": 0}
    fig.update_layout(first, margin=margin, updatemenus=[menu] if several else [])
    scenes = json.dumps([_scene(k) for k in range(len(datasets))])
    plot = fig.to_html(
        include_plotlyjs=True,
        full_html=False,
        div_id="landscape",
        default_height="100%",
        config={"displaylogo": False, "responsive": True},
        post_script=PAINT.replace("SCENES", scenes).replace("MENU", "true" if several else "false"),
    )
    caption = str(datasets[0].attrs.get("caption", "Drag to turn, scroll to zoom."))
    heading = "Loss landscape: " + ", ".join(titles)
    return PAGE.format(title=heading, caption=escape(caption), plot=plot, wide=len(datasets))


def _height(arrays: "Sequence[xr.DataArray]") -> tuple[Any, dict[str, list], tuple[float, float]]:
    """How values become heights, the ticks, and the range of heights that the nets share."""
    levels, logarithmic = levels_of(arrays)
    ticks = ticks_of(levels, logarithmic)
    height = (lambda v: np.log10(np.clip(v, levels[0], None))) if logarithmic else np.asarray
    axis = {"tickvals": height(ticks).tolist(), "ticktext": [f"{tick:g}" for tick in ticks]}
    return height, axis, (float(height(levels[0])), float(height(levels[-1])))


def _surface(dataset: "xr.Dataset", name: str, height: Any, axis: dict, span: tuple) -> dict[str, Any]:
    values = dataset[name].transpose("beta", "alpha").values
    return {
        "x": dataset["alpha"].values,
        "y": dataset["beta"].values,
        "z": height(values),
        "customdata": values,
        "cmin": span[0],
        "cmax": span[1],
        "colorscale": SEQUENTIAL,
        "colorbar": {"len": 0.6, "thickness": 14, "x": 1.0, "xanchor": "left", **axis},
        "name": "",
        "hovertemplate": "α %{x:.3f}<br>β %{y:.3f}<br>" + long_name(dataset, name) + " %{customdata:.5g}",
        "contours": {"z": _lines(*span)},
        "lighting": {"ambient": 0.55, "diffuse": 0.7, "specular": 0.15, "roughness": 0.7},
    }


def _lines(low: float, high: float) -> dict[str, Any]:
    """A dozen level lines on the surface, and below it on the floor."""
    step = (high - low) / 12
    ends = {"start": low + step, "end": high, "size": step}
    return {"show": True, "project": {"z": True}, "usecolormap": True, "width": 1, **ends}


def _nets(dataset: "xr.Dataset", name: str, height: Any, top: float) -> list[dict[str, Any]]:
    """The trajectory on the surface, the marked checkpoints on pins up to `top`, or the trained weights."""
    found = places(dataset, name)
    if found is None:
        value = dataset[name].sel(alpha=0, beta=0, method="nearest").values
        found = Places(np.zeros(1), np.zeros(1), np.atleast_1d(value), ["trained weights"], run=False)
    alpha, beta, values, names, run = found
    z = height(values)
    seen = {
        "customdata": values,
        "hovertemplate": "%{text}<br>on the plane: %{customdata:.5g}",
        "name": "",
        "x": alpha,
        "y": beta,
        "showlegend": False,
    }
    if run:
        stops = {"size": [8 if epoch else 0 for epoch in names], "color": RED, "line": {"width": 0}}
        path = {"mode": "lines+markers", "marker": stops, "line": {"color": RED, "width": 5}}
        text = [f"epoch {epoch}" if epoch else "" for epoch in names]
        return [{**seen, **path, "z": z + 0.01 * (top - z.min()), "text": text}]
    ends = {"mode": "markers+text", "textposition": "top center", "text": names, "marker": {"size": 3, "color": RED}}
    line = {"mode": "lines", "line": {"color": RED, "width": 3}, "hoverinfo": "skip", "showlegend": False}
    pins = [{"x": [a, a], "y": [b, b], "z": [low, top], **line} for a, b, low in zip(alpha, beta, z, strict=True)]
    return [*pins, {**seen, **ends, "z": np.full_like(z, top)}]


def _scene(index: int) -> str:
    return "scene" if index == 0 else f"scene{index + 1}"


def _room(low: float, high: float) -> list[float]:
    """An axis that ends a little outside of its values, so that the labels of two axes do not meet in a corner."""
    return [low - 0.06 * (high - low), high + 0.06 * (high - low)]


def _box(dataset: "xr.Dataset", zaxis: dict[str, Any]) -> dict[str, Any]:
    eye, centre = {"x": 1.27, "y": -1.41, "z": 0.95}, {"x": 0, "y": 0, "z": -0.1}
    x, y = (
        {"title": {"text": sign}, "range": _room(float(dataset[name].min()), float(dataset[name].max()))}
        for sign, name in (("α", "alpha"), ("β", "beta"))
    )
    return {
        "xaxis": x,
        "yaxis": y,
        "zaxis": zaxis,
        "aspectmode": "manual",
        "aspectratio": {"x": 1, "y": 1, "z": 0.8},
        "camera": {"eye": eye, "center": centre},
    }
