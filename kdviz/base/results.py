"""Results in netCDF files: read only when whole, of bounded size and of the types and values of their kind."""

import math
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from kdviz.base.check import KdvizError, existing, require
from kdviz.base.result_kinds import KINDS, Kind, Variable
from kdviz.base.variables import complete

if TYPE_CHECKING:
    import xarray as xr

RATIO, SLACK = 100, 2**24  # a result may be at most so many times its file's bytes, and so many bytes more
LONGEST = 100_000  # characters of an attribute, values of a list
WIDTHS = ("_halfwidth", "_stderr", "_error")  # what must not be negative


class Attributes(BaseModel):
    """Attributes of a result: those with a type of their own, and others of plain types."""

    model_config = ConfigDict(extra="allow", strict=True)
    __pydantic_extra__: dict[str, str | int | float | bool | list[str] | list[int | float | bool]]  # pyright: ignore[reportIncompatibleVariableOverride]

    kind: str | None = None
    label: str | int | None = None  # a class' number in examples over a few classes
    caption: str | None = None
    title: str | None = None
    data: str | None = None
    split: str | None = None
    versions: str | None = None
    student_sha256: str | None = None
    teacher_sha256: str | None = None
    checkpoint_sha256: str | None = None
    data_sha256: str | None = None
    samples: int | None = None


def read_dataset(path: str | os.PathLike, *, notes: list[str] | None = None) -> "xr.Dataset":
    """Read a result of `write_dataset` into memory.

    Args:
        path: the file.
        notes: gets a line for each variable that was left out because it holds no finite number, or holds some that
            are not finite, where the rest can be drawn.

    Raises: KdvizError, naming the file and the variable or attribute, for a file that is missing, damaged, larger than
        it may be, or not what its kind should hold.
    """
    found = existing(path, what="result")
    dataset = _read(found)
    try:
        return check_result(dataset, notes=notes)
    except KdvizError as error:
        raise KdvizError(f"{found}: {error}") from error


def attributes_of(path: str | os.PathLike) -> dict[str, str]:
    """The attributes of a result that are texts; none of a file that is missing or no result. Numbers are not read."""
    import h5py

    found = {}
    with suppress(OSError, RuntimeError, KeyError, ValueError), h5py.File(path, "r") as file:
        for name, value in file.attrs.items():
            if isinstance(value, str) and len(value) <= LONGEST:
                found[name] = value
    return found


def _read(path: Path) -> "xr.Dataset":
    import h5netcdf
    import h5py
    import xarray as xr

    if not hasattr(h5netcdf.File, "_writable"):  # asked for by the destructor of a file that could not be opened
        h5netcdf.File._writable = False  # pyright: ignore[reportAttributeAccessIssue]
    try:
        require(path.is_file(), "is not a regular file")
        with h5py.File(path, "r"):  # says more clearly than h5netcdf what is wrong
            pass
        # times would be decoded from any variable with such a unit, and there are none in our results
        with xr.open_dataset(path, engine="h5netcdf", decode_times=False, phony_dims="access") as dataset:
            claimed, held = dataset.nbytes, path.stat().st_size
            require(
                claimed <= RATIO * held + SLACK, f"would take {claimed} bytes of memory from a file of {held}; damaged"
            )
            return complete(dataset.load())
    except Exception as error:  # HDF5 raises whatever comes to its mind: RuntimeError, KeyError, AttributeError
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise KdvizError(f"{path}: not a kdviz result (netCDF): {said[:200]}") from error


def check_result(dataset: "xr.Dataset", *, notes: list[str] | None = None) -> "xr.Dataset":
    """The result, without variables that hold nothing to draw, once it is seen to be what its kind should hold.

    A result of no known kind is checked as far as every result can be.

    Raises: KdvizError, naming the variable or attribute at fault.
    """
    attrs = _check_attributes("", dataset.attrs)
    for name, values in dataset.variables.items():
        _check_name(name)
        _check_attributes(f"{name}: ", values.attrs)
        _check_values(str(name), values)
    kind = KINDS.get(attrs.kind or "")
    if kind is None:
        return dataset
    for name, expected in kind.variables.items():
        if name in dataset.variables:
            _check_variable(name, dataset.variables[name], expected)
        else:
            require(
                not expected.needed, f"has no {name}, which every {attrs.kind} has; was it written by another version?"
            )
    for name, (low, high) in kind.attrs.items():
        value = dataset.attrs.get(name)
        good = isinstance(value, int | float | np.number) and low <= float(value) <= high
        require(good, f"attribute {name}: expected a number from {low:g} to {high:g}, got {value!r}")
    _check_together(str(attrs.kind), dataset)
    return _drawable(dataset, kind, notes if notes is not None else []) if kind.grid else dataset


def _check_attributes(where: str, attrs: Mapping[Any, Any]) -> Attributes:
    for name in attrs:
        _check_name(name)
    try:
        return Attributes.model_validate({str(name): _plain(value) for name, value in attrs.items()})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        came = f"a {type(first['input']).__name__}"
        raise KdvizError(f"{where}attribute {first['loc'][0]}: {first['msg'].lower()}, got {came}") from error


def _plain(value: Any) -> Any:
    """NumPy's numbers and short arrays as Python's; what no attribute may hold as bytes, which are refused."""
    if isinstance(value, np.ndarray):
        return value.tolist() if value.ndim == 1 and value.size <= LONGEST else b""
    if isinstance(value, np.generic):
        return value.item()
    return b"" if isinstance(value, str) and (len(value) > LONGEST or not _is_text(value)) else value


