"""Every figure of a landscape is drawn, alone and beside others, under every name that has a look of its own."""

import json
import re
from base64 import b64decode

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from test_plots import labelled, panels
from torch import nn

from kdviz import plots
from kdviz.analysis.landscape import Evaluator, Grid, landscape, profiles, topology
from kdviz.analysis.landscape.density import smoothed
from kdviz.analysis.landscape.metrics import attributes
from kdviz.analysis.landscape.paths import interpolation, plane
from kdviz.analysis.landscape.sharpness import hessian, spectral_quadrature
from kdviz.analysis.landscape.trajectory import trajectory
from kdviz.base.variables import half_width
from kdviz.data import Data
from kdviz.plots.landscape_panels import levels_of
from kdviz.plots.relief import smooth

LABELS = ("ce", "kd", "kd+rk"), ("pld", "dist", "a long_name of $5$ from a user")
GRID = Grid(steps=5)
KINDS = ("landscape", "plane", "profile", "path", "trajectory", "sharpness", "topology", "density")


def softmax_regression(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 4))


@pytest.fixture(scope="module")
def results():
    """Three results of every kind, of softmax regressions."""
    pixels = torch.randint(256, (24, 3, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    data = Data("noise", "test", pixels, torch.arange(24) % 4, (0.5,) * 3, (0.25,) * 3, tuple("abcd"))
    found = {kind: [] for kind in KINDS}
    for seed in range(3):
        nets = [softmax_regression(10 * seed + i) for i in range(4)]
        found["landscape"].append(landscape(nets[0], data, steps=5, seed=seed))
        found["plane"].append(plane(nets[:3], data, grid=GRID, labels=("ce", "kd", "kd+rk")))
        found["profile"].append(profiles(Evaluator(nets[0], data), GRID, seeds=(0, 1, 2)))
        found["path"].append(interpolation(nets[0], nets[1], data, grid=GRID))
        found["trajectory"].append(trajectory(nets, data, grid=GRID))
        found["topology"].append(topology(found["landscape"][-1]))
        found["density"] += smoothed([spectral_quadrature(nets[0], data, probes=2, iterations=5)])
        found["sharpness"].append(hessian(nets[0], data, eigenvalues=2, probes=5)[0])
    return found


def scaled(result, factor, shift=0):
    """The result with other heights, and what its variables mean."""
    return result.map(lambda values: factor * values + shift, keep_attrs=True)


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in KINDS for name in plots.FIGURES[kind]])
def test_every_figure_is_drawn_under_every_name(kind, name, labels, results):
    named = [one.assign_attrs(label=each) for one, each in zip(results[kind], labels, strict=True)]
    for chosen in (named[-1:], named) if name != "trajectory" else (named[-1:],):
        fig = plots.draw(chosen, name, venue="iclr")
        if name == "html":
            assert "<html" in str(fig)
            continue
        assert isinstance(fig, Figure)
        flat = [axis for axis in panels(fig) if axis.name != "3d"]
        assert all(labelled(axis, "y") for axis in flat)
        fig.draw_without_rendering()
        width, height = fig.get_size_inches()
        ink = fig.get_tightbbox()
        assert min(ink.x0, ink.y0, width - ink.x1, height - ink.y1) > -0.02, f"clipped: {ink} of {width} x {height}"


def test_surfaces_of_a_page_stand_in_boxes_of_the_same_heights(results):
    low, high = (results["landscape"][0], scaled(results["landscape"][0], 40))
    pair = [low.assign_attrs(label="kd"), high.assign_attrs(low.attrs, label="ce")]
    page = str(plots.draw(pair, "html", venue="iclr"))
    boxes = re.findall(r'"zaxis":{"title":{"text":"cross-entropy"},"range":(\[[^]]+\])', page.rpartition("newPlot")[2])
    least, most = json.loads(boxes[0])
    assert len(boxes) == 2
    assert boxes[0] == boxes[1]
    assert least < np.log10(low.ce.min())
    assert most > np.log10(high.ce.max())


def test_heights_of_a_page_stand_at_their_values(results):
    page = str(plots.draw(scaled(results["landscape"][0], 40, -30), "html"))
    told = re.findall(r'"tickvals":(\[[^]]+\]),"ticktext":(\[[^]]+\])', page.rpartition("newPlot")[2])
    assert told
    for places, texts in told:
        found, named = np.array(json.loads(places)), np.array(json.loads(texts), dtype=float)
        assert np.allclose(found, np.log10(np.maximum(named, 1e-300))) or np.allclose(found, named)


