"""Geometry of a landscape against surfaces whose convexity, flatness and minima are known in closed form."""

import numpy as np
import pytest
import xarray as xr

from kdviz.analysis import grid
from kdviz.analysis.landscape import geometry
from kdviz.base.check import KdvizError

AXIS = np.linspace(-1, 1, 41)
A, B = np.meshgrid(AXIS, AXIS, indexing="ij")


def egg_box(periods, points=81):
    """cos in both coordinates: minima, saddles and maxima at known places, all of known height."""
    axis = np.linspace(-1, 1, points)
    a, b = np.meshgrid(axis, axis, indexing="ij")
    return axis, np.cos(2 * np.pi * periods * a) + np.cos(2 * np.pi * periods * b)


def test_second_derivatives_of_a_quadratic_are_exact_on_an_uneven_pair_of_steps():
    b = np.linspace(-3, 5, 17)
    values = 1.5 * AXIS[:, None] ** 2 - 0.7 * AXIS[:, None] * b + 2.5 * b**2 + 4 * b - 1
    faa, fbb, fab = grid.hessian(values, AXIS, b)
    assert faa.shape == (39, 15)
    np.testing.assert_allclose(faa, 3.0, atol=1e-8)
    np.testing.assert_allclose(fbb, 5.0, atol=1e-8)
    np.testing.assert_allclose(fab, -0.7, atol=1e-8)
    low, high = grid.curvatures(values, AXIS, b)
    expected = np.linalg.eigvalsh([[3.0, -0.7], [-0.7, 5.0]])
    np.testing.assert_allclose(low, expected[0], atol=1e-8)
    np.testing.assert_allclose(high, expected[1], atol=1e-8)


def test_convex_share_of_a_quartic_follows_from_its_inflection():
    # f = a^4 - a^2 / 2 has the central difference 12 a^2 + 2 h^2 - 1, b^2 is convex throughout.
    values = A**4 - A**2 / 2 + B**2
    step = AXIS[1] - AXIS[0]
    expected = np.mean(12 * AXIS[1:-1] ** 2 + 2 * step**2 - 1 >= 0)
    assert 0.2 < expected < 0.8
    assert grid.convex_share(values, AXIS, AXIS) == pytest.approx(expected)
    assert grid.convex_share(values[:, 0], AXIS) == pytest.approx(expected)


def test_convex_share_of_an_egg_box_is_that_of_a_cosine_squared():
    # Differences of a cosine are a negative multiple of it, so a point is convex where both cosines are negative.
    axis, values = egg_box(2)
    below = np.cos(4 * np.pi * axis[1:-1]) < 1e-12
    assert grid.convex_share(values, axis, axis, tolerance=1e-9) == pytest.approx(np.mean(below) ** 2)


def test_rounding_does_not_break_convexity_but_a_dent_does():
    values = (A**2 + B**2).astype(np.float32)
    flat = np.zeros_like(A) + 3.0
    assert grid.convex_share(values, AXIS, AXIS) == 1.0
    assert grid.convex_share(flat, AXIS, AXIS) == 1.0
    values[20, 20] += 0.1
    assert grid.convex_share(values, AXIS, AXIS) < 1.0


def test_points_that_are_not_finite_are_not_convex():
    values = A**2 + B**2
    values[10, 10] = np.nan
    assert grid.convex_share(values, AXIS, AXIS) == pytest.approx(1 - 9 / 39**2)


@pytest.mark.parametrize(
    ("alphas", "message"),
    [([0, 1], "three or more"), ([0, 1, 3, 4], "evenly spaced"), ([2, 1, 0], "increasing"), ([0, 1, 2], "coordinates")],
)
def test_bad_coordinates_are_refused(alphas, message):
    with pytest.raises(KdvizError, match=message):
        grid.convex_share(np.zeros(4), np.array(alphas, dtype=float))


@pytest.mark.parametrize("epsilon", [0.02, 0.3, 0.75])
def test_flatness_radius_of_a_tilted_ellipse_is_its_short_half_axis(epsilon):
    # Level set of x'Hx / 2 = epsilon: the nearest point is at sqrt(2 epsilon / largest eigenvalue).
    matrix = np.array([[3.0, -1.2], [-1.2, 2.0]])
    values = (matrix[0, 0] * A**2 + 2 * matrix[0, 1] * A * B + matrix[1, 1] * B**2) / 2 + 7
    radius = geometry.flatness_radius(values, AXIS, AXIS, epsilon=epsilon)
    expected = np.sqrt(2 * epsilon / np.linalg.eigvalsh(matrix)[1])
    assert radius == pytest.approx(expected, abs=0.05**2 / expected)


