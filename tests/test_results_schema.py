"""Results that are damaged, odd or hostile: one line that names file and field, or a figure; never a traceback."""

import gc
import random
import warnings

import h5py
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from kdviz import plots
from kdviz.base.check import KdvizError
from kdviz.base.files import write_dataset
from kdviz.base.result_kinds import KINDS, Variable
from kdviz.base.results import check_result, read_dataset

SIZES = {"alpha": 5, "beta": 4, "channel": 3, "mark": 3, "net": 3, "student": 2, "colour": 3, "quantile": 5, "side": 2}
WORDS = {
    "net": ["teacher", "student", "this"],
    "criterion": ["kl", "kl+rk", "pld"],
    "measure": ["tau_b", "tau_a", "spearman"],
    "side": ["wrong", "right"],
}


def size(dim):
    return SIZES.get(dim, 3)


def values(name, variable, draw):
    """Values that the kind allows."""
    shape = tuple(size(dim) for dim in variable.dims)
    if variable.type == "texts":
        words = WORDS.get(name, [f"{name} {i}" for i in range(9)])[: int(np.prod(shape))]
        return np.resize(np.array(words, dtype=object), shape)
    if variable.increasing:
        return np.arange(shape[0]) + 1.0 if name == "rank" else np.linspace(0, 1, shape[0])
    low, high = max(variable.low, -9.0), min(variable.high, 9.0)
    return draw.uniform(max(low, 0.1) if low == 0 else low, high, shape)


def example(kind):
    """A small result of a kind, made from the schema alone."""
    draw, spec = np.random.default_rng(0), KINDS[kind]
    found = xr.Dataset(attrs={"kind": kind, "label": "a", "explained_variance": [0.7, 0.2], "samples": 3, "data": "x"})
    for name, variable in spec.variables.items():
        if variable.dims is not None:
            made = values(name, variable, draw)
            found[name] = (variable.dims, made, {"width": 0.5} if name in ("logit", "probability") else {})
    if spec.grid:
        grid = [dim for dim in spec.grid if dim in found.dims]
        found["ce"] = (grid, 1 + draw.random([size(dim) for dim in grid]), {"units": "nats"})
        found["ce_halfwidth"] = (grid, 0.1 * draw.random([size(dim) for dim in grid]))
        found["accuracy"] = (grid, draw.random([size(dim) for dim in grid]))
    for name, (low, high) in spec.attrs.items():
        found.attrs[name] = 1 if name == "label" else min(max(low, 1.0), high)
    for name in ("case_label", "misled", "right"):
        if name in found and found[name].dims != ("channel",):
            found[name] = (found[name].dims, np.zeros(found[name].shape, dtype=np.int64))
    return found.set_coords([name for name in spec.variables if name in found.dims and name in found])


EXAMPLES = {kind: example(kind) for kind in KINDS}


def outcome(call, *given):
    """What a call ends in: nothing, or the one line of its error."""
    line = None
    try:
        call(*given)
    except KdvizError as error:
        line = str(error)
    assert line is None or ("\n" not in line and len(line) < 700)
    return line


@pytest.mark.parametrize("kind", KINDS)
def test_the_example_of_each_kind_passes_and_comes_back(tmp_path, kind):
    write_dataset(EXAMPLES[kind], tmp_path / "a.nc")
    notes = []
    assert read_dataset(tmp_path / "a.nc", notes=notes).attrs["kind"] == kind
    assert notes == []


def test_every_kind_that_is_drawn_has_a_schema():
    assert set(plots.FIGURES) <= set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_variable_that_is_dropped_renamed_or_of_another_type_is_named(kind):
    for name, variable in KINDS[kind].variables.items():
        if name not in EXAMPLES[kind]:
            continue
        whole = EXAMPLES[kind]
        if variable.needed:
            assert name in outcome(check_result, whole.drop_vars(name))
            assert outcome(check_result, whole.reset_coords().rename_vars({name: f"{name}_"}))
        other = np.full(whole[name].shape, 1.0 if variable.type == "texts" else "1.0", dtype=object)
        other = other.astype(float) if variable.type == "texts" else other
        line = outcome(check_result, whole.reset_coords().assign({name: (whole[name].dims, other)}))
        assert line.startswith(f"{name}: expected {variable.type}"), line
        if variable.dims and name not in whole.dims:
            single = ((), whole[name].values.ravel()[0])
            line = outcome(check_result, whole.reset_coords().assign({name: single}))
            assert line.startswith(f"{name}: expected the dims"), line


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda one: one.assign_coords(alpha=[0.0, 1, 1, 2, 3]), "alpha: the same value twice"),
        (lambda one: one.assign_coords(alpha=[0.0, 2, 1, 3, 4]), "alpha: the values do not increase"),
        (lambda one: one.assign_coords(alpha=[0.0, 1, np.nan, 3, 4]), "alpha: 1 of 5 values are not finite"),
        (lambda one: one.isel(alpha=[0]), "alpha: expected at least 2 values, got 1"),
        (lambda one: one.isel(alpha=[]), "alpha: expected at least 2 values, got 0"),
        (lambda one: one.assign_coords(alpha=list("abcde")), "alpha: expected numbers"),
        (lambda one: one.assign(ce_halfwidth=-one["ce_halfwidth"]), "ce_halfwidth: a negative width"),
        (lambda one: one.assign(ce=one["ce"].astype(str)), "ce: expected numbers"),
        (lambda one: one.assign(ce=one["ce"] * 1j), "ce: expected numbers or texts, got complex128"),
        (lambda one: one[["alpha", "beta"]], "holds no numbers over alpha and beta"),
        (lambda one: one[["ce"]] * np.nan, "ce: no value is finite"),
        (lambda one: one.assign_attrs(kind=3), "attribute kind"),
        (lambda one: one.assign_attrs(samples="many"), "attribute samples"),
        (lambda one: one.assign_attrs(label=chr(0xD800)), "attribute label"),
        (lambda one: one.assign_attrs(other=np.zeros((2, 2))), "attribute other"),
        (lambda one: one.rename_vars({"ce": "a\nb"}), "a variable or attribute is called"),
    ],
)
def test_what_is_wrong_is_said(change, line):
    changed = change(EXAMPLES["landscape"])
    attrs = EXAMPLES["landscape"].attrs | changed.attrs  # arithmetic drops them
    found = outcome(check_result, changed.assign_attrs(attrs))
    assert found is not None
    assert found.startswith(line)


