"""Accuracy tables: the printed numbers as data, the commands that would run each cell, a user's runs beside them."""

import re
import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from kdviz.base.check import KdvizError, unknown
from kdviz.papers.entry import Claim, Entry, Inputs, Results

if TYPE_CHECKING:
    import xarray as xr

    from kdviz.checkpoints import Checkpoint


@dataclass(frozen=True)
class Column:
    """A column: a label, or the pair of nets and the recipe that would run it."""

    label: str = ""
    teacher: str | None = None
    student: str | None = None
    recipe: str | None = None
    set: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The label, or "teacher > student"."""
        return self.label or f"{self.teacher} > {self.student}"


@dataclass(frozen=True)
class Row:
    """A row: its printed values, and the method and settings that kdviz would train it by (None: it cannot)."""

    name: str
    values: tuple[float, ...]
    method: str | None = None
    set: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """A printed table; values in per cent, as printed."""

    title: str
    metric: str
    data: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    def row(self, name: str) -> Row:
        """The row called `name`; KdvizError with a close match otherwise."""
        found = {row.name: row for row in self.rows}
        if name not in found:
            raise unknown("row", name, found)
        return found[name]


@cache
def tables(paper: str) -> dict[str, Table]:
    """Every table of kdviz/papers/published/<paper>.toml.

    >>> tables("rkkd")["tab7"].row("gamma 0.9").values
    (74.74, 74.49, 76.58, 70.45)
    """
    content = (resources.files("kdviz.papers") / "published" / f"{paper}.toml").read_text(encoding="utf-8")
    return {name: _table(f"{paper} {name}", entry) for name, entry in tomllib.loads(content).items()}


def _table(where: str, entry: dict[str, Any]) -> Table:
    columns = tuple(Column(**column) for column in entry.pop("columns"))
    rows = tuple(Row(**{**row, "values": tuple(row["values"])}) for row in entry.pop("rows"))
    if any(len(row.values) != len(columns) for row in rows):
        raise KdvizError(f"{where}: a row has not {len(columns)} values")
    return Table(columns=columns, rows=rows, **entry)


def command(row: Row, column: Column) -> str | None:
    """The `kdviz train` line of one cell, or None where kdviz has no recipe, net or method for it.

    >>> table = tables("rkkd")["tab7"]
    >>> print(command(table.row("gamma 2"), table.columns[0]))
    kdviz train rkkd-cifar100 --method kd+rk --student resnet8x4 --teacher resnet32x4.pt --set rank_kendall.weight=2.0
    """
    if row.method is None or column.recipe is None or column.student is None:
        return None
    words = ["kdviz", "train", column.recipe, "--method", row.method, "--student", column.student]
    if row.method != "ce":
        words += ["--teacher", f"{column.teacher}.pt"]
        for key, value in {**column.set, **row.set}.items():
            words += ["--set", f"{key}={value}"]
    return shlex.join(words)


def misfits(checkpoint: "Checkpoint", table: Table, row: Row, column: Column) -> list[str]:
    """Why a finished run is not the cell (row, column); empty where it is."""
    taught = (checkpoint.teacher or {}).get("name")
    settings = checkpoint.recipe.get("settings", {})
    wanted = {} if row.method == "ce" else {**column.set, **row.set}
    facts = [
        ("data", checkpoint.data, table.data),
        ("student", checkpoint.name, column.student),
        ("method", checkpoint.method, row.method),
        *([("teacher", taught, column.teacher)] if row.method != "ce" else []),
        *((key, settings.get(key), value) for key, value in wanted.items()),
    ]
    return [f"{what} is {got}, not {want}" for what, got, want in facts if got != want]


def top1(checkpoint: "Checkpoint") -> float:
    """Top-1 of the run's last epoch on the test split, per cent. Raises KdvizError where the file does not say."""
    found = checkpoint.metrics.get("last", {}).get("top1")
    if found is None:
        raise KdvizError(f"{checkpoint.path}: holds no test top-1; was the run finished? the same command resumes it")
    return 100 * found


def compute(table: Table, inputs: Inputs) -> Results:
    """Result "table": published values and the mean of the measured ones, per cent, dims row and column.

    Runs that are no cell of the table are told in attrs["apart"], one a line, with what does not fit.
    """
    import xarray as xr

    published = np.array([row.values for row in table.rows])
    sums, counts = np.zeros_like(published), np.zeros(published.shape, dtype=int)
    apart = []
    for name, checkpoint in inputs.runs:
        row = table.row(name)
        reasons = [misfits(checkpoint, table, row, column) for column in table.columns]
        nearest = min(reasons, key=len)
        if nearest:
            apart.append(f"{name}: {checkpoint.path}: top-1 {top1(checkpoint):.2f} %; {', '.join(nearest)}")
            continue
        cell = table.rows.index(row), reasons.index(nearest)
        sums[cell] += top1(checkpoint)
        counts[cell] += 1
    dims = ("row", "column")
    measured = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    variables = {"published": (dims, published), "measured": (dims, measured), "runs": (dims, counts)}
    coords = {"row": [row.name for row in table.rows], "column": [column.name for column in table.columns]}
    attrs = {"kind": "table", "metric": table.metric, "data": table.data, "apart": "\n".join(apart)}
    return {"table": xr.Dataset(variables, coords, attrs)}


def declare(paper: str, source: str, claims: Mapping[str, tuple[Claim, ...]]) -> list[Entry]:
    """An Entry for every table of a paper."""
    return [
        Entry(
            name=name,
            title=table.title,
            source=f"{source}, Table {name.removeprefix('tab')}",
            compute=lambda inputs, settings, table=table: compute(table, inputs),
            claims=claims.get(name, ()),
            choices=(
                "the numbers are the paper's, copied, not measured; a run given by --run stands beside them,"
                " last epoch, test split",
            ),
        )
        for name, table in tables(paper).items()
    ]


def plain(table: Table, result: "xr.Dataset") -> str:
    """The table for a terminal, "published" or "published (measured)", and the runs that are no cell of it."""
    cells = [
        [_cell(*pair) for pair in zip(*pairs, strict=True)]
        for pairs in zip(result["published"].to_numpy(), result["measured"].to_numpy(), strict=True)
    ]
    heads = [column.name.split(" > ") for column in table.columns]
    depth = max(map(len, heads))
    lines = [["", *(head[level] if level < len(head) else "" for head in heads)] for level in range(depth)]
    lines += [[row.name, *texts] for row, texts in zip(table.rows, cells, strict=True)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rendered = [
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines
    ]
    apart = [f"not a cell of this table: {one}" for one in result.attrs["apart"].splitlines()]
    return "\n".join([f"{table.title}; {table.metric}", *rendered, *apart])


def _cell(published: float, measured: float) -> str:
    return f"{published:.2f}" if np.isnan(measured) else f"{published:.2f} ({measured:.2f})"


def commands(table: Table, into: str) -> list[str]:
    """Every cell's command, row by row, each with a run folder of its own below `into`.

    A comment above each names the cell and the printed number.
    """
    lines = []
    for row in table.rows:
        for column, value in zip(table.columns, row.values, strict=True):
            words = command(row, column)
            if words:
                folder = re.sub(r"[^\w.+]+", "-", f"{row.name}_{column.name}")
                lines += [f"# {row.name}, {column.name}: published {value:.2f}", f"{words} -o {into}/{folder}"]
    return lines