def test_flatness_radius_off_the_grid_in_one_dimension_and_at_infinity():
    assert geometry.flatness_radius(A + B, AXIS, AXIS, epsilon=0.5) == pytest.approx(0.5 / np.sqrt(2), abs=1e-3)
    assert geometry.flatness_radius(A**2, AXIS, AXIS, epsilon=5) == 1.0
    assert geometry.flatness_radius(AXIS**2, AXIS, epsilon=0.36) == pytest.approx(0.6, abs=1e-3)
    walled = np.where(np.abs(A) > 0.42, np.inf, 0.0)
    assert 0.4 - 1e-9 <= geometry.flatness_radius(walled, AXIS, AXIS) <= 0.45
    with pytest.raises(KdvizError, match="no point at 0"):
        geometry.flatness_radius(AXIS[:-1] ** 2, AXIS[:-1] + 0.02)


def test_two_wells_have_the_persistence_of_their_barrier():
    # (a^2 - 1/4)^2 + a/10 + b^2: critical points are the roots of 4a^3 - a + 1/10.
    values = (A**2 - 0.25) ** 2 + A / 10 + B**2
    at = AXIS[np.abs(np.subtract.outer(np.roots([4, 0, -1, 0.1]).real, AXIS)).argmin(axis=1)]
    exact = np.sort([(a**2 - 0.25) ** 2 + a / 10 for a in np.roots([4, 0, -1, 0.1]).real])
    found = geometry.minima(values)
    assert len(found.value) == 2
    assert np.isinf(found.persistence[0])
    assert found.persistence[1] == pytest.approx(exact[2] - exact[1], abs=1e-3)
    assert set(AXIS[found.index[:, 0]].round(6)) <= set(at.round(6))
    np.testing.assert_allclose(AXIS[found.index[:, 1]], 0, atol=1e-12)


def test_minima_of_an_egg_box_are_counted_and_saddles_kill_them():
    # Three periods over [-1, 1] per coordinate with minima at 1/6, 1/2, 5/6 of both signs: 36 at -2, saddles at 0.
    _, values = egg_box(3, points=73)
    found = geometry.minima(values)
    assert len(found.value) == 36
    np.testing.assert_allclose(found.value, -2.0, atol=1e-12)
    np.testing.assert_allclose(found.persistence[1:], 2.0, atol=0.05)
    np.testing.assert_allclose(geometry.minima(values, connectivity="axes").persistence[1:], 2.0, atol=1e-12)
    assert geometry.count_minima(values) == 36
    assert geometry.count_minima(values, share=0.6) == 1


def test_noise_makes_minima_and_persistence_tells_them_from_wells():
    rng = np.random.default_rng(0)
    values = A**2 + B**2 + 0.1 * rng.random(A.shape)
    assert len(geometry.minima(values).value) > 3
    assert geometry.count_minima(values, share=0.05) == 1


def test_the_sum_of_persistence_matches_a_brute_force_count_of_components():
    # Betti number 0 of {f <= t} counted by flood fill must be the number of intervals [birth, death) that hold t.
    from scipy.ndimage import label

    values = np.random.default_rng(1).random((12, 15))
    found = geometry.minima(values)
    for level in np.linspace(0.05, 0.95, 13):
        _, components = label(values <= level, structure=np.ones((3, 3)))
        assert components == np.sum((found.value <= level) & (level < found.death))


def test_plateaus_walls_and_lines():
    assert geometry.minima(np.zeros((4, 5))).persistence.tolist() == [np.inf]
    assert geometry.minima(np.array([0.0, np.nan, 1.0])).persistence.tolist() == [np.inf, np.inf]
    with pytest.raises(KdvizError, match="no finite value"):
        geometry.minima(np.full(3, np.nan))


def test_summary_is_of_every_loss_and_not_of_accuracy():
    dims = ("alpha", "beta")
    dataset = xr.Dataset(
        {
            "ce": (dims, A**2 + 2 * B**2 + 1, {"role": "loss"}),
            "kd": (dims, A**2 - B**2, {"role": "loss"}),
            "accuracy": (dims, 0 * A, {"role": "metric"}),
        },
        {"alpha": AXIS, "beta": AXIS},
    )
    found = geometry.summary(dataset, epsilon=0.5)
    assert list(found) == ["ce", "kd"]
    ce = found["ce"]
    assert ce["centre"] == ce["minimum"] == 1.0
    assert ce["minimum_at"] == (0.0, 0.0)
    assert ce["range"] == pytest.approx(3.0)
    assert (ce["convex_share"], found["kd"]["convex_share"]) == (1.0, 0.0)
    assert ce["flatness_radius"] == pytest.approx(0.5, abs=0.01)
    assert not ce["flatness_open"]
    assert (ce["minima"], ce["second_persistence"]) == (1, 0.0)
    assert (ce["curvature_low"], ce["curvature_high"]) == pytest.approx((2.0, 4.0))
    line = geometry.summary(xr.Dataset({"ce": ("alpha", AXIS**2, {"role": "loss"})}, {"alpha": AXIS}))
    assert line["ce"]["curvature_high"] == pytest.approx(2.0)
    with pytest.raises(KdvizError, match="no variable of role 'loss'"):
        geometry.summary(dataset[["accuracy"]])
