"""Landscapes say what their variables are, and figures put the values where they belong."""

from copy import deepcopy

import numpy as np
import pytest
import torch
import xarray as xr
from mpl_toolkits.mplot3d import Axes3D
from test_landscape_figures import numbers, traces
from torch import nn

import kdviz
from kdviz import plots
from kdviz.analysis.landscape import Grid, Measurement
from kdviz.analysis.landscape.compare import Statistics, compare, rows
from kdviz.analysis.landscape.network import Network
from kdviz.analysis.landscape.paths import interpolation, plane
from kdviz.analysis.landscape.trajectory import trajectory
from kdviz.base.check import KdvizError
from kdviz.base.files import read_dataset, write_dataset
from kdviz.base.variables import ROLES, belonging, complete
from kdviz.data import Data
from kdviz.losses import LOSSES
from kdviz.plots.landscape import contour

ALPHA, BETA = np.linspace(-1, 1, 9), np.linspace(-1, 1, 9)


def valley():
    """A loss of alpha alone, 1 + 9 (alpha - 0.5)^2, and an accuracy of beta alone."""
    loss = (1 + 9 * (ALPHA - 0.5) ** 2)[:, None] + 0 * BETA
    accuracy = 0 * ALPHA[:, None] + (BETA + 1) / 2
    meanings = (
        {"units": "nats", "long_name": "cross-entropy", "role": "loss"},
        {"units": "fraction", "long_name": "top-1 accuracy", "role": "metric", "better": "higher"},
    )
    grids = {"ce": (("alpha", "beta"), loss, meanings[0]), "accuracy": (("alpha", "beta"), accuracy, meanings[1])}
    return xr.Dataset(grids, {"alpha": ALPHA, "beta": BETA}, {"kind": "landscape", "label": "kd"})


