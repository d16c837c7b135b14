"""Exchange with other landscape software: loss-landscapes' metrics, tomgoldstein's HDF5, ParaView, NumPy, CSV."""

import copy
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import torch
from torch import Tensor, nn

from kdviz.analysis.landscape.geometry import loss_names
from kdviz.base.check import KdvizError, require, unknown
from kdviz.base.files import atomic

if TYPE_CHECKING:
    import xarray as xr


class MetricObjective:
    """A loss-landscapes `Metric` as an objective of `sweep`, on a copy of the model that is its own.

    `weights` (name -> tensor) is the centre; calling it with such a dict returns {name: value}.
    """

    def __init__(self, metric: Callable[[Any], Any], model: Any, names: Sequence[str] | None) -> None:
        wrap = _wrapper()
        self.metric, self.names = metric, names
        self.wrapped = wrap(copy.deepcopy(model)).eval()
        modules = self.wrapped.get_modules()
        self.own: dict[str, Tensor] = {
            name if len(modules) == 1 else f"{i}.{name}": tensor
            for i, module in enumerate(modules)
            for name, tensor in module.named_parameters()
        }
        self.weights = {name: tensor.detach().clone() for name, tensor in self.own.items()}
        self.attrs = {"metric": type(metric).__name__}

    def __call__(self, at: Mapping[str, Tensor]) -> dict[str, float]:
        with torch.no_grad():
            for name, tensor in at.items():
                self.own[name].copy_(tensor)
        result = self.metric(self.wrapped)
        values = list(result) if isinstance(result, tuple | list) else [result]
        names = self.names or (["loss"] if len(values) == 1 else [f"metric_{i}" for i in range(len(values))])
        require(len(names) == len(values), f"from_metric: {len(values)} values but {len(names)} names")
        return {name: _number(name, value) for name, value in zip(names, values, strict=True)}


def from_metric(
    metric: Callable[[Any], Any], model: nn.Module | Any, *, names: Sequence[str] | None = None
) -> MetricObjective:
    """Any Metric of loss-landscapes 3.0.6 on this engine, so that its users move without rewriting.

        objective = from_metric(Loss(criterion, x, y), model)
        plane = sweep(objective, objective.weights, random_pair(objective.weights, seed=0), axis(1, 51), axis(1, 51))

    Args:
        metric: a Metric or MetricPipeline, or any function of a model wrapper that returns a number or several.
        model: a net, or a loss-landscapes ModelWrapper; copied, left exactly as it is, evaluated in eval mode.
        names: of the values [default: "loss"; "metric_0", "metric_1", ... of a pipeline].
    Raises:
        KdvizError: loss-landscapes is not installed; a metric that returns arrays.
    Source: ours.
    Differs from: `loss_landscapes.random_plane`, which shears alternate rows and leaves the model displaced.
    """
    return MetricObjective(metric, model, names)


def _wrapper() -> Callable[[Any], Any]:
    try:
        from loss_landscapes.model_interface.model_wrapper import wrap_model
    except ImportError as error:
        raise KdvizError("from_metric needs loss-landscapes; install it by: pip install 'kdviz[compare]'") from error
    return wrap_model


def _number(name: str, value: Any) -> float:
    array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
    require(
        array.size == 1 and array.dtype.kind in "fiub",
        f"from_metric: {name} is of shape {array.shape}, but a landscape needs one number; reduce it in the metric",
    )
    return float(array.reshape(()))


def export(dataset: "xr.Dataset", path: str | os.PathLike, *, loss: str | None = None) -> Path:
    """Write a landscape or profile in a format that other software reads, by the file's ending.

    .h5   tomgoldstein/loss-landscape: xcoordinates, ycoordinates, <split>_loss and <split>_acc (per cent) with rows
          along y, as its plots and h52vtp.py read them; every other variable under its own name.
    .vtp  ParaView: a surface of quads, `loss` as height, all variables as point data.
    .npz  NumPy: alpha, beta, every variable, and the attributes as JSON in `attrs`.
    .csv  a row per point: alpha, beta, every variable.

    Args:
        dataset: dims alpha and, but for .h5, .npz and .csv not needed, beta.
        path: the file; its suffix says the format.
        loss: which loss is the height in .vtp and <split>_loss in .h5 [default: the first].
    Returns:
        The path.
    Raises:
        KdvizError: an unknown ending, no such loss, a line for ParaView.
    Source: ours, after the readers of tomgoldstein/loss-landscape (plot_2D.py, plot_1D.py, h52vtp.py).
    """
    path = Path(path)
    write = EXPORTS.get(path.suffix.lstrip("."))
    if write is None:
        raise unknown("export format", path.suffix.lstrip("."), EXPORTS)
    dims = tuple(name for name in ("alpha", "beta") if name in dataset.dims)
    require("alpha" in dims, "export: this is no landscape (no dim alpha)")
    names = loss_names(dataset)
    require(names, "export: there is no loss over the whole grid (several seeds? choose one first)")
    chosen = loss or names[0]
    if chosen not in names:
        raise unknown("loss of this landscape", chosen, names)
    grid = dataset[[name for name, array in dataset.data_vars.items() if array.dims == dims]]
    with atomic(path) as partial:
        write(grid, partial, chosen)
    return path


