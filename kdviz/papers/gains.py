"""Readings of accuracy tables: who stands above whom, in the printed numbers and in those of a user's runs."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from kdviz.papers.entry import NO, YES, Measured, Results


def gains(results: Results, base: str, other: str, variable: str = "published") -> np.ndarray:
    """other - base in every column, in points; NaN where a value is missing."""
    table = results["table"][variable]
    return (table.sel(row=other) - table.sel(row=base)).to_numpy()


def above(*pairs: tuple[str, str]) -> Callable[[Results], Measured]:
    """A measurement: in how many columns each second row of `pairs` stands above the first; yes where in all."""

    def measure(results: Results) -> Measured:
        published = np.concatenate([gains(results, *pair) for pair in pairs])
        measured = np.concatenate([gains(results, *pair, "measured") for pair in pairs])
        values = _values("published", published)
        if np.isfinite(measured).any():
            values |= _values("measured", measured[np.isfinite(measured)])
        return Measured(values, YES if (published > 0).all() else NO, "agrees is about the printed numbers")

    return measure


def _values(name: str, points: np.ndarray) -> dict[str, Any]:
    return {
        f"{name} cells above": f"{int((points > 0).sum())} of {points.size}",
        f"{name} mean gain, points": round(float(points.mean()), 3),
    }


def best(rows: Sequence[str], *, expected: str) -> Callable[[Results], Measured]:
    """A measurement: which of `rows` has the highest printed mean over the columns; yes where it is `expected`."""

    def measure(results: Results) -> Measured:
        means = {row: float(results["table"]["published"].sel(row=row).mean()) for row in rows}
        winner = max(means, key=lambda row: means[row])
        return Measured(
            {row: round(mean, 3) for row, mean in means.items()},
            YES if winner == expected else NO,
            f"highest printed mean: {winner}",
        )

    return measure


def rising(rows: Sequence[str]) -> Callable[[Results], Measured]:
    """A measurement: whether the printed means over the columns rise from each of `rows` to the next."""

    def measure(results: Results) -> Measured:
        means = [float(results["table"]["published"].sel(row=row).mean()) for row in rows]
        steady = all(after > before for before, after in pairwise(means))
        return Measured({row: round(mean, 3) for row, mean in zip(rows, means, strict=True)}, YES if steady else NO)

    return measure


def peak(rows: Sequence[str], *, expected: str) -> Callable[[Results], Measured]:
    """A measurement: the column with each row's highest printed value; yes where all are `expected`."""

    def measure(results: Results) -> Measured:
        table = results["table"]["published"]
        columns = table["column"].to_numpy()
        found = {row: str(columns[table.sel(row=row).to_numpy().argmax()]) for row in rows}
        values = {f"{row} highest at": column for row, column in found.items()}
        return Measured(values, YES if set(found.values()) == {expected} else NO, "agrees is about the printed numbers")

    return measure