def small_data(count=20):
    pixels = torch.randint(256, (count, 3, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Data("noise", "test", pixels, torch.arange(count) % 4, (0.5,) * 3, (0.25,) * 3, tuple("abcd"))


def regression(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 4))


def test_lines_of_a_contour_run_along_the_axis_that_the_loss_does_not_depend_on():
    (axis,) = [one for one in plots.draw(valley(), "contour").axes if one.get_xlabel()]
    assert (axis.get_xlabel(), axis.get_ylabel()) == (r"$\alpha$", r"$\beta$")
    lines = axis.collections[1]
    found = [path.vertices for path in lines.get_paths() if len(path.vertices)]
    assert len(found) > 3
    for vertices in found:
        assert np.ptp(vertices[:, 1]) == pytest.approx(2)
    marks = {line.get_label(): (*line.get_xdata(), *line.get_ydata()) for line in axis.lines}
    assert marks["least on the grid"][0] == 0.5


def test_heights_of_a_surface_and_of_a_page_stand_over_their_alpha_and_beta(monkeypatch):
    drawn = []
    plot = Axes3D.plot_surface

    def spy(self, x, y, z, **settings):
        drawn.append((self, x, y, z))
        return plot(self, x, y, z, **settings)

    monkeypatch.setattr(Axes3D, "plot_surface", spy)
    plots.draw(valley(), "surface")
    ((axis, x, y, z),) = drawn
    measured = np.isclose(x % 0.25, 0) | np.isclose(x % 0.25, 0.25)  # the grid's points, between which it is smooth
    assert measured.any()
    np.testing.assert_allclose(10 ** z[measured], (1 + 9 * (x - 0.5) ** 2)[measured], rtol=1e-9)
    assert (np.ptp(x), np.ptp(y)) == (2, 2)
    assert (axis.get_xlabel(), axis.get_ylabel()) == (r"$\alpha$", r"$\beta$")
    page = plots.draw(valley(), "html")
    (trace,) = [one for one in traces(page) if one["visible"] and one["type"] == "surface"]
    heights = numbers(trace["customdata"]).reshape(9, 9)  # rows along y, as plotly has it
    np.testing.assert_allclose(heights, np.tile(1 + 9 * (numbers(trace["x"]) - 0.5) ** 2, (9, 1)))
    assert '"xaxis":{"title":{"text":"\\u03b1"}' in page


def test_slices_of_a_profile_go_through_the_centre_along_their_own_axis():
    fig = plots.draw(valley(), "profile")
    loss, accuracy = fig.axes
    for axis, name, factor in ((loss, "ce", 1), (accuracy, "accuracy", 100)):
        lines = {line.get_label(): line for line in axis.lines}
        for dim, other in (("alpha", "beta"), ("beta", "alpha")):
            expected = factor * valley()[name].sel({other: 0})
            np.testing.assert_allclose(lines[f"along $\\{dim}$"].get_ydata(), expected)
    assert loss.get_ylabel() == "cross-entropy (nats)"
    assert accuracy.get_ylabel() == "top-1 accuracy (%)"


def test_a_trajectorys_first_component_is_on_the_horizontal_axis():
    data = small_data()
    one = trajectory([regression(seed) for seed in range(4)], data, grid=Grid(steps=3))
    left = plots.draw(one, "trajectory").axes[0]
    shares = one.attrs["explained_variance"]
    assert shares[0] > shares[1]
    assert left.get_xlabel() == f"first component ({100 * shares[0]:.0f} % of the variance)"
    assert left.get_ylabel().startswith("second component")
    (run,) = [line for line in left.lines if line.get_label() == "training"]
    np.testing.assert_allclose(run.get_xdata(), one.trajectory_alpha)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_folds_into_a_convolution_with_and_without_bias(bias, affine):
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(5, affine=affine)
    net = nn.Sequential(nn.Conv2d(3, 5, 3, bias=bias), norm, nn.Flatten(), nn.Linear(20, 4)).eval()
    with torch.no_grad():
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.3, 3)
        for tensor in net.parameters():
            tensor.normal_()
    images = torch.randn(6, 3, 4, 4)
    network = Network(net, images)
    assert len(network.pairs) == 1
    moved = {name: tensor + 0.3 * torch.randn_like(tensor) for name, tensor in net.named_parameters()}
    exact = deepcopy(net).double()
    exact.load_state_dict({name: tensor.double() for name, tensor in moved.items()}, strict=False)
    network.load(moved)
    with torch.no_grad():
        torch.testing.assert_close(network(network.prepare(images)).double(), exact(images.double()), rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def results():
    """A result of every kind that measures a loss in nats and one without a unit."""
    data, nets = small_data(), [regression(seed) for seed in range(4)]
    measured = Measurement(losses=("ce", "rank_kendall", "kendall_tau", "agreement"), teacher=nets[3], samples=12)
    few = Statistics(eigenvalues=1, probes=2)
    options = {"losses": measured.losses, "teacher": nets[3], "samples": 12, "steps": 3}
    return {
        "landscape": kdviz.landscape(nets[0], data, **options),
        "path": interpolation(nets[0], nets[1], data, measured, Grid(steps=3)),
        "plane": plane(nets[:3], data, measured, Grid(steps=3)),
        "trajectory": trajectory(nets, data, measured, Grid(steps=3)),
        "comparison": compare({"kd": nets[0], "ce": nets[1]}, data, measured, Grid(steps=3), few, planes=1)[0],
    }


@pytest.mark.parametrize("kind", ["landscape", "path", "plane", "trajectory", "comparison"])
def test_every_variable_says_what_it_is(results, kind):
    one = results[kind]
    assert one.attrs["kind"] == kind
    for name, values in one.data_vars.items():
        assert values.attrs["role"] in ROLES, name
        assert values.attrs["units"], name
        assert values.attrs["long_name"], name
        if values.attrs["role"] in ("half-width", "error"):
            assert one[values.attrs["of"]].attrs["units"] == values.attrs["units"], name
    for name in ("ce", "rank_kendall"):
        if name in one:
            declared = LOSSES[name]
            said = one[name].attrs
            assert (said["units"], said["long_name"], said["role"]) == (declared.unit, declared.long_name, "loss")
            assert belonging(one, name, "half-width") == f"{name}_halfwidth"
    for name in ("accuracy", "agreement", "kendall_tau"):
        if name in one:
            assert (one[name].attrs["role"], one[name].attrs["better"]) == ("metric", "higher")


def test_a_comparison_has_each_loss_in_its_own_unit(results):
    one = results["comparison"]
    assert one["loss_units"].values.tolist() == ["nats", "1"]
    assert one["centre"].attrs["units"] == "unit of the loss"
    assert "nats" not in one.attrs["caption"]
    fig = plots.draw(one)
    assert [row.get_suptitle().partition(";")[0] for row in fig.subfigs] == ["cross-entropy", "ranking loss"]
    assert [row.axes[0].get_title(loc="left") for row in fig.subfigs] == ["loss\nnats", "loss"]
    assert "trace stderr" not in rows(one)[0]
    trace = rows(one)[1][rows(one)[0].index("trace")]
    assert trace == f"{float(one.trace[0, 0]):.3g} ± {float(one.trace_stderr[0, 0]):.2g}"
    row = rows(compare({"kd": regression(0)}, small_data(), grid=Grid(steps=3), planes=1)[0])
    assert len(row) == 2
    assert row[1][0] == "ce"


def test_a_file_without_roles_is_drawn_as_before(results, tmp_path):
    one = results["landscape"]
    old = one.copy()
    for name, values in old.data_vars.items():
        values.attrs = {"units": one[name].attrs["units"]}
    with pytest.raises(KdvizError, match="no loss in common"):
        plots.draw(old, "contour")
    found = read_dataset(write_dataset(old, tmp_path / "old.nc"))
    for name, values in found.data_vars.items():
        assert values.attrs["role"] == one[name].attrs["role"], name
        assert values.attrs.get("of") == one[name].attrs.get("of"), name
        assert values.attrs["units"] == one[name].attrs["units"], name
    for name in ("contour", "surface", "profile"):
        plots.draw(found, name).draw_without_rendering()
    assert complete(one).identical(one)
    other = xr.Dataset({"loss": ("x", [1.0])}, attrs={"kind": "histogram"})
    assert complete(other).identical(other)


def test_unknown_keywords_are_refused_with_a_close_match():
    with pytest.raises(KdvizError, match=r"unknown keyword of landscape 'normalise'; did you mean 'normalize'"):
        kdviz.landscape(regression(0), small_data(), normalise="layer")
    with pytest.raises(TypeError, match="losses"):
        contour([valley()], losses=("ce",))
