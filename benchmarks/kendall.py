"""Kendall's tau of many rows against a loop over scipy's, one run: `python benchmarks/kendall.py`.

Prints, per size and with ties or without, the time of a row, the ratio and the largest difference, on the machine as it
is and beside a process that keeps one core busy; then the extra memory that 50 000 rows of 1000 take (the process' peak
beyond its inputs).
"""

import resource
import statistics
import time
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import torch
from load import STATES, machine, machine_state
from scipy.stats import kendalltau

from kdviz.metrics import kendall_tau

SIZES = ((10_000, 100), (2_000, 1_000), (100, 32_768))
TURNS = 5


def rows(n: int, k: int, *, ties: bool) -> tuple[np.ndarray, np.ndarray]:
    """Teacher-like rows and noisy copies of them; rounded to tenths for ties."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal((n, k))
    y = x + generator.standard_normal((n, k))
    return (x.round(1), y.round(1)) if ties else (x, y)


def timed(function: Callable[[], Any]) -> tuple[float, np.ndarray]:
    """Seconds and result of one call."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, np.asarray(result)


def compare(n: int, k: int, *, ties: bool, state: str) -> None:
    """One line of the table: medians of turns, a row's time of ours over all rows, of scipy's over a tenth of them."""
    x, y = rows(n, k, ties=ties)
    few = n // 10
    kendall_tau(torch.from_numpy(x[:few]), torch.from_numpy(y[:few]))
    spent, difference = [], 0.0
    with machine_state(state):
        for _ in range(TURNS):
            ours, taus = timed(lambda: kendall_tau(torch.from_numpy(x), torch.from_numpy(y)))
            scipys, expected = timed(
                lambda: [kendalltau(a, b).statistic for a, b in zip(x[:few], y[:few], strict=True)]
            )
            spent.append((ours / n, scipys / few))
            difference = max(difference, np.abs(taus[:few] - expected).max())
    ours, scipys = (1e6 * statistics.median(each) for each in zip(*spent, strict=True))
    name = f"{n:>7} x {k:<5} {'ties' if ties else '-':<5} {state:<14}"
    print(f"{name} {ours:9.1f} us {scipys:9.1f} us {scipys / ours:7.1f} x {difference:9.1e}")


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
    print(machine())
    print(f"{'rows':<15} {'':<5} {'machine':<14} {'kdviz':>10} {'scipy':>10} {'ratio':>9} {'difference':>9}")
    for size, tied, state in product(SIZES, (False, True), STATES):
        compare(*size, ties=tied, state=state)
    memory()
