"""A result as the page draws it: grids to turn, lines, histograms with the images behind their bins, tables, pairs."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from kdviz.base.check import KdvizError
from kdviz.base.variables import with_role
from kdviz.plots import FIGURES
from kdviz.plots.data import groups
from kdviz.viewer import samples
from kdviz.viewer.images import data_uri
from kdviz.viewer.library import Item, Library
from kdviz.viewer.samples import behind_bins, numbers, source_of

if TYPE_CHECKING:
    import xarray as xr

MOST_BINS = 90


def drawing(library: Library, item: Item) -> dict[str, Any]:
    """What the page needs of a result.

    Returns: kind, label, caption, facts (name and text of its attributes), tables (names of what can be had as csv or
        tex), figures (styles that matplotlib can draw), samples (the id of the result that says its single samples, or
        None), and `view`: {"type", ...} of one of `VIEWS`, or None where the figures have to do.
    Raises: KdvizError for a file that is no result.
    """
    dataset = library.read(item)
    kind = str(dataset.attrs.get("kind", ""))
    source = source_of(library, item)
    make = VIEWS.get(kind)
    view = make(dataset, library, source) if make else None
    figures = [name for name in FIGURES[kind] if name != "html"] if kind in FIGURES else []
    return {
        "id": item.id,
        "name": item.name,
        "kind": kind or "result of an unknown kind",
        "label": str(dataset.attrs.get("title", dataset.attrs.get("label", ""))),
        "caption": str(dataset.attrs.get("caption", "")),
        "facts": [[str(name), _short(value)] for name, value in sorted(dataset.attrs.items())],
        "finding": str(dataset.attrs.get("finding", "")),
        "numbers": _numbers(dataset),
        "tables": _table_names(dataset),
        "figures": figures,
        "samples": None if source is None else source.id,
        "view": view,
    }


def _short(value: Any) -> str:
    text = str(value.tolist() if isinstance(value, np.ndarray) else value)
    return text if len(text) <= 300 else f"{text[:300]} …"


def _table_names(dataset: "xr.Dataset") -> list[str]:
    try:
        return list(groups(dataset))
    except KdvizError:
        return []


def _numbers(dataset: "xr.Dataset") -> dict[str, Any] | None:
    """The table of an audit's result: each measure of the student and of what it is compared with, and its interval."""
    names = ("value", "value_low", "value_high")
    if not all(name in dataset and set(dataset[name].dims) == {"measure", "compared"} for name in names):
        return None
    shown = [numbers(dataset[name].transpose("measure", "compared").values, 4) for name in names]
    heads = {axis: _titles(dataset[axis]) for axis in ("measure", "compared")}
    return {**heads, **dict(zip(("mean", "low", "high"), shown, strict=True))}


def _titles(names: "xr.DataArray") -> list[str]:
    """What figures call the names on an axis."""
    try:
        known = json.loads(str(names.attrs.get("titles", "{}")))
    except (ValueError, RecursionError):
        known = {}
    return [str(known.get(one, one)) if isinstance(known, dict) else str(one) for one in map(str, names.values)]


def _meaning(values: "xr.DataArray") -> dict[str, str]:
    unit = str(values.attrs.get("units", ""))
    return {"title": str(values.attrs.get("long_name", values.name)), "unit": "" if unit in ("1", "") else unit}


def _plane(dataset: "xr.Dataset", *_: Any) -> dict[str, Any] | None:
    """Heights over alpha and beta, or lines over alpha where there is no beta."""
    if "beta" not in dataset.dims:
        return _lines(dataset)
    names = with_role(dataset, "loss", "metric", dims=("alpha", "beta"))
    panels = [
        {"name": name, **_meaning(dataset[name]), "values": numbers(dataset[name].transpose("beta", "alpha").values)}
        for name in names
    ]
    return _grid(dataset, panels, _marks(dataset)) if panels else None


def _grid(dataset: "xr.Dataset", panels: list[dict[str, Any]], marks: dict[str, Any]) -> dict[str, Any]:
    axes = {"x": numbers(dataset["alpha"].values), "y": numbers(dataset["beta"].values)}
    return {"type": "grid", **axes, "panels": panels, "marks": marks}


def _marks(dataset: "xr.Dataset") -> dict[str, Any]:
    """The nets on a plane: the trained weights, several checkpoints, or a run's path."""
    if "trajectory_alpha" in dataset:
        x, y, epochs = (dataset[f"trajectory_{name}"].values for name in ("alpha", "beta", "epoch"))
        return {"x": numbers(x), "y": numbers(y), "names": [f"epoch {one:g}" for one in epochs], "path": True}
    if "mark_alpha" in dataset:
        names = [str(one) for one in dataset["mark"].values]
        x, y = numbers(dataset["mark_alpha"].values), numbers(dataset["mark_beta"].values)
        return {"x": x, "y": y, "names": names, "path": False}
    return {"x": [0.0], "y": [0.0], "names": ["trained weights"], "path": False}


def _surface(dataset: "xr.Dataset", *_: Any) -> dict[str, Any]:
    """PLD's surfaces in logit space, a panel for each loss and temperature."""
    panels = [
        {"name": name, "title": name, "unit": unit, "values": numbers(values.transpose("beta", "alpha").values)}
        for name, unit, values in zip(
            map(str, dataset["panel"].values), map(str, dataset["unit"].values), dataset["value"], strict=True
        )
    ]
    return _grid(dataset, panels, {"x": [], "y": [], "names": [], "path": False})


