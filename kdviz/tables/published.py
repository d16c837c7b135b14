"""The papers' tables as declarations, at full scale and at a small one that two CPU cores train."""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from kdviz.base.check import one_of, require, unknown
from kdviz.data import DATA
from kdviz.papers import PAPERS
from kdviz.papers import published as printed
from kdviz.tables.declare import TEACHER_RECIPES, Declaration, declaration

SCALES = ("full", "small")
SMALL_DATA = ("glyphs100", "fashion-mnist")


def from_paper(paper: str, name: str, *, scale: str = "full", data: str | None = None) -> Declaration:
    """A table of a paper.

    Args:
        paper: "rkkd" or "pld".
        name: "tab2".
        scale: "full" for the paper's nets and recipe; "small" for small nets, a short recipe and a small data set.
        data: at small scale "glyphs100" (the default) or "fashion-mnist", for detectors "glyphboxes"; at full scale the
            paper's own.
    Raises: KdvizError for an unknown paper, table or scale, and for a table that has no small form.
    """
    one_of("table", SCALES, scale=scale)
    found = printed.tables(PAPERS[paper].name)
    if name not in found:
        raise unknown(f"table of {paper}", name, found)
    table = found[name]
    if scale == "small":
        return _small(paper, name, table, data)
    rows = [_row(row) for row in table.rows]
    columns = [_column(column) for column in table.columns]
    return declaration(
        {
            "name": f"{paper}_{name}",
            "title": table.title,
            "source": f"{PAPERS[paper].title}, {printed.place(name)}",
            "metric": table.metric,
            "data": data or table.data,
            "remark": f"{table.choice}." if table.choice else "",
            "axis": table.axis,
            "rows": rows,
            "columns": columns,
            "against": dict(table.against),
            "teacher_recipe": TEACHER_RECIPES[paper] if table.data == "cifar100" else None,
        },
        where=f"{paper} {name}",
    )


def _row(row: printed.Row) -> dict[str, Any]:
    found = {"name": row.name, "values": row.values, "method": row.method, "set": dict(row.set)}
    return {**found, "recipes": dict(row.recipes)} if row.recipes else found


def _column(column: printed.Column) -> dict[str, Any]:
    found = {key: getattr(column, key) for key in ("teacher", "student", "recipe", "measure", "set", "by_row")}
    return {"label": column.name, **found, "changes": dict(column.changes), "pairs": list(column.pairs)}


@cache
def small_forms() -> Mapping[str, Any]:
    """kdviz/tables/small.toml: which small pair stands for which, and tables whose printed form names no nets."""
    return tomllib.loads((resources.files("kdviz.tables") / "small.toml").read_text(encoding="utf-8"))


def _small(paper: str, name: str, table: printed.Table, asked: str | None) -> Declaration:
    forms = small_forms()
    detectors = forms["detectors"] if table.data == "coco" else {}
    choices: tuple[str, ...] = (detectors["data"],) if detectors else SMALL_DATA
    data: str = asked or choices[0]
    one_of(f"{paper} {name} at small scale", choices, data=data)
    own = forms.get(paper, {}).get(name, {})
    rows = [_row(row) for row in table.rows]
    for row in rows:
        row.pop("recipes", None)  # of the large scale
    columns, kept, stands_for = [], [], {}
    for place, column in enumerate(table.columns):
        new = own["columns"][place] if "columns" in own else _small_pair(forms["pairs"], column)
        if new is None:
            continue
        same = next((one for one in columns if _alike(one, new)), None)
        if same is None:
            columns.append({**new, "recipe": data})
            kept.append(place)
        stands_for.setdefault(new["label"], []).append(_original(column))
    require(columns, f"{paper} {name}: has no form at small scale: no small nets stand for those of its columns")
    for row in rows:
        row["values"] = tuple(row["values"][place] for place in kept)
    synthetic = " (synthetic)" if DATA[data].synthetic else ""
    choice = own.get("choice", table.choice)
    return declaration(
        {
            "name": f"{paper}_{name}_small" + ("" if data == choices[0] else f"_{data}"),
            "title": f"{table.title}: small scale, {data}{synthetic}",
            "source": f"{PAPERS[paper].title}, {printed.place(name)}",
            "metric": table.metric.replace("mean ", ""),
            "data": data,
            "scale": "small",
            "remark": f"Small scale: small nets on {data}{synthetic}, a short recipe; not the paper's setting, whose"
            f" printed numbers stand beside ours for their order alone." + (f" {choice}." if choice else ""),
            "axis": table.axis,
            "stands_for": {one["label"]: _stands_for(one, stands_for[one["label"]]) for one in columns},
            "rows": rows,
            "columns": columns,
            "against": dict(table.against),
            "changes": detectors.get("changes", {}),
            "teacher_recipe": data,
        },
        where=f"{paper} {name} at small scale",
    )


def _small_pair(pairs: Mapping[str, str], column: printed.Column) -> dict[str, Any] | None:
    """The column with the small pair in place of its own; None where none is declared."""
    to = pairs.get(f"{column.teacher} > {column.student}")
    if to is None:
        return None
    teacher, student = to.split(" > ")
    kept = {"measure": column.measure, "set": dict(column.set), "by_row": dict(column.by_row)}
    found = {"teacher": teacher, "student": student, **kept}
    return {"label": to if " > " in column.name else column.label, **found}


def _original(column: printed.Column) -> str:
    """The pair of nets that the paper names, without the library that has them."""
    if " > " in column.label or not column.student:
        return column.label
    return " > ".join(str(net).removeprefix("timm:") for net in (column.teacher, column.student))


def _stands_for(column: Mapping[str, Any], originals: list[str]) -> str:
    """The small pair, and which pairs of the paper it stands for where the columns are about pairs."""
    pair = f"{column['teacher']} > {column['student']}"
    named = [name for name in originals if name != column["label"] and "changes" not in column]
    return f"{pair} stands for {' and '.join(named)}" if named else pair


def _alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return {**one, "recipe": None} == {**other, "recipe": None}
