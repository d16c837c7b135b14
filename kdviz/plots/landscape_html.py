"""An interactive landscape as one HTML page that opens without a network."""

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from kdviz.base.check import KdvizError, require
from kdviz.plots.landscape_panels import ACCURACY, RED, chosen, levels_of, long_name, name_of, places, ticks_of
from kdviz.plots.style import SEQUENTIAL

if TYPE_CHECKING:
    import xarray as xr

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>
body {{ margin: 0 auto; max-width: 1400px; padding: 1.2rem; font: 15px/1.45 Georgia, "Times New Roman", serif; }}
h1 {{ font-size: 1.3rem; font-weight: normal; margin: 0 0 .3rem; }}
p {{ color: #555; margin: .2rem 0 .8rem; }}
</style></head><body>
<h1>{title}</h1>
<p>{caption}</p>
{plot}
</body></html>
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
    fig = make_subplots(
        1, len(datasets), specs=[[{"type": "surface"}] * len(datasets)], subplot_titles=titles, horizontal_spacing=0.02
    )
    buttons, drawn = [], []
    for row, name in enumerate(names):
        height, axis, span = _height([one[name] for one in datasets])
        for column, one in enumerate(datasets):
            drawn.append((row, column, go.Surface(**_surface(one, name, height, axis, span))))
            drawn += [(row, column, go.Scatter3d(**nets)) for nets in _nets(one, name, height, span[1])]
        called = long_name(datasets[0], name)
        zaxis = {"title": {"text": called}, "range": _room(*span), **axis}
        scenes = {f"{_scene(k)}.zaxis": zaxis for k in range(len(datasets))}
        buttons.append({"label": called, "method": "update", "args": [{}, scenes]})
    for index, button in enumerate(buttons):
        button["args"][0]["visible"] = [row == index for row, _column, _trace in drawn]
    for row, column, trace in drawn:
        trace.visible = row == 0
        fig.add_trace(trace, 1, column + 1)
    first = {_scene(k): _box(one, buttons[0]["args"][1][f"{_scene(k)}.zaxis"]) for k, one in enumerate(datasets)}
    menu = {"buttons": buttons, "x": 0.0, "xanchor": "left", "y": 1.08, "yanchor": "bottom"}
    fig.update_layout(
        first, height=680, margin={"l": 0, "r": 0, "t": 90, "b": 0}, updatemenus=[menu] if len(buttons) > 1 else []
    )
    plot = fig.to_html(include_plotlyjs=True, full_html=False, div_id="landscape", config={"displaylogo": False})
    caption = str(datasets[0].attrs.get("caption", "Drag to turn, scroll to zoom."))
    return PAGE.format(title="Loss landscape: " + ", ".join(titles), caption=escape(caption), plot=plot)


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
        "colorbar": {"len": 0.7, "thickness": 14, **axis},
        "name": "",
        "hovertemplate": "α %{x:.3f}<br>β %{y:.3f}<br>" + long_name(dataset, name) + " %{customdata:.5g}",
        "contours": {"z": {"show": True, "project": {"z": True}, "usecolormap": True, "width": 1}},
        "lighting": {"ambient": 0.55, "diffuse": 0.7, "specular": 0.15, "roughness": 0.7},
    }


def _nets(dataset: "xr.Dataset", name: str, height: Any, top: float) -> list[dict[str, Any]]:
    """The trajectory on the surface, or the marked checkpoints on pins up to `top`."""
    found = places(dataset, name)
    if found is None:
        return []
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
    ends = {
        "mode": "markers+text",
        "textposition": "top center",
        "textfont": {"color": "black"},
        "text": names,
        "marker": {"size": 3, "color": "black"},
    }
    line = {"mode": "lines", "line": {"color": "black", "width": 3}, "hoverinfo": "skip", "showlegend": False}
    pins = [{"x": [a, a], "y": [b, b], "z": [low, top], **line} for a, b, low in zip(alpha, beta, z, strict=True)]
    return [*pins, {**seen, **ends, "z": np.full_like(z, top)}]


def _scene(index: int) -> str:
    return "scene" if index == 0 else f"scene{index + 1}"


def _room(low: float, high: float) -> list[float]:
    """An axis that ends a little outside of its values, so that the labels of two axes do not meet in a corner."""
    return [low - 0.06 * (high - low), high + 0.06 * (high - low)]


def _box(dataset: "xr.Dataset", zaxis: dict[str, Any]) -> dict[str, Any]:
    eye, centre = {"x": 1.35, "y": -1.5, "z": 0.95}, {"x": 0, "y": 0, "z": -0.18}
    x, y = (
        {"title": {"text": sign}, "range": _room(float(dataset[name].min()), float(dataset[name].max()))}
        for sign, name in (("α", "alpha"), ("β", "beta"))
    )
    return {
        "xaxis": x,
        "yaxis": y,
        "zaxis": zaxis,
        "aspectmode": "manual",
        "aspectratio": {"x": 1, "y": 1, "z": 0.7},
        "camera": {"eye": eye, "center": centre},
    }
