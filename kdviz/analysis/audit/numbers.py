"""The numbers of an audit: every one with an interval, beside its controls, with its paired difference to each."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from kdviz.analysis.attributes import meaning, naming
from kdviz.analysis.audit.opened import Audited
from kdviz.analysis.bootstrap import Bootstrap, resampled_means
from kdviz.analysis.sources import where
from kdviz.base.files import versions


class Measure(NamedTuple):
    """What a number is.

    Attributes:
        title: in tables and figures.
        unit: "1", "fraction", "nats", "logit", ...
    """

    title: str
    unit: str = "1"


@dataclass(frozen=True, eq=False)
class Sampled:
    """A number as a function of means over samples.

    Attributes:
        columns: [n, m], what is averaged over the samples.
        statistic: of means [r, m], the number of each row, [r].
        biased: whether chance alone moves the number up, as it does every mean of sizes of differences: its interval is
            the basic one, which takes that off.
    """

    columns: np.ndarray
    statistic: Callable[[np.ndarray], np.ndarray]
    biased: bool = False


def mean_of(values: Any) -> Sampled:
    """The mean of [n] values; NaN are left out."""
    values = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(values)
    return Sampled(np.stack([np.where(known, values, 0.0), known], axis=1), _ratio)


def ratio_of(above: Any, below: Any) -> Sampled:
    """The mean of [n] values over that of others, such as a share among some of the samples."""
    return Sampled(np.stack([np.asarray(above, np.float64), np.asarray(below, np.float64)], axis=1), _ratio)


def correlation_of(x: Any, y: Any) -> Sampled:
    """Pearson's correlation of [n] pairs."""
    a, b = (np.asarray(one, np.float64) - np.mean(one) for one in (x, y))
    return Sampled(np.stack([a, b, a * a, b * b, a * b], axis=1), _correlation)


def _ratio(means: np.ndarray) -> np.ndarray:
    return np.divide(means[:, 0], means[:, 1], out=np.full(len(means), np.nan), where=means[:, 1] > 0)


def _correlation(means: np.ndarray) -> np.ndarray:
    a, b, aa, bb, ab = means.T
    spread = np.sqrt(np.maximum(aa - a * a, 0) * np.maximum(bb - b * b, 0))
    return np.divide(ab - a * b, spread, out=np.full(len(means), np.nan), where=spread > 0)


class Estimate(NamedTuple):
    """A number and the ends of its interval, which are NaN where there is none."""

    value: float
    low: float = np.nan
    high: float = np.nan


NONE = Estimate(np.nan)
Numbers = Mapping[str, Mapping[str, Estimate]]  # measure -> column -> number


def bootstrapped(values: Mapping[str, Mapping[str, Sampled]], bootstrap: Bootstrap) -> tuple[Numbers, Numbers]:
    """Every number with its interval, and the student's minus each column's, over the same draws of samples.

    Args:
        values: measure -> column -> how the number comes from the samples; each of the same samples.
        bootstrap: coverage, draws and their seed.
    """
    flat = [one for columns in values.values() for one in columns.values()]
    stops = np.cumsum([one.columns.shape[1] for one in flat])
    whole = np.concatenate([one.columns for one in flat], axis=1)
    means = np.concatenate([whole.mean(axis=0, keepdims=True), resampled_means(whole, bootstrap)])
    drawn = iter(np.split(means, stops[:-1], axis=1))
    found: dict[str, dict[str, Estimate]] = {}
    differences: dict[str, dict[str, Estimate]] = {}
    for measure, columns in values.items():
        draws = {name: one.statistic(next(drawn)) for name, one in columns.items()}
        biased = any(one.biased for one in columns.values())
        ends = partial(_percentiles, level=bootstrap.level, basic=biased)
        found[measure] = {name: ends(one) for name, one in draws.items()}
        if "student" in draws:
            others = {name: one for name, one in draws.items() if name != "student"}
            differences[measure] = {name: ends(draws["student"] - one) for name, one in others.items()}
    return found, differences


def _percentiles(draws: np.ndarray, level: float, basic: bool) -> Estimate:
    """The number, which comes first, with the percentile interval of its draws, or the basic one."""
    value, others = float(draws[0]), draws[1:][np.isfinite(draws[1:])]
    if not np.isfinite(value) or not len(others):
        return Estimate(value)
    low, high = (float(one) for one in np.quantile(others, [(1 - level) / 2, (1 + level) / 2]))
    return Estimate(value, 2 * value - high, 2 * value - low) if basic else Estimate(value, low, high)


def table(opened: Audited, measures: Mapping[str, Measure], values: Numbers, differences: Numbers) -> xr.Dataset:
    """`value` (measure, compared), `difference`, the student's minus the column's, and the ends of their intervals.

    Args:
        opened: gives the columns their titles.
        measures: what each number is, in their order.
        values, differences: as `bootstrapped`.
    """
    known = [name for name in ("teacher", "student", *opened.titles) if any(name in values[one] for one in measures)]
    columns = list(dict.fromkeys(known))
    dims, found = ("measure", "compared"), {}
    for name, numbers in (("value", values), ("difference", differences)):
        rows = [[numbers.get(one, {}).get(column, NONE) for column in columns] for one in measures]
        array = np.array(rows, dtype=float).reshape(len(measures), len(columns), 3)
        words = "value" if name == "value" else "the student's value minus this one"
        for at, (end, role) in enumerate((("", "metric"), ("_low", "bound"), ("_high", "bound"))):
            ended = {"": words, "_low": f"{words}, lower end", "_high": f"{words}, upper end"}[end]
            found[f"{name}{end}"] = (dims, array[..., at], meaning("1", ended, role))
    titles = {name: one.title for name, one in measures.items()}
    units = {name: one.unit for name, one in measures.items()}
    result = xr.Dataset(found, {"measure": list(measures), "compared": columns})
    result["measure"].attrs = naming(titles, units)
    result["compared"].attrs = opened.naming(columns)
    return result


def estimate(result: xr.Dataset, measure: str, column: str = "student", *, name: str = "value") -> Estimate:
    """A number of a result and its interval; NaN where it is not among them."""
    if measure not in result["measure"].values or column not in result["compared"].values:
        return NONE
    return Estimate(
        *(float(result[f"{name}{end}"].sel(measure=measure, compared=column)) for end in ("", "_low", "_high"))
    )


def finished(
    result: xr.Dataset, opened: Audited, kind: str, caption: str, bootstrap: Bootstrap, **settings: Any
) -> xr.Dataset:
    """The result with the attributes that say what it is and how it was made."""
    attrs = {**opened.attrs, **settings, "kind": kind, "level": bootstrap.level, "resamples": bootstrap.resamples}
    attrs |= {"seed": bootstrap.seed, "versions": json.dumps(versions())}
    over = f" Over {opened.attrs['samples']:,} samples{where(opened.attrs)}."
    bars = f" Intervals ({bootstrap.level:.0%}) cover the draw of samples, not that of a training run."
    return result.assign_attrs(attrs, caption=f"{caption}{over}{bars}")
