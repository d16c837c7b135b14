"""Kendall's tau of many rows against a loop over scipy's, one run: `python benchmarks/kendall.py`.

Prints, per size and with ties or without, seconds, their ratio and the largest difference; then the extra memory that
50 000 rows of 1000 take (the process's peak beyond its inputs).
"""

import resource
import time

import numpy as np
import torch
from scipy.stats import kendalltau

from kdviz.metrics import kendall_tau

SIZES = ((10_000, 100), (2_000, 1_000))


def rows(n: int, k: int, *, ties: bool) -> tuple[np.ndarray, np.ndarray]:
    """Teacher-like rows and noisy copies of them; rounded to tenths for ties."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal((n, k))
    y = x + generator.standard_normal((n, k))
    return (x.round(1), y.round(1)) if ties else (x, y)


def timed(function) -> tuple[float, np.ndarray]:
    """Seconds and result of one call."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, np.asarray(result)


def compare(n: int, k: int, *, ties: bool) -> None:
    """One line of the table."""
    x, y = rows(n, k, ties=ties)
    kendall_tau(torch.from_numpy(x[:200]), torch.from_numpy(y[:200]))
    ours, taus = timed(lambda: kendall_tau(torch.from_numpy(x), torch.from_numpy(y)))
    scipys, expected = timed(lambda: [kendalltau(a, b).statistic for a, b in zip(x, y, strict=True)])
    difference = np.abs(taus - expected).max()
    name = f"{n:>7} x {k:<5} {'ties' if ties else '-':<5}"
    print(f"{name} {ours:8.3f} s {scipys:8.3f} s {scipys / ours:7.1f} x {difference:9.1e}")


def memory(n: int = 50_000, k: int = 1_000) -> None:
    """Seconds and peak memory beyond the inputs."""
    x = torch.randn(n, k, generator=torch.Generator().manual_seed(0))
    y = x + 1
    y[:, ::2] = 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds, _ = timed(lambda: kendall_tau(x, y))
    extra = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(
        f"{n:>7} x {k:<5} float32: {seconds:.2f} s, {extra:.0f} MiB beyond the {2 * x.nbytes / 2**20:.0f} MiB of inputs"
    )


if __name__ == "__main__":
    print(f"{'rows':<15} {'':<5} {'kdviz':>10} {'scipy':>10} {'ratio':>9} {'difference':>9}")
    for size in SIZES:
        for tied in (False, True):
            compare(*size, ties=tied)
    memory()
