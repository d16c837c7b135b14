"""What a measurement over all pairs of channels will take, said before it starts."""

import time
from collections.abc import Callable

import torch

from kdviz.base.times import duration
from kdviz.losses.pairwise import blocked

Announce = Callable[[str], None]
SURELY_SHORT = 1e9  # pairs, which no machine needs ten seconds for
TRIAL = (8, 2048)  # samples and channels, a fraction of a second
WORTH_SAYING = 10.0  # seconds


def announce_pairs(
    announce: Announce | None, what: str, samples: int, channels: int, *, rounds: int = 1, gradient: bool = True
) -> None:
    """Say how long a sum over pairs of channels will take, by a short trial of it on this machine as it is now.

    Nothing is said, nor tried, where that is surely short.

    Args:
        announce: what takes the sentence; None for nobody.
        what: the subject of the sentence.
        samples, channels: whose pairs are summed, in float64.
        rounds: how many times.
        gradient: whether the derivative is wanted too.

    >>> announce_pairs(print, "the ranking loss", 500, 100)
    """
    pairs = samples * rounds * channels * (channels - 1) / 2
    if announce is None or pairs < SURELY_SHORT:
        return
    seconds = pairs * seconds_per_pair(gradient=gradient)
    if seconds >= WORTH_SAYING:
        announce(f"{what} over {samples:,} samples of {channels:,} channels will take about {duration(seconds)}")


def seconds_per_pair(*, gradient: bool) -> float:
    """Of the ranking loss' sum in float64: the faster of two trials, of which the first warms up."""
    n, k = TRIAL
    nets = torch.randn(2, n, k, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    spent = []
    for _ in range(2):
        start = time.perf_counter()
        blocked(nets[0], nets[1], 1, 0.5, gradient=gradient)
        spent.append(time.perf_counter() - start)
    return min(spent) / (n * k * (k - 1) / 2)
