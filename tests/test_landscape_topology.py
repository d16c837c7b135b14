"""Merge tree and persistence against hand-computed grids, flood fill at every level, and what must hold of any grid."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.ndimage import label as flood
from scipy.ndimage import minimum_filter

from kdviz.analysis.landscape import topology, uncertainty
from kdviz.analysis.landscape.geometry import minima
from kdviz.base.check import KdvizError

FULL, AXES = np.ones((3, 3)), np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])
GRIDS = arrays.arrays(float, st.tuples(st.integers(1, 7), st.integers(1, 7)), elements=st.integers(0, 40).map(float))
DISTINCT = st.tuples(st.integers(1, 7), st.integers(1, 7), st.randoms()).map(
    lambda drawn: np.array(drawn[2].sample(range(100), drawn[0] * drawn[1]), dtype=float).reshape(drawn[:2])
)


def landscape(values, **more):
    """A result like that of `kdviz landscape`: coordinates in -1..1, a loss in nats."""
    values = np.asarray(values, dtype=float)
    dims = ("alpha", "beta")[: values.ndim]
    coords = {dim: np.linspace(-1, 1, n) if n > 1 else [0.0] for dim, n in zip(dims, values.shape, strict=True)}
    variables = {"ce": (dims, values, {"role": "loss", "units": "nats", "long_name": "cross-entropy"})}
    return xr.Dataset(variables | more, coords, {"kind": "landscape" if values.ndim == 2 else "profile"})


def test_the_merge_tree_of_a_small_grid_is_the_one_drawn_by_hand():
    # Three wells in a frame of 9: at 0 (lowest), 1 and 2. The wells of 1 and 2 join over 4, both that of 0 over 7.
    found = topology(landscape([[9, 9, 9, 9, 9, 9, 9], [9, 0, 7, 1, 4, 2, 9], [9, 9, 9, 9, 9, 9, 9]]), threshold=3.0)
    assert found["birth"].values.tolist() == [0, 1, 2]
    assert found["death"].values.tolist() == [np.inf, 7, 4]
    assert found["persistence"].values.tolist() == [np.inf, 6, 2]
    assert found["parent"].values.tolist() == [0, 1, 2]
    assert found["counted"].values.tolist() == [1, 1, 0]
    np.testing.assert_allclose(found["place_beta"], [-2 / 3, 0, 2 / 3])
    np.testing.assert_allclose(found["saddle_beta"], [np.nan, -1 / 3, 1 / 3])
    assert found["place_alpha"].values.tolist() == [0, 0, 0]
    assert (found.attrs["minima"], found.attrs["minima_at_edge"], found.attrs["highest"]) == (2, 0, 9)
    assert found["persistence"].attrs["units"] == "nats"


def test_a_diagonal_valley_is_one_basin_of_eight_adjacent_points_and_several_of_four():
    valley = 9 - 8 * np.eye(3)
    assert topology(landscape(valley), threshold=0).attrs["minima"] == 1
    assert topology(landscape(valley), threshold=0, connectivity="axes").attrs["minima"] == 3


def test_a_line_has_two_adjacent_points_and_edges_are_told():
    found = topology(landscape([0.5, 3, 1, 2, 0]), threshold=0)
    assert found["birth"].values.tolist() == [0, 0.5, 1]
    assert found["death"].values.tolist() == [np.inf, 3, 2]
    assert found["at_edge"].values.tolist() == [1, 1, 0]
    assert (found.attrs["minima"], found.attrs["minima_at_edge"]) == (3, 2)
    assert "saddle_beta" not in found


@given(GRIDS, st.booleans())
@settings(max_examples=60, deadline=None)
def test_at_every_level_there_are_as_many_intervals_as_a_flood_fill_finds_parts(values, full):
    found = topology(landscape(values), threshold=0, connectivity="full" if full else "axes")
    for level in np.unique(values):
        _, parts = flood(values <= level, structure=FULL if full else AXES)
        assert int(((found["birth"] <= level) & (level < found["death"])).sum()) == parts


@given(DISTINCT, st.booleans())
@settings(max_examples=60, deadline=None)
def test_all_minima_are_the_points_below_all_that_are_adjacent(values, full):
    lowest = minimum_filter(values, footprint=FULL if full else AXES, mode="constant", cval=np.inf)
    expected = {tuple(at) for at in np.argwhere(values == lowest)}
    found = minima(values, connectivity="full" if full else "axes")
    assert {tuple(at) for at in found.index} == expected
    assert topology(landscape(values), threshold=0, connectivity="full" if full else "axes").attrs["minima"] == len(
        expected
    )


@given(GRIDS, st.integers(-50, 50), st.sampled_from([0.5, 1, 4]))
@settings(max_examples=60, deadline=None)
def test_a_constant_moves_births_and_deaths_and_a_factor_scales_them(values, shift, factor):
    one, other = (topology(landscape(each), threshold=0) for each in (values, factor * values + shift))
    for name in ("birth", "death"):
        np.testing.assert_array_equal(other[name], factor * one[name] + shift)
    np.testing.assert_array_equal(other["persistence"], factor * one["persistence"])
    np.testing.assert_array_equal(other["parent"], one["parent"])


@given(GRIDS)
@settings(max_examples=60, deadline=None)
def test_the_tree_holds_together(values):
    found = topology(landscape(values), threshold=0)
    assert np.isinf(found["death"][0])
    assert (found["parent"][0], float(found["birth"][0])) == (0, values.min())
    assert np.isfinite(found["death"][1:]).all()
    at = {
        dim: list(found_axis)
        for dim, found_axis in zip(("alpha", "beta"), landscape(values).coords.values(), strict=True)
    }
    for row in range(1, found.sizes["minimum"]):
        parent = int(found["parent"][row]) - 1
        assert 0 <= parent < row  # lower or as low, and it lives on
        assert found["birth"][parent] <= found["birth"][row]
        assert found["death"][parent] >= found["death"][row]
        place, saddle = (
            tuple(at[dim].index(float(found[f"{kind}_{dim}"][row])) for dim in ("alpha", "beta"))
            for kind in ("place", "saddle")
        )
        assert (values[place], values[saddle]) == (found["birth"][row], found["death"][row])


@given(GRIDS)
@settings(max_examples=40, deadline=None)
def test_total_persistence_is_the_area_under_the_number_of_surplus_parts(values):
    found = topology(landscape(values), threshold=0)
    levels = np.unique(values)
    surplus = [flood(values <= level, structure=FULL)[1] - 1 for level in levels[:-1]]
    assert float(found["persistence"][1:].sum()) == pytest.approx(float(np.dot(surplus, np.diff(levels))))


@given(DISTINCT, st.integers(0, 2**32 - 1), st.sampled_from([0.5, 3.0, 10.0]))
@settings(max_examples=40, deadline=None)
def test_minima_above_twice_a_bound_survive_noise_within_it(values, seed, bound):
    noisy = values + np.random.default_rng(seed).uniform(-bound, bound, values.shape)
    sure = topology(landscape(values), threshold=2 * bound + 1e-9).attrs["minima"]
    assert topology(landscape(noisy), threshold=0).attrs["minima"] >= sure


def test_without_a_threshold_a_minimum_must_stand_out_of_the_intervals_at_its_ends():
    values = np.array([5.0, 0.0, 2.0, 1.0, 5.0])
    for half, counted in ((0.4, 2), (0.6, 1)):  # persistence 1 against twice the half-width
        width = ("alpha", np.full(5, half), {"role": "half-width", "of": "ce", "units": "nats"})
        found = topology(landscape(values, ce_halfwidth=width))
        assert found.attrs["minima"] == counted
        np.testing.assert_allclose(found["threshold"], 2 * half, rtol=1e-5)
        assert "uncertainty" in found.attrs["threshold_source"]
    assert topology(landscape(values)).attrs["minima"] == 2  # all images: rounding alone


def test_uncertainty_is_the_sum_of_interval_interpolation_and_rounding():
    values = np.array([2.0, 4.0])
    of = {"of": "ce", "units": "nats"}
    dataset = landscape(
        values,
        ce_halfwidth=("alpha", [0.25, 0.5], {"role": "half-width", **of}),
        ce_error=("alpha", [np.nan, 1.0], {"role": "error", **of}),
    )
    np.testing.assert_allclose(uncertainty(dataset), [0.25, 1.5], rtol=1e-5)
    halved = dataset.assign_attrs(precision="bf16", precision_error=0.125)
    np.testing.assert_allclose(uncertainty(halved), [0.5, 2.0])


def test_what_is_no_landscape_is_refused_in_a_line():
    one = landscape(np.zeros((3, 3)) + np.arange(3))
    with pytest.raises(KdvizError, match="did you mean 'ce'"):
        topology(one, loss="cee")
    with pytest.raises(KdvizError, match="threshold must be a number of 0 or more"):
        topology(one, threshold=-1.0)
    with pytest.raises(KdvizError, match="no losses over alpha"):
        topology(xr.Dataset(attrs={"kind": "tau"}))
    with pytest.raises(KdvizError, match="ensemble of lines"):
        topology(one.expand_dims(seed=[0, 1]))
    with pytest.raises(KdvizError, match="no finite value"):
        topology(landscape(np.full(3, np.nan)))
