"""The mean of a sample with a bootstrap interval."""

import numpy as np

from kdviz.base.seeds import numpy_generator

GROUPS = 256  # beyond so many values, neighbours in size are drawn together


def mean_interval(
    values: np.ndarray, *, level: float = 0.95, resamples: int = 1000, seed: int = 0
) -> tuple[float, float, float]:
    """Mean and percentile bootstrap interval of the mean: (mean, low, high).

    Args:
        values: [n], any numbers; NaN are left out.
        level: coverage in (0, 1).
        resamples: draws with replacement.
        seed: of the draws.
    Returns: three floats; the mean alone and NaN for one value; three NaN for none.
    Source: Efron (1979). Differs from it above GROUPS values: they are sorted into that many groups of almost equal
        values and groups are drawn, which narrows the interval by under a hundredth and bounds memory and time.

    >>> mean_interval(np.array([2.0, 2.0, 2.0]))
    (2.0, 2.0, 2.0)
    """
    values = np.sort(values[~np.isnan(values)].astype(np.float64))
    if len(values) < 2:
        return (float(values[0]) if len(values) else np.nan), np.nan, np.nan
    starts = np.unique(np.linspace(0, len(values), min(len(values), GROUPS), endpoint=False).astype(int))
    sizes = np.diff(starts, append=len(values))
    means = np.add.reduceat(values, starts) / sizes
    draws = numpy_generator(seed, "bootstrap").multinomial(len(values), sizes / len(values), size=resamples)
    low, high = np.quantile(draws @ means / len(values), [(1 - level) / 2, (1 + level) / 2])
    return float(values.mean()), float(low), float(high)
