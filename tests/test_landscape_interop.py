"""Metrics of loss-landscapes on this engine, what that library gets wrong on a quadratic, and the exports."""

import csv
import json
import sys
from xml.etree import ElementTree

import h5py
import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

from kdviz.analysis.landscape import axis, export, from_metric, random_pair, sweep
from kdviz.base.check import KdvizError

loss_landscapes = pytest.importorskip("loss_landscapes")
from loss_landscapes.metrics import Metric, MetricPipeline  # noqa: E402


class Point(nn.Module):
    """Two weights and nothing else."""

    def __init__(self, a, b):
        super().__init__()
        self.at = nn.Parameter(torch.tensor([[a, b]], dtype=torch.float64))


class Bowl(Metric):
    """a^2 + 10 b^2, and every place it was asked for."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def __call__(self, wrapper):
        a, b = next(wrapper.get_modules()[0].parameters())[0].tolist()
        self.asked.append((a, b))
        return a**2 + 10 * b**2


EAST = {"at": torch.tensor([[1.0, 0.0]], dtype=torch.float64)}
NORTH = {"at": torch.tensor([[0.0, 1.0]], dtype=torch.float64)}


def test_what_the_peer_gets_wrong_on_a_quadratic_and_this_engine_does_not():
    n, metric = 4, Bowl()
    start = Point(0.0, 0.0)
    theirs = loss_landscapes.planar_interpolation(start, Point(1.0, 0.0), Point(0.0, 1.0), metric, steps=n)
    i, j = np.meshgrid(np.arange(n) / n, np.arange(n) / n, indexing="ij")
    straight, shifted = i**2 + 10 * j**2, i**2 + 10 * (j + 1 / n) ** 2
    # Sheared: even rows begin one step off the line that odd rows begin on.
    np.testing.assert_allclose(theirs[1::2], straight[1::2], atol=1e-12)
    np.testing.assert_allclose(theirs[0::2], shifted[0::2], atol=1e-12)
    # The start itself is never asked for, and the model that was lent does not come back to it.
    assert min(abs(a) + abs(b) for a, b in metric.asked) > 0.2
    assert start.at[0].abs().sum() > 0.5
    assert not start.at.requires_grad

    mine, kept = Bowl(), Point(0.0, 0.0).train()
    objective = from_metric(mine, kept)
    steps = np.arange(n + 1) / n
    ours = sweep(objective, objective.weights, (EAST, NORTH), steps, steps)
    np.testing.assert_allclose(ours.loss, steps[:, None] ** 2 + 10 * steps**2, atol=1e-12)
    assert (0.0, 0.0) in mine.asked
    assert kept.at.tolist() == [[0.0, 0.0]]
    assert kept.at.requires_grad
    assert kept.training


def test_a_random_plane_of_an_odd_number_of_steps_has_a_centre_here_only():
    metric = Bowl()
    torch.manual_seed(0)
    loss_landscapes.random_plane(Point(3.0, 4.0), metric, steps=5, deepcopy_model=True)
    assert min(abs(a - 3) + abs(b - 4) for a, b in metric.asked) > 1e-3
    mine = Bowl()
    objective = from_metric(mine, Point(3.0, 4.0))
    found = sweep(objective, objective.weights, random_pair(objective.weights, seed=0), axis(1.0, 5), axis(1.0, 5))
    assert float(found.loss.sel(alpha=0, beta=0)) == 169.0
    assert (3.0, 4.0) in mine.asked


def test_pipelines_have_names_and_arrays_are_refused():
    objective = from_metric(MetricPipeline([Bowl(), Bowl()]), Point(1.0, 1.0))
    assert objective(objective.weights) == {"metric_0": 11.0, "metric_1": 11.0}
    named = from_metric(MetricPipeline([Bowl(), Bowl()]), Point(1.0, 1.0), names=["ce", "kd"])
    assert list(named(named.weights)) == ["ce", "kd"]
    bad = from_metric(lambda wrapper: np.zeros(3), Point(1.0, 1.0))
    with pytest.raises(KdvizError, match="one number"):
        bad(bad.weights)


def test_without_the_library_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "loss_landscapes.model_interface.model_wrapper", None)
    with pytest.raises(KdvizError, match=r"kdviz\[compare\]"):
        from_metric(Bowl(), Point(0.0, 0.0))


@pytest.fixture
def landscape():
    alpha, beta = np.linspace(-1, 1, 5), np.linspace(-2, 2, 3)
    values = alpha[:, None] ** 2 + 10 * beta**2 + alpha[:, None]
    return xr.Dataset(
        {
            "ce": (("alpha", "beta"), values, {"role": "loss"}),
            "kd": (("alpha", "beta"), 2 * values, {"role": "loss"}),
            "accuracy": (("alpha", "beta"), np.exp(-values), {"role": "metric"}),
            "mark_alpha": ("mark", [0.0], {"role": "mark"}),
        },
        {"alpha": alpha, "beta": beta},
        {"kind": "landscape", "split": "test", "seed": 3, "losses": ["ce", "kd"]},
    )


def test_hdf5_is_laid_out_as_its_readers_index_it(landscape, tmp_path):
    with h5py.File(export(landscape, tmp_path / "x.h5"), "r") as file:
        x, y = np.meshgrid(file["xcoordinates"][:], file["ycoordinates"][:])  # how plot_2D.py and h52vtp.py do
        np.testing.assert_allclose(file["test_loss"][:], x**2 + 10 * y**2 + x)
        np.testing.assert_allclose(file["test_acc"][:], 100 * np.exp(-(x**2 + 10 * y**2 + x)))
        np.testing.assert_allclose(file["kd"][:], 2 * file["test_loss"][:])
        assert file.attrs["seed"] == 3
        assert "mark_alpha" not in file


def test_paraview_gets_a_closed_surface_of_quads(landscape, tmp_path):
    root = ElementTree.parse(export(landscape, tmp_path / "x.vtp", loss="kd")).getroot()
    piece = root.find("PolyData/Piece")
    assert (root.get("type"), piece.get("NumberOfPoints"), piece.get("NumberOfPolys")) == ("PolyData", "15", "8")

    def read(where):
        return np.array(piece.find(where).text.split(), dtype=float)

    x, y, z = read("Points/DataArray").reshape(15, 3).T
    np.testing.assert_allclose(z, 2 * (x**2 + 10 * y**2 + x))
    quads = read("Polys/DataArray[@Name='connectivity']").reshape(8, 4).astype(int)
    assert read("Polys/DataArray[@Name='offsets']").tolist() == list(range(4, 33, 4))
    # Shoelace: each quad goes round once and all have the area of a cell.
    px, py = x[quads], y[quads]
    areas = (px * np.roll(py, -1, 1) - py * np.roll(px, -1, 1)).sum(1) / 2
    np.testing.assert_allclose(areas, 0.5 * 2.0)
    np.testing.assert_allclose(read("PointData/DataArray[@Name='accuracy']"), np.exp(-z / 2))


def test_npz_and_csv_come_back_to_the_last_digit(landscape, tmp_path):
    with np.load(export(landscape, tmp_path / "x.npz"), allow_pickle=False) as file:
        np.testing.assert_array_equal(file["ce"], landscape.ce)
        np.testing.assert_array_equal(file["beta"], landscape.beta)
        assert json.loads(str(file["attrs"]))["losses"] == ["ce", "kd"]
    with export(landscape, tmp_path / "x.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 15
    for row in rows:
        point = landscape.sel(alpha=float(row["alpha"]), beta=float(row["beta"]))
        assert float(row["ce"]) == float(point.ce)
        assert float(row["accuracy"]) == float(point.accuracy)


def test_lines_and_bad_input(landscape, tmp_path):
    line = landscape.isel(beta=1, drop=True)
    with h5py.File(export(line, tmp_path / "x.h5"), "r") as file:
        assert "ycoordinates" not in file
        np.testing.assert_allclose(file["test_loss"][:], line.ce)
    assert len((export(line, tmp_path / "x.csv")).read_text().splitlines()) == 6
    with pytest.raises(KdvizError, match="needs a plane"):
        export(line, tmp_path / "x.vtp")
    with pytest.raises(KdvizError, match="did you mean 'npz'"):
        export(landscape, tmp_path / "x.np")
    with pytest.raises(KdvizError, match="unknown loss"):
        export(landscape, tmp_path / "x.csv", loss="pld")
    assert not (tmp_path / "x.vtp").exists()