def _is_text(value: str) -> bool:
    return "\0" not in value and not any("\ud800" <= char <= "\udfff" for char in value)


def _check_name(name: Any) -> None:
    good = isinstance(name, str) and 0 < len(name) <= 200 and name.isprintable()
    require(good, f"a variable or attribute is called {str(name)[:40]!r}; expected a short text")


def _check_values(name: str, values: "xr.Variable") -> None:
    """Numbers or texts, whatever the kind; widths of intervals are not negative."""
    if values.dtype.kind == "O":
        flat = values.values.ravel()
        good = all(isinstance(one, str) and len(one) <= LONGEST and _is_text(one) for one in flat)
        require(good, f"{name}: expected numbers or texts, got other objects")
    require(values.dtype.kind in "biufOUT", f"{name}: expected numbers or texts, got {values.dtype}")
    if name.endswith(WIDTHS) and values.dtype.kind in "if":
        require(not bool((values.values < 0).any()), f"{name}: a negative width of an interval")


def _check_variable(name: str, values: "xr.Variable", expected: Variable) -> None:
    numbers = values.dtype.kind in "biuf"
    require(numbers == (expected.type == "numbers"), f"{name}: expected {expected.type}, got {values.dtype}")
    if expected.dims is not None:
        good = sorted(map(str, values.dims)) == sorted(expected.dims)
        require(
            good, f"{name}: expected the dims ({', '.join(expected.dims)}), got ({', '.join(map(str, values.dims))})"
        )
    require(values.size >= expected.least, f"{name}: expected at least {expected.least} values, got {values.size}")
    flat = values.values.ravel()
    if expected.unique:
        require(len(set(flat.tolist())) == flat.size, f"{name}: the same value twice")
    if not numbers:
        return
    finite = np.isfinite(flat)
    count = int((~finite).sum())
    require(expected.finite != "all" or count == 0, f"{name}: {count} of {flat.size} values are not finite")
    require(expected.finite != "one" or bool(finite.any()), f"{name}: no value is finite")
    require(not expected.increasing or bool((flat[1:] > flat[:-1]).all()), f"{name}: the values do not increase")
    if finite.any():
        low, high = float(flat[finite].min()), float(flat[finite].max())
        slack = 1e-6 if math.isfinite(expected.high) else 0.0  # of rounding in float32
        good = expected.low - slack <= low and high <= expected.high + slack
        require(good, f"{name}: values {low:g} to {high:g}, expected {expected.low:g} to {expected.high:g}")


def _check_together(kind: str, dataset: "xr.Dataset") -> None:
    """What holds between the parts of a result."""
    if kind == "histogram":
        require("student" in dataset["net"].values, "net: expected 'student' among the nets")
        for space in ("logit", "probability"):
            width = dataset[space].attrs.get("width")
            good = isinstance(width, float | np.floating) and 0 < width < float("inf")
            require(good, f"{space}: attribute width must be a number above 0, got {width!r}")
            empty = (dataset[f"counts_{space}"].sum(space) == 0).values.any()
            require(not empty, f"counts_{space}: a net without counts")
    if kind in ("cases", "duels"):
        require("kl" in dataset["criterion"].values, "criterion: expected 'kl' among the criteria")
        most = int(dataset["case_label"].max()) if dataset["case_label"].size else -1
        require(most < dataset.sizes["channel"], f"case_label: class {most}, but there are {dataset.sizes['channel']}")
    if kind in ("ternary", "descent"):
        require(dataset.sizes["channel"] == 3, f"channel: expected 3 classes, got {dataset.sizes['channel']}")
    if kind == "suboptimal":
        nets, students = dataset.sizes["net"], dataset.sizes["student"]
        require(nets == students + 1, f"net: expected a teacher and {students} students, got {nets} nets")
    if kind == "tau":
        require("tau_b" in dataset["measure"].values, "measure: expected 'tau_b' among the measures")
    if kind == "trajectory":
        shares = np.atleast_1d(dataset.attrs.get("explained_variance", ()))
        good = shares.dtype.kind in "if" and shares.size == 2
        require(good, "attribute explained_variance: expected the shares of two components")
    if "trace" in dataset:
        require("trace_stderr" in dataset, "has a trace but no trace_stderr")


def _drawable(dataset: "xr.Dataset", kind: Kind, notes: list[str]) -> "xr.Dataset":
    """Without the losses that hold no finite number, each with a note; some must be left."""
    empty, left = [], []
    for name, values in dataset.data_vars.items():
        if not values.dims or not set(values.dims) <= set(kind.grid) or str(name).endswith(WIDTHS):
            continue
        require(values.dtype.kind in "biuf", f"{name}: expected numbers, got {values.dtype}")
        finite = int(np.isfinite(values.values).sum())
        (left if finite else empty).append(str(name))
        if 0 < finite < values.size:
            notes.append(f"{name}: {values.size - finite} of {values.size} values are missing or not finite")
    require(left or not empty, f"{', '.join(empty)}: no value is finite")
    require(left, "holds no numbers over " + " and ".join(name for name in kind.grid if name in dataset.dims))
    notes += [f"{name}: left out, no value is finite" for name in empty]
    gone = {f"{name}{width}" for name in empty for width in ("", *WIDTHS)}
    return dataset.drop_vars([name for name in dataset.data_vars if name in gone])
