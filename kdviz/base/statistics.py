"""Means, spreads and paired differences of runs under several seeds: which gains are real.

Accuracies are fractions; row i of an array of hits belongs to seed i.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kdviz.base.check import require
from kdviz.base.seeds import numpy_generator

LEVEL = 0.95
YES, NO, NOT_TOLD = "yes", "no", "not told apart"  # what is said of a claim that several runs were measured for
RESAMPLES = 4000
CHUNK = 250  # resamples at a time, which bounds memory at 20 MB for 10 000 images


class Difference(NamedTuple):
    """A paired difference and how sure it is.

    Attributes:
        gain: mean over seeds of (other - base), a fraction.
        low, high: bootstrap interval of the gain over seeds and, where hits are known, test images; NaN where one seed
            and no hits leave nothing to draw.
        t_low, t_high: Student's interval of the gain over seeds; NaN for one seed.
        improvement: probability of improvement, NaN for one seed.
        seeds: how many.
        images: test images drawn, 0 where the seeds alone were.
    """

    gain: float
    low: float
    high: float
    t_low: float
    t_high: float
    improvement: float
    seeds: int
    images: int

    @property
    def clear(self) -> bool:
        """Whether the gain is outside the noise: several seeds, and both intervals lie on one side of 0."""
        bounds = np.array([self.low, self.high, self.t_low, self.t_high])
        return bool(np.isfinite(bounds).all() and (np.sign(bounds) == np.sign(self.gain)).all() and self.gain != 0)


def spread(values: Sequence[float]) -> tuple[float, float]:
    """(mean, standard deviation with n - 1); the latter is NaN for one value, both for none.

    >>> spread([1.0, 3.0])
    (2.0, 1.4142135623730951)
    """
    array = np.asarray(values, dtype=float)
    if len(array) == 0:
        return np.nan, np.nan
    return float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else np.nan


def improvement(base: Sequence[float], other: Sequence[float]) -> float:
    """Probability that a run of `other` is better than one of `base`: the share of pairs in which it is, ties half.

    P = (#{other_i > base_j} + #{other_i = base_j} / 2) / (n m), which is Mann and Whitney's U over n m.

    Source: Agarwal et al. 2021, sec. 4.3.

    >>> improvement([0.5, 0.6], [0.6, 0.7])
    0.875
    """
    require(len(base) and len(other), "improvement: needs a run of each")
    gaps = np.asarray(other, dtype=float)[:, None] - np.asarray(base, dtype=float)[None, :]
    return float(((gaps > 0) + 0.5 * (gaps == 0)).mean())


def student_interval(gaps: Sequence[float] | np.ndarray, *, level: float = LEVEL) -> tuple[float, float]:
    """Student's interval of the mean of paired differences, mean -+ t(n - 1) s / sqrt(n); NaN for one."""
    from scipy import stats  # takes half a second

    array = np.asarray(gaps, dtype=float)
    if len(array) < 2:
        return np.nan, np.nan
    reach = stats.t.ppf((1 + level) / 2, len(array) - 1) * array.std(ddof=1) / np.sqrt(len(array))
    return float(array.mean() - reach), float(array.mean() + reach)


def difference(
    base: Sequence[float],
    other: Sequence[float],
    *,
    base_hits: np.ndarray | None = None,
    other_hits: np.ndarray | None = None,
    target: np.ndarray | None = None,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference:
    """The gain of `other` over `base`, paired by seed (and by test image).

    Args:
        base, other: accuracies `[s]` under the same seeds, fractions.
        base_hits, other_hits: which of n test images each run gets right `[s, n]`; None where that is not known.
        target: classes `[n]`, within which images are drawn; None draws from all.
        level: coverage of both intervals.
        resamples: draws of the bootstrap.
        seed: of the draws.
    Raises: KdvizError when the numbers of seeds or images differ.
    """
    require(len(base) == len(other) > 0, f"difference: {len(base)} runs against {len(other)}; they are paired by seed")
    gaps = np.asarray(other, dtype=float) - np.asarray(base, dtype=float)
    images = 0
    if base_hits is not None and other_hits is not None:
        require(
            base_hits.shape == other_hits.shape and len(base_hits) == len(gaps),
            f"difference: hits are {base_hits.shape} and {other_hits.shape} for {len(gaps)} seeds",
        )
        images = base_hits.shape[1]
        paired = other_hits.astype(np.float32) - base_hits.astype(np.float32)
        draws = _draws(paired, target, resamples, seed)
    else:
        draws = _draws(gaps[:, None], None, resamples, seed) if len(gaps) > 1 else np.array([np.nan])
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Difference(
        float(gaps.mean()),
        float(low),
        float(high),
        *student_interval(gaps, level=level),
        improvement(base, other) if len(gaps) > 1 else np.nan,
        len(gaps),
        images,
    )


def _draws(gaps: np.ndarray, target: np.ndarray | None, resamples: int, seed: int) -> np.ndarray:
    """Resampled means `[resamples]` of gaps `[s, n]`: seeds with replacement, and images with replacement within their
    class, independently.

    The seeds' means are moved away from their mean by sqrt(s / (s - 1)) first, so that the variance of the drawn means
    is s^2 / s with the unbiased s^2; without it three seeds would look a fifth surer than they are.

    Source: Efron and Tibshirani 1993 (two-sample and stratified bootstrap); the factor: Davison and Hinkley 1997,
        sec. 2.7.2. Differs from: scipy.stats.bootstrap draws along one axis only and has no such factor.
    """
    seeds, images = gaps.shape
    generator = numpy_generator(seed, "tables")
    if seeds > 1:
        means = gaps.mean(1, keepdims=True)
        gaps = gaps + (np.sqrt(seeds / (seeds - 1)) - 1) * (means - means.mean())
    strata = [np.arange(images)] if target is None else [np.flatnonzero(target == one) for one in np.unique(target)]
    found = []
    for start in range(0, resamples, CHUNK):
        count = min(CHUNK, resamples - start)
        chosen = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=count) / seeds
        weights = np.ones((count, images), dtype=np.float32)
        for stratum in strata if images > 1 else ():
            share = np.full(len(stratum), 1 / len(stratum))
            weights[:, stratum] = generator.multinomial(len(stratum), share, size=count)
        found.append((chosen * (weights @ gaps.T.astype(np.float64) / images)).sum(1))
    return np.concatenate(found)


def over_columns(gaps: Sequence[Sequence[float]], *, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0):
    """(mean, low, high) of the gain averaged over columns, seeds drawn within each column.

    Args:
        gaps: per column, the paired differences of its seeds, fractions; columns without any are left out.
        level, resamples, seed: as in `difference`.
    Returns: NaN bounds where no column has two seeds.
    """
    kept = [np.asarray(one, dtype=float) for one in gaps if len(one)]
    if not kept:
        return np.nan, np.nan, np.nan
    mean = float(np.mean([one.mean() for one in kept]))
    if all(len(one) < 2 for one in kept):
        return mean, np.nan, np.nan
    draws = [_draws(one[:, None], None, resamples, seed + place) for place, one in enumerate(kept)]
    low, high = np.quantile(np.mean(draws, axis=0), [(1 - level) / 2, (1 + level) / 2])
    return mean, float(low), float(high)


def told(gaps: Sequence[np.ndarray]) -> str:
    """Whether differences are above 0, each by Student's 95 % interval: "yes" where all are, "no" where one is below.

    Args:
        gaps: differences `[s]` over seeds, one array for each comparison; the comparisons are not corrected for their
            number.
    Returns: "not told apart" where neither holds, "" where there is no comparison.

    >>> told([np.array([1.0, 1.1, 0.9]), np.array([-1.0, 1.0, 0.5])])
    'not told apart'
    """
    bounds = [student_interval(one) for one in gaps]
    if not bounds:
        return ""
    if any(high < 0 for _, high in bounds):
        return NO
    return YES if all(low > 0 for low, _ in bounds) else NOT_TOLD
