"""Kendall's tau of many rows at once, exact, with ties as scipy handles them.

On a CPU the discordant pairs of a row are the inversions of y in the order of x, which `inversions` counts in
O(k log k). Blocks of long rows are spread over threads; short ones are many operations so brief that threads would wait
for one another's turn at the interpreter. Elsewhere pairs are compared in blocks, O(k^2).
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from kdviz.base.check import one_of, require, same_shape
from kdviz.base.threads import in_threads
from kdviz.metrics.inversions import LEAF, inversions

BLOCK = 1 << 18  # numbers that a thread holds at once on the CPU
PAIRS = 1 << 25  # pairs held at once elsewhere


def kendall_tau(x: Tensor, y: Tensor, *, variant: str = "b") -> Tensor:
    """Kendall's rank correlation of each row of x with the same row of y, exact.

    With P concordant and Q discordant pairs of N = k(k-1)/2, U and V pairs tied in x and in y, m the smaller number of
    distinct values:  a: (P - Q) / N,  b: (P - Q) / sqrt((N - U)(N - V)),  c: 2 (P - Q) m / (k^2 (m - 1)).

    Args:
        x, y: [n, k] or [k], any real type; row for row on the same device.
        variant: "a", "b" or "c".
    Returns: [n] float64 in [-1, 1], [] for single rows, on the device of x. NaN where scipy gives NaN: a row with a NaN
        or fewer than two values; for b and c also a row that is constant in x or in y (a is 0 there). Infinities rank
        like any other value.
    Raises: KdvizError for shapes that differ or an unknown variant.
    Source: Kendall (1938, 1945), Stuart (1953); scipy.stats.kendalltau has b and c.

    >>> kendall_tau(torch.tensor([[1.0, 2, 3, 4]]), torch.tensor([[1.0, 3, 2, 4]]))
    tensor([0.6667], dtype=torch.float64)
    """
    one_of("kendall_tau", "abc", variant=variant)
    return kendall_taus(x, y, variants=variant)[variant]


def kendall_taus(x: Tensor, y: Tensor, *, variants: str = "abc") -> dict[str, Tensor]:
    """`kendall_tau` in several variants for little more than the time of one: variant -> [n].

    >>> taus = kendall_taus(torch.tensor([1, 1, 2]), torch.tensor([1, 2, 3]))
    >>> {variant: round(tau.item(), 4) for variant, tau in taus.items()}
    {'a': 0.6667, 'b': 0.8165, 'c': 0.8889}
    """
    same_shape("kendall_tau", x=x, y=y)
    require(x.ndim in (1, 2), f"kendall_tau: rows must be [n, k] or [k], got {tuple(x.shape)}")
    require(not (x.is_complex() or y.is_complex()), "kendall_tau: complex numbers have no order")
    rows, others = torch.atleast_2d(x.detach()), torch.atleast_2d(y.detach())
    if 0 in rows.shape or rows.shape[1] < 2:
        taus = {name: rows.new_full(rows.shape[:1], torch.nan, dtype=torch.float64) for name in variants}
    else:
        blocks = _cpu_blocks if x.device.type == "cpu" else _pair_blocks
        parts = [_ratios(variants, rows.shape[1], *counts) for counts in blocks(rows, others)]
        taus = {name: torch.cat([part[name] for part in parts]) for name in variants}
    return taus if x.ndim == 2 else {name: tau[0] for name, tau in taus.items()}


def _ratios(variants: str, k: int, undefined: Tensor, *counts: Tensor) -> dict[str, Tensor]:
    return {name: _ratio(name, k, *counts).masked_fill(undefined, torch.nan) for name in variants}


def _ratio(variant: str, k: int, surplus: Tensor, untied_x: Tensor, untied_y: Tensor, distinct: Tensor) -> Tensor:
    """tau from P - Q, N - U, N - V and the smaller number of distinct values, each [n]."""
    if variant == "a":
        return surplus.double() / (k * (k - 1) // 2)
    if variant == "b":
        tau = surplus / (untied_x.double() * untied_y).sqrt()  # one root: equal rows give 1 exactly
    else:
        tau = 2 * surplus / (k**2 * (distinct - 1).double() / distinct)
    return torch.where((untied_x > 0) & (untied_y > 0), tau.clamp(-1, 1), torch.nan)


def _pair_blocks(x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Rows with a NaN, and `_counts` by comparing all pairs, PAIRS at once; both orders are seen, hence the halves."""
    k = x.shape[1]
    strip = max(1, min(k, PAIRS // k))
    step = max(1, PAIRS // (k * strip))
    for start in range(0, len(x), step):
        a, b = x[start : start + step], y[start : start + step]
        counts = torch.zeros(3, len(a), dtype=torch.int64, device=x.device)
        for low in range(0, k, strip):
            sign_a, sign_b = _signs(a, low, strip), _signs(b, low, strip)
            for count, signs in zip(counts, (sign_a * sign_b, sign_a.abs(), sign_b.abs()), strict=True):
                count += signs.sum((1, 2), dtype=torch.int64)
        distinct = [rows.sort(dim=1).values.diff(dim=1).ne(0).sum(1) + 1 for rows in (a, b)]
        yield a.isnan().any(1) | b.isnan().any(1), *(counts // 2), torch.minimum(*distinct)


def _signs(rows: Tensor, low: int, strip: int) -> Tensor:
    """Signs of rows[:, i] - rows[:, j], i in [low, low + strip), without the subtraction that inf - inf spoils."""
    left, right = rows[:, low : low + strip, None], rows[:, None, :]
    return (left > right).to(torch.int8) - (left < right).to(torch.int8)  # [n, strip, k]


def _cpu_blocks(x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Rows with a NaN, and `_counts`, of blocks of rows, which threads take in turn where that pays."""
    step = max(1, BLOCK // x.shape[1])
    cuts = list(zip(x.split(step), y.split(step), strict=True))

    def work(cut: tuple[Tensor, Tensor]) -> tuple[np.ndarray, ...]:
        a, b = map(_array, cut)
        return np.logical_or(np.isnan(a).any(axis=1), np.isnan(b).any(axis=1)), *_counts(a, b)

    for found in in_threads(work, cuts, None if x.shape[1] > LEAF else 1):
        yield tuple(map(torch.from_numpy, found))


def _array(rows: Tensor) -> np.ndarray:
    """numpy knows no bfloat16; float32 holds each of its values."""
    return (rows.float() if rows.dtype == torch.bfloat16 else rows).numpy()


def _counts(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, ...]:
    """P - Q, N - U, N - V and the smaller number of distinct values of each row of [n, k]."""
    k = x.shape[1]
    total = k * (k - 1) // 2
    rank_x, tied_x, distinct_x = _dense_ranks(x)
    rank_y, tied_y, distinct_y = _dense_ranks(y)
    bits = (k - 1).bit_length()
    keys = rank_x << bits | rank_y
    keys.sort(axis=1)  # by x, ties by y: then the pairs out of order in y are the discordant ones
    tied_both = _tied(_changes(keys))
    discordant = inversions(keys & ((1 << bits) - 1), k)
    surplus = total - tied_x - tied_y + tied_both - 2 * discordant
    return surplus, total - tied_x, total - tied_y, np.minimum(distinct_x, distinct_y)


def _dense_ranks(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ranks from 0 with equal ones for ties [n, k], the pairs tied [n] and the number of distinct values [n]."""
    n, k = x.shape
    order = x.argsort(axis=1)
    order += np.arange(0, n * k, k)[:, None]
    changes = _changes(x.ravel().take(order))
    wide = np.int32 if k <= 1 << 15 else np.int64  # two ranks share one integer later
    ranks = np.empty(n * k, wide)
    rising = changes.cumsum(axis=1, dtype=wide)
    ranks[order] = rising
    return ranks.reshape(n, k), _tied(changes), rising[:, -1] + 1


def _changes(rows: np.ndarray) -> np.ndarray:
    """Where a value of the sorted rows differs from the one before it; never in the first column."""
    changes = np.zeros(rows.shape, bool)
    np.not_equal(rows[:, 1:], rows[:, :-1], out=changes[:, 1:])
    return changes


def _tied(changes: np.ndarray) -> np.ndarray:
    """Pairs of equal values of each row: the sum of t (t - 1) / 2 over its runs of t equal ones."""
    pairs = np.zeros(len(changes), np.int64)
    some = np.flatnonzero(~changes[:, 1:].all(axis=1))  # most rows have no ties, if logits are float32
    starts = changes[some]
    starts[:, 0] = True
    firsts = np.flatnonzero(starts)
    lengths = np.diff(firsts, append=starts.size)
    pairs[some] = np.bincount(firsts // changes.shape[1], weights=lengths * (lengths - 1) / 2, minlength=len(some))
    return pairs
