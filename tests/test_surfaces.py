"""Surfaces in logit space against closed forms: values, curvature, minimum, directions, and the command."""

import json
import subprocess
import sys

import numpy as np
import pytest
from scipy.special import logsumexp, softmax

from kdviz import plots
from kdviz.analysis.surfaces import LOGITS, Sample, _measure, surface
from kdviz.base.check import KdvizError
from kdviz.base.files import read_dataset
from kdviz.losses import LOSSES


def logits(found, alpha, beta):
    return found["teacher"].values + np.array([alpha, beta]) @ found["direction"].values


def test_kd_is_zero_and_least_at_the_teacher_with_the_covariance_for_its_hessian():
    found = surface("kd", temperatures=[3.0], classes=6, steps=11)
    t, d = found["teacher"].values, found["direction"].values
    p = softmax(t / 3)
    hessian = d @ (np.diag(p) - np.outer(p, p)) @ d.T  # T^2 times 1 / T^2
    assert found["value"].sel(alpha=0, beta=0).item() == pytest.approx(0, abs=1e-12)
    assert found["convex_share"].item() == 1.0
    assert found["minimum_distance"].item() == pytest.approx(0, abs=1e-5)
    assert not found["minimum_on_edge"].item()
    assert found["curvature_origin"].values[0] == pytest.approx(np.linalg.eigvalsh(hessian), rel=1e-4)
    assert found["curvature_minimum"].values[0] == pytest.approx(np.linalg.eigvalsh(hessian), rel=1e-4)


def test_ce_towards_a_class_in_closed_form():
    found = surface("ce", classes=5, steps=7, span=4.0, directions="class", seed=3)
    label = int(np.argmax(found["teacher"].values))
    for alpha in found["alpha"].values:
        for beta in found["beta"].values:
            s = logits(found, alpha, beta)
            expected = logsumexp(s) - s[label]
            assert found["value"].sel(alpha=alpha, beta=beta).item() == pytest.approx(expected, rel=1e-12)
    assert found["convex_share"].item() == 1.0
    assert found["minimum_on_edge"].item()
    assert found["minimum_alpha"].item() > 3.9  # ever further towards the label


@pytest.mark.parametrize("temperature", [2.0, 0.1])
def test_pld_of_three_classes_by_hand(temperature):
    found = surface("pld", temperatures=[temperature], classes=3, steps=5, span=3.0, seed=1, around=Sample(label=0))
    t = found["teacher"].values
    order = [0, *sorted((1, 2), key=lambda at: -t[at])]
    weights = softmax(t / temperature)[order]
    for alpha, beta in ((0.0, 0.0), (-3.0, 1.5), (3.0, 3.0)):
        s = logits(found, alpha, beta)[order]
        costs = np.array([logsumexp(s) - s[0], logsumexp(s[1:]) - s[1], 0.0])
        assert found["value"].sel(alpha=alpha, beta=beta).item() == pytest.approx(weights @ costs, rel=1e-12)
    assert found["convex_share"].item() == 1.0


def test_dist_of_one_sample_is_its_inter_class_term_and_a_constant():
    found = surface("dist", temperatures=[1.0], classes=8, steps=5)
    p = softmax(found["teacher"].values)
    for alpha, beta in ((0.0, 0.0), (-5.0, 2.5), (5.0, 5.0)):
        expected = 2 - np.corrcoef(p, softmax(logits(found, alpha, beta)))[0, 1]
        assert found["value"].sel(alpha=alpha, beta=beta).item() == pytest.approx(expected, abs=1e-5)
    assert found["convex_share"].item() < 0.5  # a dip in a plane
    assert "intra-class" in found.attrs["caption"]


@pytest.mark.parametrize(("curve", "share"), [((4.0, 1.0), 1.0), ((4.0, -1.0), 0.0)])
def test_quadratics_have_the_hessian_and_the_minimum_they_are_made_of(curve, share):
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    matrix = turn @ np.diag(curve) @ turn.T
    centre = np.array([0.53, -1.21])

    def function(points):
        away = points - centre
        return np.einsum("...i,ij,...j->...", away, matrix, away) / 2 + 7

    found = _measure(function, np.linspace(-5, 5, 21), 1e-3)
    assert found["convex_share"] == share
    assert found["curvature_origin"] == pytest.approx(sorted(curve), rel=1e-4)
    if share:
        assert (found["minimum_alpha"], found["minimum_beta"]) == pytest.approx(tuple(centre), abs=1e-5)
        assert found["minimum_value"] == pytest.approx(7.0)
        assert found["minimum_distance"] == pytest.approx(np.hypot(*centre), abs=1e-5)
    assert found["minimum_on_edge"] is not bool(share)


