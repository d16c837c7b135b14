"""Readings of accuracy tables: who stands above whom, in the printed numbers and in what `kdviz table` measured.

A table's entry keeps its numbers in results "table" (printed, and a user's own runs) and "measured" (a run of
`kdviz table`); a figure keeps those of table KEY in "printed_KEY" and "measured_KEY".

What was measured agrees ("yes") where every comparison of the reading has a 95 % interval above 0, over seeds, by
Student's t; disagrees ("no") where one has its interval below 0; and is "not told apart" otherwise. The comparisons of
one reading are not corrected for their number.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from kdviz.base.statistics import NO, YES, student_interval, told
from kdviz.papers.entry import Measured, Results

if TYPE_CHECKING:
    import xarray as xr

Reading = Callable[[Results], Measured]
Gaps = list[np.ndarray]


def printed(results: Results, key: str = "") -> "xr.DataArray":
    """The printed accuracies of a table, per cent, dims row and column."""
    return results[f"printed_{key}"]["value"] if key else results["table"]["published"]


def by_seed(results: Results, key: str = "") -> "xr.DataArray | None":
    """The measured accuracies, per cent, dims row, column and seed; None where nothing was measured."""
    name, variable = (f"measured_{key}", "by_seed") if key else ("measured", "last_by_seed")
    return results[name][variable] if name in results else None


def gains(results: Results, base: str, other: str, variable: str = "published", key: str = "") -> np.ndarray:
    """other - base in every column, in points; NaN where a value is missing."""
    table = printed(results, key) if variable == "published" else results["table"][variable]
    return (table.sel(row=other) - table.sel(row=base)).to_numpy()


def above(*pairs: tuple[str, str], key: str = "") -> Reading:
    """A reading: in how many columns each second row of `pairs` stands above the first; yes where in all."""

    def measure(results: Results) -> Measured:
        published = np.concatenate([gains(results, *pair, key=key) for pair in pairs])
        values = _cells("published", published)
        if not key:
            own = np.concatenate([gains(results, *pair, "measured") for pair in pairs])
            values |= _cells("own runs", own[np.isfinite(own)]) if np.isfinite(own).any() else {}
        by_pair = [_gaps(by_seed(results, key), *pair) for pair in pairs]
        measured = [gap for gaps in by_pair for gap in gaps]
        if measured:
            values |= _cells("measured", np.array([one.mean() for one in measured]))
            values["measured cells above, outside the noise"] = _share(student_interval(one)[0] > 0 for one in measured)
        return Measured(
            values,
            YES if (published > 0).all() else NO,
            "agrees is about the printed numbers",
            _of_all(measured, complete=all(by_pair)),
        )

    return measure


def _gaps(table: "xr.DataArray | None", base: str, other: str) -> Gaps:
    """other - base under every seed that both have, for every column with any."""
    if table is None or not {base, other} <= set(map(str, table["row"].values)):
        return []
    columns = (table.sel(column=column) for column in table["column"].values)
    found = [_finite((one.sel(row=other) - one.sel(row=base)).to_numpy()) for one in columns]
    return [one for one in found if len(one)]


def _finite(gaps: np.ndarray) -> np.ndarray:
    return gaps[np.isfinite(gaps)]


def _cells(name: str, points: np.ndarray) -> dict[str, Any]:
    return {
        f"{name} cells above": f"{int((points > 0).sum())} of {points.size}",
        f"{name} mean gain, points": round(float(points.mean()), 3),
    }


def _share(truths: Any) -> str:
    found = list(truths)
    return f"{sum(found)} of {len(found)}"


def best(rows: Sequence[str], *, expected: str) -> Reading:
    """A reading: which of `rows` has the highest mean over the columns; yes where it is `expected`."""

    def measure(results: Results) -> Measured:
        means = {row: float(printed(results).sel(row=row).mean()) for row in rows}
        winner = max(means, key=lambda row: means[row])
        values, own = _means(means, results, rows)
        gaps = [own[expected] - own[row] for row in rows if row != expected and {row, expected} <= set(own)]
        here = _of_all(list(map(_finite, gaps)), complete=set(rows) <= set(own))
        return Measured(values, YES if winner == expected else NO, f"highest printed mean: {winner}", here)

    return measure


def rising(rows: Sequence[str]) -> Reading:
    """A reading: whether the means over the columns rise from each of `rows` to the next."""

    def measure(results: Results) -> Measured:
        means = {row: float(printed(results).sel(row=row).mean()) for row in rows}
        steady = all(after > before for before, after in pairwise(means.values()))
        values, own = _means(means, results, rows)
        gaps = [own[after] - own[before] for before, after in pairwise(rows) if {before, after} <= set(own)]
        here = _of_all(list(map(_finite, gaps)), complete=set(rows) <= set(own))
        return Measured(values, YES if steady else NO, here=here)

    return measure


def _means(
    published: dict[str, float], results: Results, rows: Sequence[str]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What is shown, and each row's measured mean over its columns `[seeds]`, NaN where a seed lacks a column."""
    values: dict[str, Any] = {row: round(mean, 3) for row, mean in published.items()}
    table = by_seed(results)
    if table is None:
        return values, {}
    shown = table.isel(column=table.notnull().any(("row", "seed")).to_numpy())
    known = [row for row in rows if row in shown["row"]]  # a part of the rows may have been run
    own = {row: shown.sel(row=row).mean("column", skipna=False).to_numpy() for row in known}
    own = {row: one for row, one in own.items() if np.isfinite(one).any()}
    return values | {f"measured {row}": round(float(np.nanmean(one)), 3) for row, one in own.items()}, own


def _of_all(gaps: Gaps, *, complete: bool) -> str:
    """The verdict on measured gaps; where some of the rows were not measured it can be "no" alone, else ""."""
    found = told(gaps)
    return found if complete or found == NO else ""


def peak(rows: Sequence[str], *, expected: str, key: str = "") -> Reading:
    """A reading: the column with each row's highest value; yes where all are `expected`."""

    def measure(results: Results) -> Measured:
        table, measured = printed(results, key), by_seed(results, key)
        found = {row: _highest(table.sel(row=row)) for row in rows}
        values = {f"{row} highest at": column for row, column in found.items()}
        gaps: Gaps = []
        if measured is not None and expected in measured["column"].values:
            shown = {row: measured.sel(row=row).mean("seed") for row in rows}
            values |= {f"measured {row} highest at": _highest(one) for row, one in shown.items() if one.notnull().any()}
            others = [column for column in measured["column"].values if column != expected]
            at = {row: measured.sel(row=row) for row in rows}
            apart = [at[row].sel(column=expected) - at[row].sel(column=one) for row in rows for one in others]
            gaps = [_finite(one.to_numpy()) for one in apart]
        note = "agrees is about the printed numbers"
        right = YES if set(found.values()) == {expected} else NO
        return Measured(values, right, note, told([one for one in gaps if len(one)]))

    return measure


def _highest(row: "xr.DataArray") -> str:
    """The column of a row's highest value."""
    return str(row["column"].values[int(np.nanargmax(row.to_numpy()))])
