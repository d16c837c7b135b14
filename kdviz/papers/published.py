"""Accuracy tables: the printed numbers as data, the commands that would run each cell, a user's runs beside them."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from importlib import resources
from math import nan
from typing import TYPE_CHECKING, Any

import numpy as np

from kdviz.base.check import KdvizError, unknown
from kdviz.base.measures import CALLED
from kdviz.papers.cells import command, misfits
from kdviz.papers.entry import Claim, Inputs, PaperEntry, Results

if TYPE_CHECKING:
    import xarray as xr

    from kdviz.checkpoints import Checkpoint


@dataclass(frozen=True)
class Column:
    """A column: a label, the pair of nets and the recipe that would run it.

    Attributes:
        label: "" for "teacher > student".
        teacher, student, recipe: of its cells.
        set: settings of the methods' terms.
        by_row: settings of single rows on top, by the row's name.
        changes: of the recipe.
        measure: the number shown, as a run's metrics name it.
        pairs: where the column is a mean over pairs of nets: teacher, student and recipe of each.
    """

    label: str = ""
    teacher: str | None = None
    student: str | None = None
    recipe: str | None = None
    set: Mapping[str, Any] = field(default_factory=dict)
    by_row: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    changes: Mapping[str, Any] = field(default_factory=dict)
    measure: str = "top1"
    pairs: tuple[Mapping[str, str], ...] = ()

    @property
    def name(self) -> str:
        """The label, or "teacher > student"."""
        return self.label or f"{self.teacher} > {self.student}"

    @property
    def each(self) -> tuple["Column", ...]:
        """The columns that this one is the mean of: itself, or one for each of its pairs."""
        if not self.pairs:
            return (self,)
        return tuple(replace(self, label="", pairs=(), **pair) for pair in self.pairs)


@dataclass(frozen=True)
class Row:
    """A row: its printed values, and the method and settings that kdviz would train it by (None: it cannot).

    `recipes` maps names of columns to the recipes that this row was trained with there, where they are not the
    columns' own.
    """

    name: str
    values: tuple[float, ...]  # NaN where nothing is printed
    method: str | None = None
    set: Mapping[str, Any] = field(default_factory=dict)
    recipes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """A printed table; values in per cent, as printed.

    Attributes:
        title, metric, data: what it shows, of what, on which data set.
        columns, rows: in the paper's order.
        choice: what the paper leaves open of how the cells were trained, and how it is read here; "" for nothing.
        axis: what the columns' labels are values of, "weight of cross-entropy"; "" where they are names.
        against: row -> the row that its gains are taken from, beyond the rule of `kdviz.tables.declare.differences`.
    """

    title: str
    metric: str
    data: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    choice: str = ""
    axis: str = ""
    against: Mapping[str, str] = field(default_factory=dict)

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


def place(name: str) -> str:
    """Where in a paper an entry stands.

    >>> place("tab2"), place("fig1a")
    ('Table 2', 'Fig. 1a')
    """
    return name.replace("tab", "Table ").replace("fig", "Fig. ")


def _table(where: str, entry: dict[str, Any]) -> Table:
    columns = tuple(Column(**column) for column in entry.pop("columns"))
    rows = entry.pop("rows")
    for row in rows:
        row.setdefault("values", [nan] * len(columns))
        if any(len(row[key]) != len(columns) for key in ("values", "recipes") if key in row):
            raise KdvizError(f"{where}: a row has not {len(columns)} values or recipes")
        row["values"] = tuple(row["values"])
        if "recipes" in row:
            row["recipes"] = dict(zip((column.name for column in columns), row["recipes"], strict=True))
    rows = tuple(Row(**row) for row in rows)
    return Table(columns=columns, rows=rows, **entry)


def last_score(checkpoint: "Checkpoint", measure: str = "top1") -> float:
    """Top-1, or another number, of the run's last epoch on the test split, per cent.

    Raises: KdvizError where the file does not say.
    """
    found = checkpoint.metrics.get("last", {}).get(measure)
    if found is None:
        name = CALLED.get(measure, measure)
        raise KdvizError(f"{checkpoint.path}: holds no test {name}; was the run finished? the same command resumes it")
    return 100 * found


def best_score(checkpoint: "Checkpoint", measure: str = "top1") -> float:
    """Highest test top-1, or another number, of the epochs that the run's journal scored (`kdviz train --score-every`),
    per cent; else NaN.

    The RKKD line of work reports this one; nothing here is chosen by it.
    """
    from kdviz.checkpoints.run_folder import RunFolder

    folder = RunFolder(checkpoint.path.parent)
    scored = [entry["test"][measure] for entry in folder.epochs() if measure in entry.get("test", {})]
    return 100 * max(scored) if scored and folder.last == checkpoint.path else float("nan")


def compute(table: Table, inputs: Inputs) -> Results:
    """Result "table", per cent, dims row and column: published values and the runs' means, last epoch and best epoch.

    Only a run whose whole recipe is a cell's counts there. The others are listed in attrs["unmatched"], one a line,
    each with every setting that differs from the nearest cell's.
    """
    import xarray as xr

    published = np.array([row.values for row in table.rows])
    last: dict[tuple[int, int], dict[int, list[float]]] = {}
    best: dict[tuple[int, int], dict[int, list[float]]] = {}
    counts = np.zeros(published.shape, dtype=int)
    unmatched: list[str] = []
    data_sha256 = None
    for name, checkpoint in inputs.runs:
        row = table.row(name)
        reasons = {
            (place, pair): misfits(checkpoint, table, row, column, data_sha256)
            for place, whole in enumerate(table.columns)
            for pair, column in enumerate(whole.each)
        }
        nearest = min(reasons, key=lambda where: len(reasons[where]))
        if reasons[nearest]:
            measure = table.columns[nearest[0]].measure
            shown = f"{CALLED.get(measure, measure)} {last_score(checkpoint, measure):.2f} %"
            unmatched.append(f"{name}: {checkpoint.path}: {shown}; {', '.join(reasons[nearest])}")
            continue
        data_sha256 = checkpoint.recipe["data_sha256"]
        for place, pair in (where for where, why in reasons.items() if not why):  # one run may be several numbers
            cell, measure = (table.rows.index(row), place), table.columns[place].measure
            last.setdefault(cell, {}).setdefault(pair, []).append(last_score(checkpoint, measure))
            best.setdefault(cell, {}).setdefault(pair, []).append(best_score(checkpoint, measure))
            counts[cell] += 1
    means = {"measured": _means(last, table), "best": _means(best, table)}
    variables = {name: (("row", "column"), values) for name, values in {"published": published, **means}.items()}
    coords = {"row": [row.name for row in table.rows], "column": [column.name for column in table.columns]}
    attrs = {"kind": "table", "metric": table.metric, "data": table.data, "unmatched": "\n".join(unmatched)}
    return {"table": xr.Dataset({**variables, "runs": (("row", "column"), counts)}, coords, attrs)}


def _both(paper: str, name: str, inputs: Inputs, _settings: Mapping[str, Any]) -> Results:
    """Results "table" and, where `kdviz table` has measured some of it, "measured"."""
    from kdviz.papers.accuracies import table_result

    measured = table_result(inputs, paper, name)
    return {**compute(tables(paper)[name], inputs), **({} if measured is None else {"measured": measured})}


def _means(cells: Mapping[tuple[int, int], Mapping[int, list[float]]], table: Table) -> np.ndarray:
    """Each cell's mean over its runs, of several pairs the mean of theirs; NaN where a pair has no run, or one of which
    the number is not known."""
    means = np.full((len(table.rows), len(table.columns)), np.nan)
    for cell, pairs in cells.items():
        if len(pairs) == len(table.columns[cell[1]].each):
            means[cell] = np.mean([np.mean(found) for found in pairs.values()])
    return means


def declare(paper: str, source: str, claims: Mapping[str, tuple[Claim, ...]]) -> list[PaperEntry]:
    """An PaperEntry for every table of a paper."""
    return [
        PaperEntry(
            name=name,
            title=table.title,
            source=f"{source}, {place(name)}",
            compute=partial(_both, paper, name),
            tables=True,
            claims=claims.get(name, ()),
            choices=(
                "the numbers are the paper's, copied, not measured; a run given by --run stands beside them,"
                " last epoch, test split; the best test epoch is beside it where the run scored them",
            ),
        )
        for name, table in tables(paper).items()
        if name.startswith("tab")
    ]


def plain(table: Table, result: "xr.Dataset") -> str:
    """The table for a terminal, "published" or "published (last epoch, best epoch)", and the runs that are no cell."""
    cells = [
        [_cell(*numbers) for numbers in zip(*rows, strict=True)]
        for rows in zip(*(result[name].to_numpy() for name in ("published", "measured", "best")), strict=True)
    ]
    heads = [column.name.split(" > ") for column in table.columns]
    depth = max(map(len, heads))
    lines = [["", *(head[level] if level < len(head) else "" for head in heads)] for level in range(depth)]
    lines += [[row.name, *texts] for row, texts in zip(table.rows, cells, strict=True)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rendered = [
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines
    ]
    unmatched = [f"not a cell of this table: {one}" for one in result.attrs["unmatched"].splitlines()]
    return "\n".join([f"{table.title}; {table.metric}", *rendered, *unmatched])


def _cell(published: float, measured: float, best: float) -> str:
    if np.isnan(measured):
        return f"{published:.2f}"
    return f"{published:.2f} ({measured:.2f}{'' if np.isnan(best) else f', best epoch {best:.2f}'})"


def commands(table: Table, into: str) -> list[str]:
    """Every cell's command, row by row, each with a run folder of its own below `into`.

    A comment above each names the cell and the printed number; cells of one run stand above its one command.
    """
    lines: list[str] = []
    for row in table.rows:
        before = None
        for whole, value in zip(table.columns, row.values, strict=True):
            for column in whole.each:
                words = command(row, column)
                if not words:
                    continue
                folder = re.sub(r"[^\w.+]+", "-", f"{row.name}_{column.name}")
                run = lines.pop() if words == before else f"{words} -o {into}/{folder}"
                mean = f", mean of {len(whole.each)} pairs" if whole.pairs else ""
                lines += [f"# {row.name}, {whole.name}{mean}: published {value:.2f}", run]
                before = words
    return lines