def traces(page):
    """The traces of an interactive page, in order."""
    call = page.rpartition("Plotly.newPlot(")[2]
    return json.JSONDecoder().raw_decode(call, call.index("["))[0]


def numbers(coded):
    """An array of a page, plain or packed."""
    return np.asarray(coded) if isinstance(coded, list) else np.frombuffer(b64decode(coded["bdata"]), coded["dtype"])


def test_the_nets_of_a_plane_stand_on_its_surface_under_their_names(results):
    one = results["plane"][0]
    page = plots.draw(one, "html")
    shown = [trace for trace in traces(page) if trace["visible"]]
    assert [trace["type"] for trace in shown] == ["surface", *["scatter3d"] * 4]
    pins, heads = shown[1:4], shown[4]
    assert heads["text"] == ["CE", "KD", "KD+RK"]
    for pin, alpha, beta in zip(pins, one.mark_alpha.values, one.mark_beta.values, strict=True):
        assert numbers(pin["x"]) == pytest.approx([alpha] * 2)
        assert numbers(pin["y"]) == pytest.approx([beta] * 2)
    assert numbers(heads["customdata"])[0] == pytest.approx(float(one.mark_loss[0]), rel=1e-5)  # (0, 0) is on the grid
    middle = list(one.beta.values).index(0), list(one.alpha.values).index(0)
    assert numbers(pins[0]["z"])[0] == pytest.approx(numbers(shown[0]["z"]).reshape(5, 5)[middle])
    for name in ("contour", "surface"):
        (axis,) = [axis for axis in plots.draw(one, name).axes if axis.get_xlabel()]
        assert {"CE", "KD", "KD+RK"} <= {text.get_text() for text in axis.texts}


def test_a_runs_way_lies_on_the_surface_through_every_epoch(results):
    one = results["trajectory"][0]
    (way,) = [trace for trace in traces(plots.draw(one, "html")) if trace["visible"] and trace["type"] == "scatter3d"]
    stops = [i for i, text in enumerate(way["text"]) if text]
    assert [way["text"][i] for i in stops] == [f"epoch {epoch}" for epoch in one.trajectory_epoch.values]
    for axis, name in (("x", "trajectory_alpha"), ("y", "trajectory_beta")):
        np.testing.assert_allclose(numbers(way[axis])[stops], one[name], atol=1e-12)
    assert numbers(way["customdata"])[-1] == pytest.approx(float(one.trajectory_projected[-1]), rel=1e-5)  # at (0, 0)


def test_a_metric_is_drawn_beside_the_loss_at_even_levels_and_marked_where_it_is_greatest(results):
    one = results["landscape"][0]
    hill = (1 - one.alpha**2 / 2 - (one.beta - 0.5) ** 2 / 4).transpose(*one.ce.dims)  # greatest at (0, 0.5)
    hill = hill.assign_attrs(attributes("kendall_tau"))
    fig = plots.draw(one.assign(kendall_tau=hill), "contour")
    loss, metric = [axis for axis in fig.axes if axis.get_title("left")]
    assert "Kendall" in metric.get_title("left")
    marks = {line.get_label(): (*line.get_xdata(), *line.get_ydata()) for line in metric.lines}
    assert marks["greatest on the grid"] == (0, 0.5)
    assert "greatest on the grid" not in {line.get_label() for line in loss.lines}
    levels = levels_of([(hill * 0.01).assign_attrs(hill.attrs)])
    np.testing.assert_allclose(np.diff(levels[0]), np.diff(levels[0])[0])
    assert not levels[1]


@pytest.mark.parametrize(("stretch", "aspect"), [(1, 1), (0.1, "auto")])
def test_an_oblong_plane_is_not_drawn_to_scale(results, stretch, aspect):
    one = results["landscape"][0]
    (axis,) = [axis for axis in plots.draw(one.assign_coords(beta=stretch * one.beta), "contour").axes if axis.lines]
    assert axis.get_aspect() == aspect


def test_numbers_on_the_lines_of_a_contour_are_those_of_its_colour_bar(results):
    fig = plots.draw(scaled(results["landscape"][0], 40, -30), "contour")
    fig.draw_without_rendering()
    (axis,) = panels(fig)
    (bar,) = axis.child_axes
    numbers = {text.get_text() for text in axis.texts}
    assert numbers
    assert numbers <= {text.get_text() for text in bar.get_yticklabels()}


