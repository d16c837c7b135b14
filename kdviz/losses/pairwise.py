"""Sums over the pairs of channels of two rows, with their derivative, in memory O(n k).

For each row V = sum over i < j of v_ij, and dV/ds. With h half the steepness, dt = t_i - t_j, ds = s_i - s_j:
    form 1: v = tanh(h dt) tanh(h ds)      form 2: v = tanh(h dt ds)      form 3: v = sgn(dt) tanh(h ds)

A hyperbolic tangent (or a sign) is held as its chance P = (1 - tanh) / 2, which needs one sum and one division a pair:
(1 - tanh(x - y)) / 2 = v / (u + v) with u = exp(2x), v = exp(2y). With Q the teacher's and P the student's,
    X = (1 - 2Q) P      v_ij = 1 - 2Q - 2X      dv_ij/ds_i = -dv_ij/ds_j = 4h X (1 - P)      (forms 1 and 3).
Pairs are taken by their cyclic distance d: (i, i + d mod k) for d < k/2 names every pair once, d = k/2 needs the first
half of the i. A block of distances is a strided window of the row doubled: no index, no copy.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor

BLOCK = 28672  # pairs at once: what is in hand stays in a core's cache, and torch leaves so few to a single thread
ROOM = 1 << 24  # pairs at once on a device other than the CPU


class Side(NamedTuple):
    """One net's rows as windows `[n, k // 2 + 1, k]`, window d the row rotated by d, and how pairs become values."""

    windows: Tensor
    how: str  # "ratio", "logistic", "step" or "difference"


class Buffers(NamedTuple):
    """Room for a block: two values a pair, each `[samples, distances, columns + distances - 1]`.

    Pair (i, i + d) stands in column i + d, the rest is 0 and stays 0, so that a sum over the rows belongs to i + d. The
    `slant` views `[samples, distances, columns]` have it in column i.
    """

    a: Tensor
    b: Tensor
    slant_a: Tensor
    slant_b: Tensor


