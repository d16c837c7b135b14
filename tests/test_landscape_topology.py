"""Merge tree and persistence against hand-computed grids, flood fill at every level, and what must hold of any grid."""

import numpy as np
import pytest
import typer.testing
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.ndimage import label as flood
from scipy.ndimage import minimum_filter

from kdviz import plots
from kdviz.analysis.landscape import topology, uncertainty
from kdviz.analysis.landscape.geometry import minima
from kdviz.base.check import KdvizError
from kdviz.base.files import read_dataset, write_dataset
from kdviz.cli.app import app
from kdviz.plots.topology import branches

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


@given(DISTINCT)
@settings(max_examples=40, deadline=None)
def test_no_line_of_a_drawn_tree_crosses_another(values):
    found = topology(landscape(values), threshold=0)
    order = branches(found)
    assert sorted(order) == list(range(found.sizes["minimum"]))
    for row in range(1, len(order)):
        parent, level = int(found["parent"][row]) - 1, float(found["death"][row])
        between = order[order.index(parent) + 1 : order.index(row)]
        assert order.index(parent) < order.index(row)
        assert all(float(found["death"][one]) <= level for one in between)


def test_the_figures_show_every_minimum_and_which_count():
    wells = [landscape([[9, 9, 9, 9, 9, 9, 9], [9, k, 7, 1, 4, 2, 9], [9, 9, 9, 9, 9, 9, 9]]) for k in (0, 0.5)]
    found = [
        topology(one, threshold=3.0).assign_attrs(label=label) for one, label in zip(wells, ("kd", "ce"), strict=True)
    ]
    fig = plots.draw(found, "tree")
    assert [axis.get_title(loc="left") for axis in fig.axes] == ["(a) KD", "(b) CE"]
    assert [axis.texts[0].get_text() for axis in fig.axes] == ["2 of 3 minima"] * 2
    dots = [line for line in fig.axes[0].lines if len(line.get_xdata()) == 1]
    assert [float(line.get_ydata()[0]) for line in dots] == [0, 1, 2]
    assert [line.get_markerfacecolor() == "white" for line in dots] == [False, False, True]
    (axis,) = plots.draw(found, "persistence").axes
    dots = [line for line in axis.lines if line.get_marker() == "o"]
    top = axis.get_ylim()[1]
    assert [(*line.get_xdata(), *line.get_ydata()) for line in dots] == [(0, top), (1, 7), (2, 4)]


def run(*words):
    found = typer.testing.CliRunner().invoke(app, ["topology", *map(str, words)])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found.output


def test_the_command_counts_minima_of_saved_results(tmp_path):
    wells = landscape([[9, 9, 9, 9, 9], [9, 0, 7, 1, 9], [9, 9, 9, 9, 9]]).assign_attrs(label="kd")
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        write_dataset(wells.assign(kd=wells["ce"] * 2), tmp_path / folder / "landscape.nc")
    given = (tmp_path / "first" / "landscape.nc", tmp_path / "second" / "landscape.nc", "--format", "png")
    printed = run(*given, "-o", tmp_path / "out", "--threshold", "6")
    assert printed.count("kd: ce has 2 of 2 local minima, 0 at the border: 0 at (0, -0.5); 1 at (0, 0.5), pers") == 2
    assert "a minimum counts from a persistence of 6 nats" in printed
    names = {f"{folder}_landscape_topology_{loss}.nc" for folder in ("first", "second") for loss in ("ce", "kd")}
    assert {path.name for path in (tmp_path / "out").glob("*.nc")} == names
    for name in names:
        assert read_dataset(tmp_path / "out" / name).attrs["minima"] == 2
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == {"tree.png", "persistence.png"}
    alone = run(given[0], "--losses", "ce", "--threshold", "6.5", "--format", "png")
    assert "kd: ce has 1 of 2 local minima" in alone
    assert (tmp_path / "first" / "landscape_topology_ce.nc").is_file()


def test_the_command_refuses_what_it_cannot_read(tmp_path):
    (tmp_path / "net.pt").write_bytes(b"x")
    write_dataset(landscape([1.0, 0, 1]), tmp_path / "line.nc")
    for words, says in [
        ((tmp_path / "net.pt",), r"kdviz landscape .*net.pt --topology"),
        ((tmp_path / "gone.nc",), "gone.nc"),
        ((tmp_path / "line.nc", "--losses", "kd"), "unknown loss of the landscape 'kd'"),
        ((tmp_path / "line.nc", "--threshold", "-1"), "threshold must be"),
        ((tmp_path / "line.nc", "--connectivity", "six"), "connectivity must be one of full, axes"),
        ((tmp_path / "line.nc", tmp_path / "line.nc"), "the same result twice"),
    ]:
        with pytest.raises(KdvizError, match=says):
            run(*words)
    assert [path.name for path in tmp_path.glob("*.nc")] == ["line.nc"]
