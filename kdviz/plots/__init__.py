"""Figures from saved results: Dataset in, Figure out. Never computes a result, never imports torch.

A result says what it is in `dataset.attrs["kind"]`; `FIGURES[kind]` holds the ways to draw it, the default first.
"""

import importlib
import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from kdviz.base.check import KdvizError, require, unknown
from kdviz.base.registry import Registry
from kdviz.plots.style import save, style

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

Draw = Callable[..., "Figure"]
# kind -> {style name: "module:function"}; functions take (datasets, *, venue="icml") and their own keywords.
FIGURES: Registry[dict[str, str]] = Registry("kind of result")
_PLANE = {"contour": "landscape:contour", "surface": "landscape:surface"}
_PROFILE = {"profile": "landscape_profile:profile"}
_PAGE = {"html": "landscape_html:page"}
FIGURES.add("landscape", _PLANE | _PROFILE | _PAGE)
FIGURES.add("plane", _PLANE | _PAGE)
FIGURES.add("profile", _PROFILE)
FIGURES.add("path", {"line": "landscape_paths:line"})
FIGURES.add("trajectory", {"trajectory": "landscape_paths:trajectory"} | _PLANE | _PAGE)
FIGURES.add("sharpness", {"spectrum": "landscape_paths:spectrum"})
FIGURES.add("topology", {"tree": "topology:tree", "persistence": "topology:persistence"})
FIGURES.add("density", {"density": "spectral:density"})
FIGURES.add("comparison", {"numbers": "landscape_paths:numbers"})
FIGURES.add("histogram", {"values": "histogram:values", "density": "histogram:density", "ranks": "histogram:ranks"})
FIGURES.add("tau", {"distribution": "tau:distribution", "breakdown": "tau:breakdown"})
FIGURES.add("suboptimal", {"bars": "suboptimal:bars"})
FIGURES.add("ternary", {"maps": "ternary:maps"})
FIGURES.add("descent", {"paths": "ternary:paths"})
FIGURES.add("cases", {"gallery": "cases:gallery", "overlap": "suboptimal:overlap", "angles": "suboptimal:angles"})
FIGURES.add("duels", {"matrix": "suboptimal:matrix", "duels": "cases:duels"})
FIGURES.add("surface", {"both": "surface:both", "surface": "surface:surface", "contour": "surface:contour"})
FIGURES.add("table", {"gains": "tables:gains"})
FIGURES.add("claims", {"claims": "claims:claims"})
FIGURES.add("accuracies", {"lines": "accuracies:lines", "bars": "accuracies:bars"})
FIGURES.add("training", {"curves": "training:curves", "terms": "training:terms"})
FIGURES.add("fidelity", {"points": "audited:fidelity"})
FIGURES.add("calibration", {"reliability": "calibration:reliability"})
FIGURES.add("cells", {"cells": "calibration:cells", "flips": "calibration:flips"})
FIGURES.add("rank_confusion", {"confusion": "matrices:rank_confusion"})
FIGURES.add("margins", {"margins": "audited:margins"})
FIGURES.add("class_correlation", {"correlation": "matrices:correlation", "means": "matrices:class_means"})
FIGURES.add("temperature_curves", {"temperatures": "audited:temperatures"})
FIGURES.add("cka", {"stages": "matrices:cka"})
FIGURES.add("embeddings", {"planes": "matrices:embeddings"})

__all__ = ["FIGURES", "draw", "save", "style"]


def draw(
    datasets: "Sequence[xr.Dataset] | xr.Dataset", name: str | None = None, *, venue: str = "icml", **options: Any
) -> "Figure":
    """The figure called `name` (default: the kind's first) of one or several results of the same kind.

    Args:
        datasets: results of one kind, as `kdviz` commands write them.
        name: a key of `FIGURES[kind]`.
        venue: whose column widths, e.g. "neurips".
        options: keywords of the figure's function, such as a surface's scale.
    Raises:
        KdvizError: results of different kinds, an unknown kind, name or keyword, a result that lacks numbers of its
            kind.
    Source: ours.
    """
    many: list[Any] = list(datasets) if isinstance(datasets, (list, tuple)) else [datasets]
    kinds = {str(one.attrs.get("kind", "none")) for one in many}
    require(many, "draw: no result given")
    if len(kinds) != 1:
        raise KdvizError(f"draw: the results are of different kinds ({', '.join(sorted(kinds))}); draw them one by one")
    kind = kinds.pop()
    choices = Registry[str](f"figure of a {kind}")
    for key, target in FIGURES[kind].items():
        choices.add(key, target)
    figure = name or next(iter(choices))
    module, function = choices[figure].split(":")
    with style(venue):
        try:
            drawing = getattr(importlib.import_module(f"kdviz.plots.{module}"), function)
            _refuse_unknown(f"option of the figure {kind} {figure}", drawing, options)
            return drawing(many, venue=venue, **options)
        except (AttributeError, KeyError) as error:
            reason = str(error.args[0] if error.args else error).splitlines()[0]
            raise KdvizError(f"draw: the {kind} is not whole ({reason}); was it written by another version?") from error


def _refuse_unknown(what: str, drawing: Draw, options: dict[str, Any]) -> None:
    """Refuse a keyword that the figure's function does not name."""
    parameters = inspect.signature(drawing).parameters.values()
    known = [one.name for one in parameters if one.kind is one.KEYWORD_ONLY]
    for name in options:
        if name not in known:
            raise unknown(what, name, known)
