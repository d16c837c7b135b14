"""What a part of an audit found, in sentences that are written from its numbers and hold whatever these are."""

import json
import math
from collections.abc import Iterable

import xarray as xr

from kdviz.analysis.audit.numbers import Estimate, estimate
from kdviz.analysis.audit.opened import RANDOM, WITHOUT


def shown(number: Estimate, unit: str = "1", *, digits: int = 3) -> str:
    """A number with its interval.

    >>> shown(Estimate(0.912, 0.9, 0.9249), "fraction"), shown(Estimate(0.51, 0.5, 0.52), "nats")
    ('91.2 % [90.0, 92.5]', '0.510 nats [0.500, 0.520]')
    >>> shown(Estimate(math.nan))
    'not defined'
    """
    if math.isnan(number.value):
        return "not defined"
    digits = 1 if unit == "fraction" else digits
    value, low, high = (_figures(one, unit, digits) for one in number)
    ends = "" if math.isnan(number.low) else f" [{low}, {high}]"
    return f"{value}{_unit(unit)}{ends}"


def contrast(difference: Estimate, unit: str = "1", *, digits: int = 3) -> str:
    """How a control compares with the student, from the student's value minus the control's.

    >>> contrast(Estimate(0.05, 0.04, 0.06), "fraction")
    '5.0 points less [4.0, 6.0]'
    >>> contrast(Estimate(-0.05, -0.06, -0.04))
    '0.050 more [0.040, 0.060]'
    >>> contrast(Estimate(0.01, -0.01, 0.03))
    '0.010 less, which its interval [-0.010, 0.030] does not tell from no difference'
    >>> contrast(Estimate(0.0, 0.0, 0.0)), contrast(Estimate(math.nan))
    ('just as much', 'a difference that is not defined')
    """
    if math.isnan(difference.value):
        return "a difference that is not defined"
    if difference == Estimate(0.0, 0.0, 0.0):
        return "just as much"
    digits = 1 if unit == "fraction" else digits
    word = "less" if difference.value >= 0 else "more"
    size = _figures(abs(difference.value), unit, digits)
    unit_word = " points" if unit == "fraction" else _unit(unit)
    less, more = difference.low > 0, difference.high < 0
    if math.isnan(difference.low):
        return f"{size}{unit_word} {word}"
    low, high = difference.low, difference.high
    if less or more:
        low, high = sorted((abs(low), abs(high)))
        return f"{size}{unit_word} {word} [{_figures(low, unit, digits)}, {_figures(high, unit, digits)}]"
    ends = f"[{_figures(low, unit, digits)}, {_figures(high, unit, digits)}]"
    return f"{size}{unit_word} {word}, which its interval {ends} does not tell from no difference"


def beside(result: xr.Dataset, measure: str, columns: Iterable[str] = (WITHOUT, RANDOM), *, verb: str = "has") -> str:
    """A clause for each control that the result has: "; NAME has VALUE, CONTRAST"."""
    unit, titles = unit_of(result, measure), json.loads(result["compared"].attrs["titles"])
    clauses = []
    for column in columns:
        control = estimate(result, measure, column)
        if not math.isnan(control.value):
            difference = contrast(estimate(result, measure, column, name="difference"), unit)
            clauses.append(f"; the {titles[column]} {verb} {shown(control, unit)}, {difference}")
    return "".join(clauses)


def unit_of(result: xr.Dataset, measure: str) -> str:
    """The unit of a measure."""
    return json.loads(result["measure"].attrs["units_of"])[measure]


def value(result: xr.Dataset, measure: str, column: str = "student") -> str:
    """A measure of a column with its interval, ready to read."""
    return shown(estimate(result, measure, column), unit_of(result, measure))


def _unit(unit: str) -> str:
    return {"1": "", "fraction": " %"}.get(unit, f" {unit}")


def _figures(number: float, unit: str, digits: int) -> str:
    """The number's digits; percent of a fraction. Never "-0.0"."""
    number = 100 * number if unit == "fraction" else number
    text = f"{number:.{digits}f}" if abs(number) < 1000 else f"{number:,.0f}"
    return text.removeprefix("-") if float(text.replace(",", "")) == 0 else text
