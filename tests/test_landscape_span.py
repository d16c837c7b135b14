"""Spans by loss and by distance: closed forms of a quadratic, and nets of different width on the same terms."""

import numpy as np
import pytest
import torch
from torch import nn

from kdviz import plots
from kdviz.analysis.landscape import Evaluator, Grid, landscape, profiles, random_pair
from kdviz.analysis.landscape.span import length, reach_of_loss
from kdviz.base.check import KdvizError
from kdviz.data import Data


def net(width, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, width), nn.Tanh(), nn.Linear(width, 4))


@pytest.fixture(scope="module")
def data():
    pixels = torch.randint(256, (24, 3, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Data("noise", "test", pixels, torch.arange(24) % 4, (0.5,) * 3, (0.25,) * 3, tuple("abcd"))


@pytest.mark.parametrize(("rise", "curvature"), [(1.0, 3.0), (0.2, 40.0), (5.0, 0.5)])
def test_the_reach_in_a_bowl_is_where_its_parabola_crosses(rise, curvature):
    def bowl(at):
        return 0.7 + curvature / 2 * float(at["x"].square().sum())

    weights = {"x": torch.zeros(3, dtype=torch.float64)}
    directions = [{"x": torch.tensor([2.0, 0, 0], dtype=torch.float64)}, {"x": torch.tensor([0, 1.0, 0]).double()}]
    # mean over both of k/2 (4 s^2) and k/2 s^2
    expected = np.sqrt(0.7 * rise / (curvature / 2 * (4 + 1) / 2))
    assert reach_of_loss(bowl, weights, directions, rise=rise) == pytest.approx(expected, rel=0.006)
    assert weights["x"].tolist() == [0, 0, 0]


def test_a_loss_that_explodes_counts_as_risen_and_one_that_does_not_rise_is_refused():
    weights, east = {"x": torch.zeros(1)}, {"x": torch.ones(1)}
    wall = reach_of_loss(lambda at: 1.0 if abs(float(at["x"])) < 0.3 else float("nan"), weights, [east], rise=1.0)
    assert wall == pytest.approx(0.3, rel=0.01)
    with pytest.raises(KdvizError, match="has not risen by 100%"):
        reach_of_loss(lambda at: 1.0, weights, [east], rise=1.0)
    with pytest.raises(KdvizError, match="no relative rise"):
        reach_of_loss(lambda at: -1.0, weights, [east], rise=1.0)


@pytest.mark.parametrize("width", [6, 40])
def test_by_loss_the_middles_of_the_sides_have_risen_by_the_span(data, width):
    found = landscape(net(width), data, steps=3, span=0.5, span_by="loss")
    assert found["alpha"].values.tolist() == [-1, 0, 1]
    middles = [float(found["ce"][place]) for place in ((0, 1), (2, 1), (1, 0), (1, 2))]
    assert np.mean(middles) == pytest.approx(1.5 * float(found["ce"][1, 1]), rel=0.02)
    assert found["alpha"].attrs["units"] == "distance to +50 % loss"
    assert (found.attrs["span_by"], found.attrs["span"]) == ("loss", 0.5)
    assert "to where ce has risen by 50 %" in found.attrs["caption"]
    first = length(random_pair(dict(net(width).named_parameters()), seed=0)[0])
    assert found.attrs["distance"][0] == pytest.approx(found.attrs["reach"] * first, rel=1e-5)
    fig = plots.draw(found, "contour")
    assert "distance to +50 % loss" in fig.axes[0].get_xlabel()


@pytest.mark.parametrize("width", [6, 40])
def test_by_distance_the_sides_lie_as_far_from_every_net(data, width):
    found = landscape(net(width), data, steps=5, span=3.0, span_by="distance")
    assert found.attrs["distance"] == pytest.approx([3, 3])
    first, second = random_pair(dict(net(width).named_parameters()), seed=0)
    plain = landscape(net(width), data, steps=5, span=3 / length(first), one_d=True)
    np.testing.assert_allclose(found["ce"].sel(beta=0), plain["ce"], rtol=1e-5)
    plain = landscape(net(width), data, steps=5, span=3 / length(second))
    np.testing.assert_allclose(found["ce"].sel(alpha=0), plain["ce"].sel(alpha=0), rtol=1e-5)
    assert found["beta"].attrs["units"] == "distance in weight space"
    assert ", to a distance of 3 in weight space" in found.attrs["caption"]


def test_lines_are_spanned_each_by_itself_and_other_directions_are_refused(data):
    found = profiles(Evaluator(net(6), data), Grid(steps=3, span=0.5, span_by="loss"), seeds=(0, 1))
    np.testing.assert_allclose(found["ce"].isel(alpha=[0, 2]).mean("alpha"), 1.5 * found["ce"].isel(alpha=1), rtol=0.02)
    assert "reach" not in found.attrs  # each line has its own
    assert "distance to +50 % loss" in plots.draw(found, "profile").axes[-1].get_xlabel()
    with pytest.raises(KdvizError, match="span_by 'loss' goes with random directions"):
        Grid(span_by="loss", directions="hessian")
    with pytest.raises(KdvizError, match="span_by must be one of direction, distance, loss"):
        Grid(span_by="weights")