def side(rows: Tensor, how: str) -> Side:
    """The rows made ready; "logistic" of x becomes "ratio" of exp(x) where that is safe."""
    if how == "logistic" and rows.device.type == "cpu":  # elsewhere the look at the range would wait for the device
        low, high = rows.aminmax(dim=1, keepdim=True)
        # beyond, exp underflows and channels far below the top are told apart no more
        if bool((high - low).max() < (80.0 if rows.dtype == torch.float32 else 600.0)):
            rows, how = torch.exp(rows - high), "ratio"
    classes = rows.shape[1]
    return Side(torch.cat((rows, rows[:, : classes // 2]), 1).unfold(1, classes, 1), how)


def _sides(student: Tensor, teacher: Tensor, form: int, half: float) -> tuple[Side, Side]:
    if form == 2:
        return side(student, "difference"), side(half * teacher, "difference")
    by_student = side(2 * half * student, "logistic")
    return by_student, side(teacher, "step") if form == 3 else side(2 * half * teacher, "logistic")


def _distances(k: int, many: int) -> Iterator[tuple[int, int, int]]:
    """(first, number, columns): pairs (i, i + d), d from first on, i below columns; together every pair once."""
    most = (k - 1) // 2
    for first in range(1, most + 1, many):
        yield first, min(many, most + 1 - first), k
    if k % 2 == 0:
        yield k // 2, 1, k // 2


def _buffers(like: Tensor, shape: tuple[int, int, int]) -> Buffers:
    samples, distances, columns = shape
    width = columns + distances - 1
    a, b = (like.new_zeros(samples, distances, width) for _ in range(2))
    slants = (each.as_strided(shape, (distances * width, width + 1, 1)) for each in (a, b))
    return Buffers(a, b, *slants)


def _fill(out: Tensor, here: Tensor, there: Tensor, how: str) -> None:
    """out = the value of each pair of a block."""
    if how == "ratio":
        torch.div(there, torch.add(here, there, out=out), out=out)
    elif how == "difference":
        torch.sub(here, there, out=out)
    elif how == "logistic":
        torch.sub(there, here, out=out).sigmoid_()
    else:
        torch.heaviside(torch.sub(there, here, out=out), out.new_tensor(0.5), out=out)


def _concord(a: Tensor, b: Tensor, form: int, gradient: bool) -> Tensor:
    """From the pairs of teacher (a) and student (b) to the terms of the derivative, over 4h, in a.

    Returns: sums `[r]`; V is their sum in form 2, in the others the number of pairs minus twice their sum.
    """
    if form == 2:
        b.mul_(a).tanh_()
        sums = b.sum((1, 2))
        if gradient:
            torch.addcmul(a, a, b.mul_(b), value=-1, out=a)
        return sums
    sums = a.sum((1, 2))
    torch.addcmul(b, b, a, value=-2, out=a)
    sums += a.sum((1, 2))
    if gradient:
        torch.addcmul(a, a, b, value=-1, out=a)
    return sums


def _some(
    by_student: Side, by_teacher: Side, form: int, many: int, gradient: bool, held: dict[tuple[int, int, int], Buffers]
) -> tuple[Tensor, Tensor]:
    """V `[r]` of some samples and its derivative `[r, k]`, over 4h; held keeps the buffers for the next ones."""
    (s, s_how), (t, t_how) = by_student, by_teacher
    samples, turns, k = s.shape
    value, slope = s.new_zeros(samples), s.new_zeros(samples, k + turns - 1 if gradient else 0)
    for first, number, columns in _distances(k, many):
        shape = (samples, number, columns)
        if shape not in held:
            held[shape] = _buffers(s, shape)
        a, b, slant_a, slant_b = held[shape]
        if columns < k:
            s, t = s[:, :, :columns], t[:, :, :columns]
        _fill(slant_a, t.narrow(1, 0, 1), t.narrow(1, first, number), t_how)
        _fill(slant_b, s.narrow(1, 0, 1), s.narrow(1, first, number), s_how)
        sums = _concord(a, b, form, gradient)
        value += sums if form == 2 else number * columns - 2 * sums
        if gradient:
            slope.narrow(1, 0, columns).add_(slant_a.sum(1))
            slope.narrow(1, first, columns + number - 1).sub_(a.sum(1))
    slope[:, : turns - 1] += slope[:, k:]
    return value, slope[:, :k]


def blocked(
    student: Tensor, teacher: Tensor, form: int, half: float, *, gradient: bool = True, pairs: int | None = None
) -> tuple[Tensor, Tensor]:
    """V `[n]` and dV/ds `[n, k]` (`[n, 0]` without `gradient`).

    On the CPU the samples are shared among up to four threads, within torch's own limit; a sample's numbers do not
    depend on it.

    Args:
        student, teacher: `[n, k]`, float32 or float64, k >= 2.
        form: 1, 2 or 3.
        half: half the steepness.
        gradient: whether the derivative is wanted.
        pairs: how many at once.
    """
    (n, k), on_cpu = student.shape, student.device.type == "cpu"
    workers = min(torch.get_num_threads(), 4, n) if on_cpu and n * k * k > 1 << 21 else 1
    pairs = pairs or (BLOCK * (2 if torch.get_num_threads() == 1 else 1) if on_cpu else ROOM)
    many = min(max(pairs // k, 1), k // 8 + 1)  # a block is wider than its pairs by this
    few = max(pairs // (k * many), 1)
    both = _sides(student, teacher, form, half)

    @torch.no_grad()  # a new thread starts with the gradient on
    def part(samples: range) -> list[tuple[Tensor, Tensor]]:
        held: dict[tuple[int, int, int], Buffers] = {}
        cuts = [slice(start, min(start + few, samples.stop)) for start in samples[::few]]
        sides = ([Side(each.windows[cut], each.how) for each in both] for cut in cuts)
        return [_some(s, t, form, many, gradient, held) for s, t in sides]

    shares = [range(n * worker // workers, n * (worker + 1) // workers) for worker in range(workers)]
    if workers > 1:
        with ThreadPoolExecutor(workers) as pool:
            parts = list(pool.map(part, shares))
    else:
        parts = [part(shares[0])]
    value, slope = (torch.cat(each) for each in zip(*(pair for some in parts for pair in some), strict=True))
    return value, slope if form == 2 or not gradient else 4 * half * slope


def textbook(student: Tensor, teacher: Tensor, form: int, half: float) -> tuple[Tensor, Tensor]:
    """V `[n]` and dV/ds `[n, k]` by the formula, with every pair there at once; differentiable, and easy to fuse."""
    ds = student[:, :, None] - student[:, None, :]
    dt = teacher[:, :, None] - teacher[:, None, :]
    if form == 2:
        a, b = half * dt, torch.tanh(half * dt * ds)
        return b.sum(2).sum(1) / 2, (a * (1 - b * b)).sum(2)
    a, b = torch.sign(dt) if form == 3 else torch.tanh(half * dt), torch.tanh(half * ds)
    return (a * b).sum(2).sum(1) / 2, half * (a * (1 - b * b)).sum(2)