def _h5(grid: "xr.Dataset", path: Path, loss: str) -> None:
    import h5py

    split = str(grid.attrs.get("split", "train"))
    split = split if split in ("train", "test") else "test"
    rows = grid.transpose("beta", "alpha") if "beta" in grid.dims else grid
    with h5py.File(path, "w") as file:
        file["dir_file"] = ""
        file["xcoordinates"] = grid["alpha"].values
        if "beta" in grid.dims:
            file["ycoordinates"] = grid["beta"].values
        file[f"{split}_loss"] = rows[loss].values.astype(np.float64)
        if "accuracy" in grid:
            file[f"{split}_acc"] = 100 * rows["accuracy"].values
        for name in rows.data_vars:
            file[str(name)] = rows[name].values
        for name, value in grid.attrs.items():
            file.attrs[str(name)] = value


def _vtp(grid: "xr.Dataset", path: Path, loss: str) -> None:
    require("beta" in grid.dims, "export: ParaView needs a plane; this is a line")
    rows = grid.transpose("beta", "alpha")
    height = rows[loss].values
    require(bool(np.isfinite(height).all()), f"export: {loss} is not finite everywhere, which ParaView cannot draw")
    b, a = height.shape
    corner = (np.arange(b - 1)[:, None] * a + np.arange(a - 1)).ravel()
    quads = np.stack([corner, corner + 1, corner + a + 1, corner + a], axis=1)
    x, y = np.meshgrid(rows["alpha"].values, rows["beta"].values)
    root = ElementTree.Element("VTKFile", type="PolyData", version="1.0", byte_order="LittleEndian")
    piece = ElementTree.SubElement(
        ElementTree.SubElement(root, "PolyData"),
        "Piece",
        {
            "NumberOfPoints": str(a * b),
            "NumberOfVerts": "0",
            "NumberOfLines": "0",
            "NumberOfStrips": "0",
            "NumberOfPolys": str(len(quads)),
        },
    )
    data = ElementTree.SubElement(piece, "PointData", Scalars=loss)
    for name in rows.data_vars:
        _array(data, str(name), rows[name].values.astype(np.float64).ravel())
    points = np.stack([x.ravel(), y.ravel(), height.ravel()], axis=1)
    _array(ElementTree.SubElement(piece, "Points"), "Points", points)
    polys = ElementTree.SubElement(piece, "Polys")
    _array(polys, "connectivity", quads.ravel().astype(np.int64))
    _array(polys, "offsets", np.arange(4, 4 * len(quads) + 1, 4, dtype=np.int64))
    ElementTree.indent(root)
    ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def _array(parent: ElementTree.Element, name: str, values: np.ndarray) -> None:
    kind = "Int64" if values.dtype.kind == "i" else "Float64"
    attributes = {"type": kind, "Name": name, "format": "ascii"}
    if values.ndim == 2:
        attributes["NumberOfComponents"] = str(values.shape[1])
    element = ElementTree.SubElement(parent, "DataArray", attributes)
    element.text = " ".join(map(repr, values.ravel().tolist()))


def _npz(grid: "xr.Dataset", path: Path, _loss: str) -> None:
    arrays = {str(name): array.values for name, array in (*grid.coords.items(), *grid.data_vars.items())}
    facts = {
        name: value.tolist() if isinstance(value, np.ndarray | np.generic) else value
        for name, value in grid.attrs.items()
    }
    with path.open("wb") as stream:
        np.savez_compressed(stream, **arrays, attrs=np.array(json.dumps(facts)))  # pyright: ignore[reportArgumentType]


def _csv(grid: "xr.Dataset", path: Path, _loss: str) -> None:
    names = [name for name in ("alpha", "beta") if name in grid.dims]
    mesh = np.meshgrid(*[grid[name].values for name in names], indexing="ij")
    columns = {**dict(zip(names, mesh, strict=True)), **{str(n): v.transpose(*names).values for n, v in grid.items()}}
    lines = [",".join(columns)]
    lines += [",".join(map(repr, row)) for row in zip(*(c.ravel().tolist() for c in columns.values()), strict=True)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


EXPORTS: dict[str, Callable[["xr.Dataset", Path, str], None]] = {"h5": _h5, "vtp": _vtp, "npz": _npz, "csv": _csv}
