"""What a table asks for: a cell is a method, a pair of nets, a recipe and settings, trained under several seeds."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import nan
from pathlib import Path
from typing import Any

from kdviz.base.check import KdvizError, existing, require, unknown

MEASURES = ("top1", "top5", "ap", "ap50", "ap75")
TEACHER_RECIPES = {"rkkd": "rkkd-cifar100", "pld": "pld-cifar100"}


@dataclass(frozen=True)
class Cell:
    """One number of a table.

    Attributes:
        row, column: names.
        method: as `kdviz train --method` takes it; None where kdviz cannot train the row; "teacher" is the teacher
            itself.
        student, teacher: nets.
        recipe: a bundled recipe's name or a TOML file.
        settings: of the method's terms, {"kd.temperature": 4.0}.
        changes: of the recipe, {"epochs": 15}.
        measure: of `MEASURES`, as a run's metrics name it.
        published: the printed number, in per cent; NaN where there is none.
        parts: of a cell that is a mean over pairs of nets, a cell for each pair; it names no nets itself.
    """

    row: str
    column: str
    method: str | None = None
    student: str | None = None
    teacher: str | None = None
    recipe: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    changes: Mapping[str, Any] = field(default_factory=dict)
    measure: str = "top1"
    published: float = nan
    parts: tuple["Cell", ...] = ()

    @property
    def trainable(self) -> bool:
        """Whether kdviz knows all that training it takes."""
        if self.parts:
            return all(part.trainable for part in self.parts)
        net = self.teacher if self.method == "teacher" else self.student
        return None not in (self.method, self.recipe, net)


@dataclass(frozen=True)
class Declaration:
    """A table before any run.

    Attributes:
        name: of its folder, "rkkd_tab2_small".
        title, source: what it shows and where that was printed; source is empty for a user's own.
        metric: of the numbers, with its unit.
        data: the data set that the runs train on; None: the recipes' own.
        scale: "full" or "small".
        remark: what every output has to say beside the numbers; empty where nothing.
        axis: what the columns' labels are values of, "weight of cross-entropy"; empty where they are names.
        stands_for: column -> its small pair, and what that stands for.
        rows, columns: names, in order.
        cells: (row, column) -> cell.
        against: row -> the row that its differences are taken from.
        seeds: each cell is trained under.
        teacher_recipe: what missing teachers are trained by; None: the column's recipe.
        changes: of every recipe, teachers' too, {"epochs": 1}.
        imports: modules that register the user's own methods and data sets.
    """

    name: str
    title: str
    source: str
    metric: str
    data: str | None
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: Mapping[tuple[str, str], Cell]
    against: Mapping[str, str] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    scale: str = "full"
    remark: str = ""
    axis: str = ""
    stands_for: Mapping[str, str] = field(default_factory=dict)
    teacher_recipe: str | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    imports: tuple[str, ...] = ()

    @property
    def note(self) -> str:
        """The remark, and what each column stands for, as one text."""
        columns: dict[str, list[str]] = {}
        for column, text in self.stands_for.items():
            columns.setdefault(text, []).append(column)
        pairs = "; ".join(
            text if text.startswith(f"{names[0]} stands") else f"{text} in {', '.join(names)}"
            for text, names in columns.items()
        )
        return " ".join(text for text in (self.remark, pairs and f"{pairs}.") if text)

    def only(self, rows: Sequence[str] = (), columns: Sequence[str] = ()) -> "Declaration":
        """The table cut down to some rows and columns. Raises KdvizError for one that it does not have."""
        for kind, asked, known in (("row", rows, self.rows), ("column", columns, self.columns)):
            for name in asked:
                if name not in known:
                    raise unknown(kind, name, known)
        kept_rows = tuple(name for name in self.rows if not rows or name in rows)
        kept_columns = tuple(name for name in self.columns if not columns or name in columns)
        cells = {key: cell for key, cell in self.cells.items() if key[0] in kept_rows and key[1] in kept_columns}
        against = {row: base for row, base in self.against.items() if row in kept_rows and base in kept_rows}
        stands_for = {column: text for column, text in self.stands_for.items() if column in kept_columns}
        return replace(self, rows=kept_rows, columns=kept_columns, cells=cells, against=against, stands_for=stands_for)


def differences(rows: Mapping[str, str | None]) -> dict[str, str]:
    """Which row each row is compared with, by their methods.

    A method with +rk is compared with the same without it, ce with nothing, and every other one with kd; kd itself, and
    all where there is no kd, with ce. Detectors have roi_kd and detector in their place.

    >>> differences({"Student": "ce", "KD": "kd", "DKD": "dkd", "DKD+RKKD": "dkd+rk", "gamma 2": "kd+rk"})
    {'KD': 'Student', 'DKD': 'KD', 'DKD+RKKD': 'DKD', 'gamma 2': 'KD'}
    """
    first: dict[str, str] = {}
    for row, method in rows.items():
        if method:
            first.setdefault(method, row)
    found = {}
    for row, method in rows.items():
        if method in (None, "ce", "detector", "teacher"):
            continue
        plain = method.removesuffix("+rk")
        wanted = (plain,) if plain != method else ("kd", "ce", "roi_kd", "detector")
        base = next((first[name] for name in wanted if first.get(name, row) != row), None)
        if base:
            found[row] = base
    return found


def from_file(path: Path) -> Declaration:
    """A user's own table from TOML.

    Keys: `rows` and `columns` as in the papers' files (kdviz/papers/published), of which `values` may be left out; and
    `title`, `metric`, `data`, `recipe` (for columns without one: a name, or a TOML file beside this one),
    `teacher_recipe`, `seeds` (how many, or a list), `against` (row = row), `changes` (of the recipe) and `imports`
    (modules of the user's own).

    Raises: KdvizError for a file that is not there, is no TOML, or has an unknown or missing key.
    """
    try:
        entry = tomllib.loads(existing(path, what="table").read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise KdvizError(f"{path}: not TOML: {error}") from error
    defaults = {"title": path.stem, "metric": "top-1 accuracy, %", "name": path.stem, "source": ""}
    seeds = entry.pop("seeds", 5)
    own = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    require(own and all(isinstance(seed, int) for seed in own), f"{path}: seeds must be a number or a list of numbers")
    return declaration({**defaults, **entry, "seeds": own}, where=str(path), beside=path.parent)


KEYS = ("recipe", "against", "changes", "teacher_recipe", "imports", "rows", "columns")
PASSED = ("name", "title", "source", "metric", "data", "seeds", "scale", "remark", "axis", "stands_for")
ROW = ("name", "values", "method", "set", "recipes", "changes")
COLUMN = ("label", "teacher", "student", "pairs", "recipe", "set", "changes", "by_row", "measure")
PAIR = ("teacher", "student", "recipe")


def declaration(entry: Mapping[str, Any], *, where: str, beside: Path = Path()) -> Declaration:
    """A `Declaration` from the content of a TOML table. Raises KdvizError for an unknown or missing key."""
    _known(where, "key", entry, (*KEYS, *PASSED))
    for key in ("rows", "columns"):
        require(isinstance(entry.get(key), list) and entry[key], f"{where}: needs a list of {key}")
    rows, columns = entry["rows"], [{"recipe": entry.get("recipe"), **column} for column in entry["columns"]]
    for row in rows:
        _known(where, "key of a row", row, ROW)
        require(row.get("name"), f"{where}: a row needs a name")
    for column in columns:
        _known(where, "key of a column", column, COLUMN)
        for pair in column.get("pairs", ()):
            _known(where, "key of a pair", pair, PAIR)
        if column.get("pairs"):
            require(column.get("label"), f"{where}: a column of several pairs needs a label")
        column["label"] = column.get("label") or f"{column.get('teacher')} > {column.get('student')}"
        column["pairs"] = [{**pair, **_recipe(pair, beside)} for pair in column.get("pairs", ())]
        column |= _recipe(column, beside)
    names = [row["name"] for row in rows], [column["label"] for column in columns]
    for kind, listed in zip(("row", "column"), names, strict=True):
        twice = sorted({name for name in listed if listed.count(name) > 1})
        require(not twice, f"{where}: two {kind}s are called {', '.join(twice)}")
    cells = {
        (row["name"], column["label"]): _cell(where, row, column, place)
        for row in rows
        for place, column in enumerate(columns)
    }
    against = {**differences({row["name"]: row.get("method") for row in rows}), **entry.get("against", {})}
    for name in (*against, *against.values()):
        if name not in names[0]:
            raise unknown("row in against", name, names[0])
    return Declaration(
        rows=tuple(names[0]),
        columns=tuple(names[1]),
        cells=cells,
        against=against,
        teacher_recipe=_recipe({"recipe": entry.get("teacher_recipe")}, beside).get("recipe"),
        changes=entry.get("changes", {}),
        imports=tuple(entry.get("imports", ())),
        **{"data": None, **{key: entry[key] for key in PASSED if key in entry}},
    )


def _cell(where: str, row: Mapping, column: Mapping, place: int) -> Cell:
    values = row.get("values", ())
    require(not values or len(values) > place, f"{where}: row {row['name']} has too few values")
    recipes = row.get("recipes") or ()
    if isinstance(recipes, Mapping):  # as published.Row keeps them
        recipe = recipes.get(column["label"], column["recipe"])
    else:
        recipe = recipes[place] if len(recipes) > place else column["recipe"]
    method = row.get("method")
    if method is None and row["name"].lower() == "teacher" and column.get("teacher"):
        method = "teacher"
    measure = column.get("measure", "top1")
    require(measure in MEASURES, f"{where}: measure must be one of {', '.join(MEASURES)}, got {measure!r}")
    untaught = method in ("ce", "teacher")
    settings = {} if untaught else {**column.get("set", {}), **row.get("set", {})}
    settings |= column.get("by_row", {}).get(row["name"], {})
    own = {key: value for key, value in column.items() if key != "pairs"}
    parts = tuple(_cell(where, row, {**own, **pair}, place) for pair in column.get("pairs", ()))
    return Cell(
        row=row["name"],
        column=column["label"],
        method=parts[0].method if parts else method,
        student=column.get("student"),
        teacher=column.get("teacher"),
        recipe=recipe,
        settings=settings,
        changes={**column.get("changes", {}), **row.get("changes", {})},
        measure=measure,
        published=float(values[place]) if values else nan,
        parts=parts,
    )


def _recipe(entry: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """The entry's recipe, a file's path as seen from the table's file; empty where it names none."""
    found = entry.get("recipe")
    return {"recipe": str(folder / found) if found.endswith(".toml") else found} if found else {}


def _known(where: str, kind: str, entry: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in entry:
        if key not in known:
            raise KdvizError(f"{where}: {unknown(kind, key, known)}")