def test_what_can_be_drawn_in_part_is_drawn_and_what_is_missing_said(tmp_path):
    whole = EXAMPLES["landscape"]
    holes = whole.assign(
        kd=whole["ce"] * np.nan, kd_halfwidth=whole["ce_halfwidth"], ce=whole["ce"].where(whole["ce"] > 1.2)
    )
    write_dataset(holes, tmp_path / "a.nc")
    notes = []
    found = read_dataset(tmp_path / "a.nc", notes=notes)
    assert {"kd", "kd_halfwidth"}.isdisjoint(found)
    missing = int((whole["ce"] <= 1.2).sum())
    assert notes == [f"ce: {missing} of 20 values are missing or not finite", "kd: left out, no value is finite"]
    with plots.style():
        plots.draw(found, "contour")


PLAIN = st.one_of(st.text(max_size=8), st.integers(), st.floats(), st.booleans(), st.lists(st.floats(), max_size=3))
ARRAYS = st.sampled_from([np.nan, np.inf, -1.0, 0.0, 1e300, 7.0])


@settings(max_examples=300, deadline=None, database=None, derandomize=True)
@given(st.data())
def test_a_changed_result_is_refused_in_a_line_or_is_of_its_types(data):
    """Whatever passes has, for every variable of its kind, the declared type and bounds."""
    kind = data.draw(st.sampled_from(sorted(KINDS)))
    found = EXAMPLES[kind].copy(deep=True).reset_coords()
    for _ in range(data.draw(st.integers(1, 3))):
        name = data.draw(st.sampled_from(sorted(map(str, found.variables))))
        how = data.draw(st.sampled_from(["value", "drop", "attribute", "text", "slice"]))
        if how == "value" and found[name].dtype.kind == "f" and found[name].size:
            changed = np.array(found[name].values)
            changed.flat[data.draw(st.integers(0, changed.size - 1))] = data.draw(ARRAYS)
            found[name] = (found[name].dims, changed, found[name].attrs)
        elif how == "drop":
            found = found.drop_vars(name)
        elif how == "attribute":
            found.attrs[data.draw(st.sampled_from(["kind", "label", "samples", "temperature", "x"]))] = data.draw(PLAIN)
        elif how == "text":
            found[name] = (found[name].dims, np.full(found[name].shape, "1", dtype=object))
        elif how == "slice" and found[name].dims:
            found = found.isel({found[name].dims[0]: slice(0, data.draw(st.integers(0, 2)))})
        if not found.variables:
            break
    if outcome(check_result, found) is None and found.attrs.get("kind") in KINDS:
        for name, variable in KINDS[str(found.attrs["kind"])].variables.items():
            assert isinstance(variable, Variable)
            if name in found.variables:
                assert (found[name].dtype.kind in "biuf") == (variable.type == "numbers")


def read_and_draw(path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_dataset(path)
        gc.collect()  # what the readers leave behind must not complain either
    return found


@pytest.mark.parametrize("kind", ["landscape", "cases"])
def test_truncated_at_every_percent(tmp_path, kind):
    whole = write_dataset(EXAMPLES[kind], tmp_path / "a.nc").read_bytes()
    for percent in range(0, 100, 1 if kind == "landscape" else 10):
        (tmp_path / "b.nc").write_bytes(whole[: len(whole) * percent // 100])
        line = outcome(read_and_draw, tmp_path / "b.nc")
        assert line is not None
        assert line.startswith(f"{tmp_path / 'b.nc'}: ")


def test_flipped_bits_never_crash(tmp_path):
    draw = random.Random(0)
    whole = write_dataset(EXAMPLES["landscape"], tmp_path / "a.nc").read_bytes()
    refused = 0
    for _ in range(80):
        damaged = bytearray(whole)
        for _ in range(draw.choice([1, 4, 16])):
            damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        (tmp_path / "b.nc").write_bytes(damaged)
        refused += outcome(read_and_draw, tmp_path / "b.nc") is not None
    assert refused > 0


def test_a_file_of_hdf5_that_is_no_netcdf(tmp_path):
    with h5py.File(tmp_path / "a.nc", "w") as file:
        file.attrs["kind"] = "landscape"
        file["alpha"] = h5py.Empty("f8")
        file["group/ce"] = [1, 2]
        file["ce"] = np.array([b"a", b"b"])
        file["soft"] = h5py.SoftLink("/nowhere")
        file["outside"] = h5py.ExternalLink("/etc/hostname", "/x")
    line = outcome(read_and_draw, tmp_path / "a.nc")
    assert line is not None
