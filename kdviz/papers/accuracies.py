"""Figures of accuracy tables: the printed numbers in one panel, what `kdviz table` measured in the next."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from kdviz.base.check import KdvizError
from kdviz.base.results import read_dataset
from kdviz.papers import published
from kdviz.papers.entry import Inputs, Results

if TYPE_CHECKING:
    import xarray as xr

# The table of a name, dims row and column: value, std, and by_seed where it was measured; None where there is none.
Get = Callable[[str], "xr.Dataset | None"]
CHOICE = (
    "printed numbers are the paper's, copied, not measured; measured ones are of `kdviz table` and stand in panels of"
    " their own, mean and standard deviation over seeds, last epoch, test split; the scale is said in each panel"
)


class NothingMeasured(KdvizError):
    """A figure of which the paper prints no numbers, and none are measured yet."""


def printed(paper: str, name: str) -> "xr.Dataset | None":
    """A table's printed accuracies, per cent; None where the paper prints none of them."""
    import xarray as xr

    table = published.tables(paper)[name]
    values = np.array([row.values for row in table.rows])
    if np.isnan(values).all():
        return None
    coords = {"row": [row.name for row in table.rows], "column": [column.name for column in table.columns]}
    attrs = {"title": f"printed: {table.title}", "metric": table.metric, "data": table.data}
    dims = ("row", "column")
    return xr.Dataset({"value": (dims, values), "std": (dims, np.full(values.shape, np.nan))}, coords, attrs)


def measured(inputs: Inputs, paper: str, name: str) -> "xr.Dataset | None":
    """What `kdviz table` measured of a table, at full scale if that is there, else at the small one, per cent.

    The columns without any run are left out. Raises KdvizError for a file that is no such result.
    """
    found = table_result(inputs, paper, name)
    if found is None:
        return None
    shown = found.isel(column=found["measured"].notnull().any("row").to_numpy())
    if not shown.sizes["column"]:
        return None
    scale = str(found.attrs["title"]).rpartition(": ")[2] if found.attrs["scale"] == "small" else found.attrs["data"]
    chosen = shown[["measured", "std", "last_by_seed"]].rename(measured="value", last_by_seed="by_seed")
    kept = {key: found.attrs[key] for key in ("metric", "data", "scale", "note")}
    return chosen.assign_attrs({**kept, "title": f"measured: {scale}"})


def table_result(inputs: Inputs, paper: str, name: str) -> "xr.Dataset | None":
    """The result of `kdviz table PAPER NAME`, at full scale if that is there, else at the small one."""
    if inputs.tables is None:
        return None
    for folder in (f"{paper}_{name}", f"{paper}_{name}_small"):
        path = inputs.tables / folder / "table.nc"
        if path.is_file():
            result = read_dataset(path)
            if result.attrs.get("kind") != "table" or "last_by_seed" not in result:
                raise KdvizError(f"{path}: is no result of kdviz table")
            return result
    return None


def panels(inputs: Inputs, paper: str, name: str, build: Callable[[Get], Mapping[str, "xr.Dataset"]]) -> Results:
    """Results "printed_NAME" and "measured_NAME" of kind "accuracies", one a panel.

    Args:
        inputs: says where measured tables are.
        paper, name: "pld", "fig1a".
        build: (table of a name) -> panels by name; called once with the printed tables and once with the measured.
    Raises: NothingMeasured where there is neither a printed number nor a measured one.
    """
    ways: dict[str, Get] = {"printed": partial(printed, paper), "measured": partial(measured, inputs, paper)}
    found = {
        f"{source}_{key}": panel.assign_attrs(kind="accuracies", source=source)
        for source, get in ways.items()
        for key, panel in build(get).items()
    }
    if not found:
        raise NothingMeasured(
            f"{paper} {name}: the paper prints no numbers of it, and none are measured yet; run"
            f" kdviz table {paper} {name} --scale small, or name the folder of its result with --tables"
        )
    return found


def rows_of(table: "xr.Dataset | None", rows: Sequence[str], xlabel: str) -> "xr.Dataset | None":
    """A panel with some of a table's rows; None where the table has none of them measured."""
    if table is None:
        return None
    chosen = table.sel(row=list(rows))
    if bool(chosen["value"].isnull().all()):
        return None
    return chosen.assign_attrs(xlabel=xlabel)