def test_the_best_value_on_the_trained_weights_hides_no_cross(results):
    one = results["landscape"][0]
    bowl = (one.alpha**2 + one.beta**2 + 1).transpose(*one.ce.dims).assign_attrs(one.ce.attrs)
    (axis,) = panels(plots.draw(one.assign(ce=bowl), "contour"))
    marks = {line.get_label(): line for line in axis.lines}
    cross, ring = marks["trained weights"], marks["least on the grid"]
    assert (*ring.get_xdata(), *ring.get_ydata()) == (0, 0)
    assert ring.get_markerfacecolor() == "none"
    assert ring.get_markersize() > cross.get_markersize() + 2


def test_a_scale_says_that_it_is_logarithmic(results):
    one = results["landscape"][0]
    bowl = (0.01 + one.alpha**2 + one.beta**2) ** 3
    steep = bowl.transpose(*one.ce.dims).assign_attrs(one.ce.attrs)
    for values, said in ((steep, True), (3 + 0 * one.ce + 0.1 * one.alpha, False)):
        shown = one.assign(ce=values.transpose(*one.ce.dims).assign_attrs(one.ce.attrs))
        for name in ("contour", "surface"):
            fig = plots.draw(shown, name)
            bars = [one for one in fig.findobj(Axes) if one.get_label() == "<colorbar>"]
            assert [bar.get_ylabel().endswith(", log scale") for bar in bars] == [said]


def test_a_coarse_grid_is_drawn_smoothly_through_its_points_and_says_so(results):
    one = results["landscape"][0]
    x = one.alpha.values
    fine_x, fine_y, z = smooth(x, x, x[:, None] ** 3 - x)  # which a cubic spline has exactly
    np.testing.assert_allclose(z, fine_x[:, None] ** 3 - fine_y, atol=1e-12)
    assert np.isin(x, fine_x).all()
    for name in ("contour", "surface"):
        texts = [text.get_text() for text in plots.draw(one, name).texts]
        assert "drawn smoothly through the 5 × 5 points of the grid" in texts
    unknown = np.where(np.eye(len(x)) > 0, np.nan, 1.0)
    assert smooth(x, x, unknown)[2] is unknown


def test_a_page_fits_a_phone_and_follows_the_readers_colours(results):
    page = str(plots.draw(results["landscape"][0], "html"))
    head = page.partition("<script")[0]
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in head
    assert "prefers-color-scheme: dark" in head
    shown = [trace for trace in traces(page) if trace["visible"]]
    assert [trace.get("text") for trace in shown][-1] == ["trained weights"]
    (alpha, beta) = (numbers(shown[-1][axis])[0] for axis in "xy")
    assert (alpha, beta) == (0, 0)
    lines = shown[0]["contours"]["z"]
    assert (lines["end"] - lines["start"]) / lines["size"] >= 8  # on the floor


def test_a_sampled_path_carries_its_interval(results):
    one = results["path"][0]
    assert not [band for axis in plots.draw(one).axes for band in axis.collections]
    widths = {"ce_halfwidth": 0.1 + one.ce, "accuracy_halfwidth": 0.05 + 0 * one.accuracy}
    for name, values in widths.items():
        values.attrs = half_width(name.removesuffix("_halfwidth"), attributes(name.removesuffix("_halfwidth")))
    loss, accuracy = plots.draw(one.assign(widths)).axes
    for axis, name, factor in ((loss, "ce", 1), (accuracy, "accuracy", 100)):
        (band,) = axis.collections
        heights = band.get_paths()[0].vertices[:, 1]
        assert heights.max() == pytest.approx(factor * float((one[name] + widths[f"{name}_halfwidth"]).max()))
        assert heights.min() == pytest.approx(factor * float((one[name] - widths[f"{name}_halfwidth"]).min()))


def test_many_profiles_stand_two_abreast(results):
    one = results["landscape"][0]
    fig = plots.draw(one.assign(dict.fromkeys(("kd", "pld", "dist"), one.ce)), "profile")
    *axes, beside = fig.axes
    assert [axis.get_subplotspec().colspan.start for axis in axes] == [0, 1, 0, 1, 0]
    assert [bool(axis.get_xlabel()) for axis in axes] == [False, False, False, True, True]
    assert not beside.axison
    assert [text.get_text() for text in beside.get_legend().get_texts()] == [r"along $\alpha$", r"along $\beta$"]