@pytest.mark.parametrize("directions", ["random", "class"])
def test_directions_are_orthogonal_and_as_long_as_t(directions):
    found = surface("kd", classes=7, steps=5, directions=directions, seed=5)
    d = found["direction"].values
    assert np.linalg.norm(found["teacher"].values) == pytest.approx(1.0)
    assert d @ d.T == pytest.approx(np.eye(2), abs=1e-12)
    if directions == "class":
        best, second = np.argsort(-found["teacher"].values)[:2]
        assert d[0].argmax() == best
        assert d[1].argmax() == second


def test_a_real_sample_is_centred_and_its_student_lies_on_the_line_to_it():
    rng = np.random.default_rng(0)
    t, s = 4 * rng.normal(size=(2, 9)) + 3
    found = surface("kd", around=Sample(None, t, s), directions="student", steps=5, span=2.0)
    at = found["student_position"].values
    assert at[1] == pytest.approx(0, abs=1e-12)
    assert logits(found, *at) == pytest.approx(s - s.mean())
    assert found.attrs["length"] == pytest.approx(np.linalg.norm(t - t.mean()))


def test_every_loss_of_logits_has_a_finite_surface():
    names = [name for name, loss in LOSSES.items() if set(loss.takes) <= set(LOGITS)]
    found = surface(names, classes=5, steps=5, span=1.0)
    assert {str(one) for one in found["loss"].values} == set(names)
    assert np.isfinite(found["value"].values).all()


def test_panels_are_losses_by_temperatures_around_one_t():
    found = surface(["ce", "pld"], temperatures=[2.0, 0.5], classes=4, steps=5, seed=2)
    assert found["panel"].values.tolist() == ["ce", "pld T=2", "pld T=0.5"]
    assert np.isnan(found["temperature"].values[0])
    again = surface(["pld"], temperatures=[0.5], classes=4, steps=5, seed=2)
    np.testing.assert_array_equal(again["value"].values[0], found["value"].values[2])
    other = surface(["pld"], temperatures=[0.5], classes=4, steps=5, seed=3)
    assert not np.array_equal(other["teacher"].values, again["teacher"].values)
    assert json.loads(found.attrs["versions"])["torch"]


def test_settings_reach_the_losses_that_know_them():
    plain = surface("rank_kendall", classes=4, steps=5)
    steep = surface("rank_kendall", classes=4, steps=5, settings={"steepness": 4.0})
    origin = {"alpha": 0, "beta": 0}
    assert steep["value"].sel(**origin).item() < plain["value"].sel(**origin).item() < 0


def sloped():
    """A slice whose value is 10 a + b, so that no axis can stand for the other."""
    found = surface("kd", classes=4, steps=9, span=2.0)
    value = 10 * found["alpha"] + found["beta"]
    return found.assign(value=value.expand_dims(panel=found["panel"]).transpose("panel", "alpha", "beta"))


def test_contours_have_the_first_direction_along_x():
    from matplotlib.contour import QuadContourSet

    (axis, _) = plots.draw(sloped(), "contour").axes
    drawn = [one for one in axis.collections if isinstance(one, QuadContourSet)]
    assert [one.filled for one in drawn] == [True, False]
    checked = 0
    for one in drawn[1:]:
        for level, segments in zip(one.levels, one.allsegs, strict=True):
            for line in segments:
                np.testing.assert_allclose(10 * line[:, 0] + line[:, 1], level, atol=1e-9)
                checked += len(line)
    assert checked > 20
    for low, segments in zip(drawn[0].levels, drawn[0].allsegs, strict=False):  # between a level and the next
        heights = np.concatenate([10 * line[:, 0] + line[:, 1] for line in segments])
        assert heights.min() >= low - 1e-9
        assert heights.max() <= low + np.diff(drawn[0].levels)[0] + 1e-9
    assert (axis.get_xlabel(), axis.get_ylabel()) == (r"$a$ ($\Vert t\Vert$)", r"$b$ ($\Vert t\Vert$)")


