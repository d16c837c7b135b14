"""What a variable of a result means, kept beside its values as xarray attributes.

    units      "nats", "fraction", "1", ...
    long_name  what an axis calls it
    role       "loss"; "metric" (any other measured quantity); "count"; "bound" (an end of an interval);
               "half-width" (of the 95 % interval of the variable that the attribute `of` names);
               "error" (an estimated or standard error of `of`); "mark" (a place on the grid, or a value at one)
    better     "higher" where larger values are better

Whoever makes a variable writes them; geometry, figures and exports read them.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray as xr

ROLES = ("loss", "metric", "bound", "half-width", "error", "count", "mark")


def with_role(dataset: "xr.Dataset", *roles: str, dims: Sequence[str] | None = None) -> list[str]:
    """The variables of these roles, in their order; with `dims`, those over exactly these dimensions.

    >>> import xarray as xr
    >>> with_role(xr.Dataset({"ce": ((), 1.0, {"role": "loss"}), "accuracy": ((), 0.5, {"role": "metric"})}), "loss")
    ['ce']
    """
    return [
        str(name)
        for name, values in dataset.data_vars.items()
        if values.attrs.get("role") in roles and (dims is None or set(values.dims) == set(dims))
    ]


def belonging(dataset: "xr.Dataset", name: str, role: str) -> str | None:
    """The variable of that role (a half-width, an error) that belongs to the variable `name`; None without one.

    >>> import xarray as xr
    >>> belonging(xr.Dataset({"w": ((), 0.1, {"role": "half-width", "of": "ce"})}), "ce", "half-width")
    'w'
    """
    return next((one for one in with_role(dataset, role) if dataset[one].attrs.get("of") == name), None)


def half_width(name: str, attrs: dict[str, Any]) -> dict[str, Any]:
    """The attributes of the half-width of a variable with these attributes."""
    return {
        "units": attrs["units"],
        "long_name": f"half the 95 % interval of {attrs['long_name']}",
        "role": "half-width",
        "of": name,
    }


def complete(dataset: "xr.Dataset") -> "xr.Dataset":
    """A saved landscape with the roles that files of kdviz 0.1.0 did not have yet, guessed from the variables' names.

    Variables that say their role, and results of other kinds, stay as they are.
    """
    if dataset.attrs.get("kind") not in _KINDS:
        return dataset
    found = dataset.copy()
    for key, values in found.data_vars.items():
        if "role" not in values.attrs:
            guessed = _guess(str(key), str(dataset.attrs["kind"]))
            values.attrs = {"units": "1", "long_name": str(key).replace("_", " "), **guessed, **values.attrs}
    return found


_KINDS = ("landscape", "plane", "profile", "path", "trajectory", "sharpness", "comparison")
_METRICS: dict[str, dict[str, Any]] = {
    "accuracy": {"units": "fraction", "long_name": "top-1 accuracy", "better": "higher"},
    "agreement": {"units": "fraction", "long_name": "agreement with teacher", "better": "higher"},
    "kendall_tau": {"long_name": "Kendall's τ", "better": "higher"},
}


def _guess(name: str, kind: str) -> dict[str, Any]:
    for suffix, role in (("_halfwidth", "half-width"), ("_error", "error"), ("_stderr", "error")):
        if name.endswith(suffix):
            return {"role": role, "of": name.removesuffix(suffix)}
    if name.startswith(("mark_", "trajectory_")) or name == "measured":
        return {"role": "mark"}
    if name in _METRICS:
        return {"role": "metric", **_METRICS[name]}
    return {"role": "metric" if kind in ("sharpness", "comparison") and name != "loss" else "loss"}
