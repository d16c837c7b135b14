"""The numbers behind a result's figures as tables: CSV, or what pgfplots reads."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kdviz.base.check import one_of, require
from kdviz.base.files import atomic
from kdviz.base.latex import escape

if TYPE_CHECKING:
    import xarray as xr

FORMATS = ("csv", "tex")
PIXELS = {"colour", "row", "column"}  # dims of an image, which is no number of a figure
MOST = 5_000_000  # cells of a table


class Table(NamedTuple):
    """Columns of equal length.

    Attributes:
        name: of its rows' dims: "alpha_beta"; "values" where single numbers are its columns.
        columns: by name, [rows] each, numbers or texts.
        block: how many rows belong to one value of the first dim; 0 where rows have a single dim.
    """

    name: str
    columns: dict[str, np.ndarray]
    block: int


def groups(dataset: "xr.Dataset") -> dict[str, list[str]]:
    """The variables of each table of a result, by the table's name.

    Raises: KdvizError for a result that holds nothing but images.
    """
    found: dict[str, list[str]] = {}
    for key, values in dataset.data_vars.items():
        if not PIXELS.issubset(map(str, values.dims)):
            found.setdefault("_".join(_rows(dataset, str(key))) or "values", []).append(str(key))
    require(found, "this result holds images alone, and no numbers")
    return found


def table(dataset: "xr.Dataset", name: str) -> Table:
    """All variables of a result over the same axes.

    Axes of numbers become rows. An axis of names (net, loss, panel) becomes columns, `counts_logit_teacher` beside
    `counts_logit_student`; for a variable that has no other axis its first one becomes rows.

    Args:
        dataset: the result.
        name: one of `groups`.
    Raises: KdvizError for more than 5 million cells.
    """
    names = groups(dataset)[name]
    dims = _rows(dataset, names[0])
    sizes = [dataset.sizes[dim] for dim in dims]
    cells = sum(dataset[one].size for one in names)
    require(cells <= MOST, f"{', '.join(names)}: {cells:,} numbers are more than a table of {MOST:,} holds")
    columns = _axes(dataset, dims)
    for one in names:
        columns |= _columns(dataset[one], dims)
    return Table(name, columns, int(np.prod(sizes[1:])) if len(dims) > 1 else 0)


def _is_names(dataset: "xr.Dataset", dim: str) -> bool:
    return dim in dataset.coords and dataset[dim].dtype.kind in "OUT"


def _rows(dataset: "xr.Dataset", name: str) -> tuple[str, ...]:
    dims = tuple(map(str, dataset[name].dims))
    numbers = tuple(dim for dim in dims if not _is_names(dataset, dim))
    return numbers or dims[:1]


def _axes(dataset: "xr.Dataset", dims: Sequence[str]) -> dict[str, np.ndarray]:
    """The rows' dims as columns, the last one running fastest; then coordinates that lie along one of them."""
    if not dims:
        return {}
    sizes = [dataset.sizes[dim] for dim in dims]
    places = np.indices(sizes).reshape(len(dims), -1)
    found = {}
    for dim, at in zip(dims, places, strict=True):
        found[dim] = (dataset[dim].values if dim in dataset.coords else np.arange(dataset.sizes[dim]))[at]
        for key, other in dataset.coords.items():
            if key != dim and other.dims == (dim,):
                found[str(key)] = other.values[at]
    return found


def _columns(values: "xr.DataArray", dims: Sequence[str]) -> dict[str, np.ndarray]:
    """A column of a variable for each name along its other axes."""
    others = [str(dim) for dim in values.dims if dim not in dims]
    flat = values.transpose(*dims, *others).values.reshape(-1, int(np.prod([values.sizes[dim] for dim in others])))
    labels = [""]
    for dim in others:
        labels = [f"{label}_{name}" for label in labels for name in values[dim].values.tolist()]
    return {f"{values.name}{label}": flat[:, at] for at, label in enumerate(labels)}


def text_of(table: Table, form: str) -> str:
    """A table as text.

    Args:
        table: the columns.
        form: "csv", or "tex": columns apart by spaces under a line of their names, texts in braces, a blank line
            between the scan lines of a surface, as `\\addplot table` and `\\addplot3[surf] table` of pgfplots read it.
    """
    one_of("data", FORMATS, format=form)
    rows = zip(*(_texts(column) for column in table.columns.values()), strict=True)
    if form == "csv":
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(table.columns)
        writer.writerows(rows)
        return stream.getvalue()
    lines = [" ".join(map(_word, table.columns))]
    for at, row in enumerate(rows):
        if table.block and at and at % table.block == 0:
            lines.append("")
        lines.append(" ".join(map(_word, row)))
    return "\n".join(lines) + "\n"


def _texts(column: np.ndarray) -> list[str]:
    """Each value as a text: numbers with all their digits, NaN as nan."""
    if column.dtype.kind == "b":
        return [str(int(one)) for one in column]
    return [one if isinstance(one, str) else repr(one) for one in column.tolist()]


def _word(text: str) -> str:
    """A cell or a column's name for pgfplots: without what TeX or the table's format would take for a sign of its own.

    >>> [_word(one) for one in ("0.5", "kd+rk", "a b", "50% {x}", "")]
    ['0.5', 'kd+rk', '{a b}', '{50\\\\% \\\\{x\\\\}}', '{}']
    """
    plain = text.isascii() and text.replace("_", "").replace(".", "").replace("+", "").replace("-", "").isalnum()
    return text if plain else f"{{{escape(text)}}}"


def save_tables(dataset: "xr.Dataset", stem: Path, form: str) -> list[Path]:
    """Write every table of a result as `<stem>_<axes>.<form>`; the paths.

    Args:
        dataset: the result.
        stem: folder and beginning of the files' names.
        form: "csv" or "tex".
    """
    paths = []
    for name in groups(dataset):
        path = stem.with_name(f"{stem.name}_{name}.{form}")
        with atomic(path) as partial:
            partial.write_text(text_of(table(dataset, name), form), encoding="utf-8")
        paths.append(path)
    return paths