def _lines(dataset: "xr.Dataset", *_: Any) -> dict[str, Any] | None:
    """Every loss and metric over alpha; one line for each seed where there are several."""
    panels = []
    for name in with_role(dataset, "loss", "metric"):
        values = dataset[name]
        if set(values.dims) - {"seed"} == {"alpha"}:
            rows = values.transpose(..., "alpha").values.reshape(-1, dataset.sizes["alpha"])
            panels.append({"name": name, **_meaning(values), "lines": numbers(rows)})
    if not panels:
        return None
    return {"type": "lines", "x": numbers(dataset["alpha"].values), "xname": "α", "panels": panels}


def _histogram(dataset: "xr.Dataset", library: Library, source: Item | None) -> dict[str, Any]:
    """Counts of logits and probabilities on at most MOST_BINS bins, and samples behind each bin."""
    logits = None
    if source is not None:
        found = library.read(source)
        logits = found if "logits_student" in found else None
    spaces = []
    for space, temperature in (("logit", None), ("probability", float(dataset.attrs["temperature"]))):
        edges, counts = _rebinned(dataset, space)
        spaces.append(
            {
                "name": space,
                "edges": numbers(edges),
                "counts": {str(net): one.tolist() for net, one in zip(dataset["net"].values, counts, strict=True)},
                "behind": behind_bins(logits, edges, temperature) if logits is not None else None,
            }
        )
    return {"type": "histogram", "temperature": float(dataset.attrs["temperature"]), "spaces": spaces}


def _rebinned(dataset: "xr.Dataset", space: str) -> tuple[np.ndarray, np.ndarray]:
    """Edges [bins + 1] and counts [net, bins] of a result's bins, joined until there are few enough."""
    left, width = dataset[space].values, float(dataset[space].attrs["width"])
    counts = dataset[f"counts_{space}"].transpose("net", space).values
    place = np.round((left - left[0]) / width).astype(int)  # bins without values may be left out
    join = -(-(place[-1] + 1) // MOST_BINS)
    bins = place[-1] // join + 1
    joined = np.stack([np.bincount(place // join, weights=one, minlength=bins) for one in counts]).astype(np.int64)
    return left[0] + width * join * np.arange(bins + 1), joined


def _tau(dataset: "xr.Dataset", *_: Any) -> dict[str, Any]:
    """The means with their intervals; the samples come with `samples.table`."""
    rows = [
        [str(name), *(numbers(dataset[column].sel(measure=name).values.reshape(1))[0] for column in MEANS)]
        for name in dataset["measure"].values
        if all(column in dataset for column in MEANS)
    ]
    return {"type": "tau", "means": rows, "level": float(dataset.attrs.get("level", 0.95))}


MEANS = ("mean", "mean_low", "mean_high")


def _part_of_samples(name: str) -> Callable[..., dict[str, Any] | None]:
    """A view that is drawn from `samples.table` alone, where that is known: all of it, or one part."""
    return lambda _dataset, _library, source: None if source is None else {"type": name}


def _table(dataset: "xr.Dataset", *_: Any) -> dict[str, Any]:
    """A paper's table: what was measured (mean and standard deviation over seeds) beside what was printed."""
    columns = [str(one) for one in dataset["column"].values]
    measured = {
        name: numbers(dataset[name].transpose("row", "column").values, 5)
        for name in ("published", "measured", "std", "gain", "low", "high", "runs")
        if name in dataset
    }
    rows = [str(one) for one in dataset["row"].values]
    title = str(dataset.attrs.get("title", ""))
    return {"type": "table", "title": title, "rows": rows, "columns": columns, "cells": measured}


def _cases(dataset: "xr.Dataset", *_: Any) -> dict[str, Any] | None:
    """Pairs of samples with their images inside the result and both nets' top five (at the result's temperature)."""
    if "image" not in dataset:
        return None
    images = dataset["image"].transpose("case", "side", "colour", "row", "column").values
    chances = dataset["probability"].transpose("case", "side", "net", "channel").values
    names = samples.class_names(dataset)
    nets = [str(one) for one in dataset["net"].values]
    losses = dataset["case_loss"].sel(criterion="kl").transpose("case", "side").values
    pairs = []
    for case, (both, rows) in enumerate(zip(images, chances, strict=True)):
        cards = []
        for side, (image, ranked) in enumerate(zip(both, rows, strict=True)):
            card: dict[str, Any] = {
                "image": data_uri(image.astype(np.uint8)),
                "side": str(dataset["side"].values[side]),
            }
            card |= {"id": int(dataset["case_sample"].values[case, side]) if "case_sample" in dataset else None}
            card |= {"target": int(dataset["case_label"].values[case, side])}
            card |= {"kl": numbers(losses[case, side].reshape(1), 4)[0]}
            for net, chance in zip(nets, ranked, strict=True):
                top = np.argsort(-chance, kind="stable")[: samples.TOP]
                card[net] = {"top": top.tolist(), "p": numbers(chance[top], 4)}
            cards.append(card)
        pairs.append(cards)
    return {"type": "cases", "pairs": pairs, "names": names}


VIEWS: dict[str, Callable[..., dict[str, Any] | None]] = {
    "landscape": _plane,
    "plane": _plane,
    "trajectory": _plane,
    "profile": _lines,
    "path": _lines,
    "surface": _surface,
    "histogram": _histogram,
    "tau": _tau,
    "logits": _part_of_samples("samples"),
    "samples": _part_of_samples("samples"),
    "table": _table,
    "embeddings": _part_of_samples("embedding"),
    "rank_confusion": _part_of_samples("confusion"),
    "cells": _part_of_samples("cells"),
    "cases": _cases,
}