def test_the_surface_has_the_first_direction_along_x():
    (axis,) = plots.draw(sloped(), "surface").axes
    faces = axis.collections[0]  # matplotlib before 3.10 keeps its corners in one list
    x, y, z = faces._vec[:3] if hasattr(faces, "_vec") else np.moveaxis(np.asarray(faces._faces), -1, 0)
    np.testing.assert_allclose(10 * x + y, z, atol=1e-9)
    assert (x.min(), x.max(), y.min(), y.max()) == (-2, 2, -2, 2)
    assert (axis.get_xlabel(), axis.get_ylabel()) == (r"$a$ ($\Vert t\Vert$)", r"$b$ ($\Vert t\Vert$)")
    colours = axis.collections[0].get_facecolor()[:, :3].sum(1)
    colours = colours.reshape((round(len(colours) ** 0.5),) * 2)
    assert colours[0].mean() < colours[-1].mean()  # the map rises with a


def test_the_minimum_and_the_student_are_marked_where_they_are():
    found = sloped().assign(minimum_alpha=("panel", [1.5]), minimum_beta=("panel", [-0.5]))
    found["student_position"] = ("axis", [0.5, 1.0])
    (axis, _) = plots.draw(found, "contour").axes
    marks = {line.get_label(): (*line.get_xdata(), *line.get_ydata()) for line in axis.lines}
    assert (marks["minimum"], marks["student"], marks["$t$"]) == ((1.5, -0.5), (0.5, 1.0), (0.0, 0.0))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"steps": 10}, "odd"),
        ({"losses": "pldd"}, "did you mean 'pld'"),
        ({"losses": "rkd"}, "pooled"),
        ({"losses": []}, "name a loss"),
        ({"around": Sample(label=9), "classes": 4}, "outside 0..3"),
        ({"temperatures": [1.0, 0.0]}, "above 0"),
        ({"span": -1.0}, "above 0"),
        ({"classes": 2}, "3 classes"),
        ({"directions": "up"}, "random, class, student"),
        ({"directions": "student"}, "logits_student"),
        ({"settings": {"steepnes": 1}}, "steepnes"),
        ({"around": Sample(None, [1.0, float("nan"), 0.0])}, "not finite"),
        ({"around": Sample(None, [1.0, 2.0, 0.0], [1.0, 2.0, 0.0, 4.0])}, "different data sets"),
        ({"around": Sample(None, [2.0, 2.0, 2.0])}, "all equal"),
        ({"around": Sample(logits_student=[2.0, 1.0, 2.0])}, "needs logits_teacher"),
    ],
)
def test_bad_input_is_one_clear_line(arguments, told):
    with pytest.raises(KdvizError, match=told) as caught:
        surface(**{"losses": "kd", "steps": 5, **arguments})
    assert "\n" not in str(caught.value)


def test_the_command_takes_temperatures_as_written(tmp_path):
    words = [
        "surface",
        "--loss",
        "pld",
        "--temperature",
        "2",
        "1",
        ".5",
        ".1",
        "--classes",
        "5",
        "--steps",
        "7",
        "--format",
        "png",
        "-o",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "kdviz", *words, str(tmp_path)], capture_output=True, text=True, check=True
    )
    found = read_dataset(tmp_path / "surface.nc")
    assert found["temperature"].values.tolist() == [2.0, 1.0, 0.5, 0.1]
    assert {path.name for path in tmp_path.glob("*.png")} == {"both.png", "surface.png", "contour.png"}
    assert done.stdout.count("pld T=") == 4
    assert done.stderr == ""


@pytest.mark.parametrize("name", ["pld", "rank_kendall", "dist"])
def test_a_surface_holds_one_batch_and_no_view_of_it(name, monkeypatch):
    """Of 32 768 classes a row is 256 KB; values that were views of their rows once held 5.8 GB of them."""
    from kdviz.analysis import surfaces
    from kdviz.base.threads import in_threads

    whole, parts, sizes = surface(name, classes=12, steps=5), [], []

    def watched(work, items):
        sizes.extend(len(item) for item in items)
        found = in_threads(work, items)
        parts.extend(found)
        return found

    monkeypatch.setattr(surfaces, "in_threads", watched)
    monkeypatch.setattr(surfaces, "NUMBERS", 12 * 12 * 3)
    found = surface(name, classes=12, steps=5)
    np.testing.assert_allclose(found["value"], whole["value"], rtol=1e-12)
    assert max(sizes) == (3 if name == "dist" else 36)  # dist couples rows, and may hold classes x classes for each
    assert all(part.flags.owndata for part in parts)
