"""The mean of a sample with a bootstrap interval."""

from dataclasses import dataclass

import numpy as np

from kdviz.base.check import require
from kdviz.base.seeds import numpy_generator

GROUPS = 256  # beyond so many values, those next to each other in size are drawn together


@dataclass(frozen=True)
class Bootstrap:
    """How intervals of means are drawn.

    Attributes:
        level: coverage, in (0, 1).
        resamples: draws with replacement, 1 or more.
        seed: of the draws.
    """

    level: float = 0.95
    resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        require(0 < self.level < 1, f"bootstrap: level must be between 0 and 1, got {self.level}")
        require(self.resamples >= 1, f"bootstrap: resamples must be 1 or more, got {self.resamples}")


INTERVALS = Bootstrap()


def mean_interval(values: np.ndarray, bootstrap: Bootstrap = INTERVALS) -> tuple[float, float, float]:
    """Mean and percentile bootstrap interval of the mean: (mean, low, high).

    Args:
        values: [n], any numbers; NaN are left out.
        bootstrap: coverage, draws and their seed.
    Returns: three floats; the mean alone and NaN for one value; three NaN for none.
    Source: Efron (1979). Differs from it above GROUPS values: they are sorted into that many groups of almost equal
        values and groups are drawn, which narrows the interval by under a hundredth and bounds memory and time.

    >>> mean_interval(np.array([2.0, 2.0, 2.0]), INTERVALS)
    (2.0, 2.0, 2.0)
    """
    values = np.sort(values[~np.isnan(values)].astype(np.float64))
    if len(values) < 2:
        return (float(values[0]) if len(values) else np.nan), np.nan, np.nan
    starts = np.unique(np.linspace(0, len(values), min(len(values), GROUPS), endpoint=False).astype(int))
    sizes = np.diff(starts, append=len(values))
    means = np.add.reduceat(values, starts) / sizes
    generator = numpy_generator(bootstrap.seed, "bootstrap")
    draws = generator.multinomial(len(values), sizes / len(values), size=bootstrap.resamples)
    ends = [(1 - bootstrap.level) / 2, (1 + bootstrap.level) / 2]
    low, high = np.quantile(draws @ means / len(values), ends)
    return float(values.mean()), float(low), float(high)
