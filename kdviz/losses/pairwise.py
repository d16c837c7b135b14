"""Sums over the pairs of channels of two rows, with their derivative, in memory O(n k).

For each row V = sum over i < j of v_ij, and dV/ds. With h half the steepness, dt = t_i - t_j, ds = s_i - s_j:
    form 1: v = tanh(h dt) tanh(h ds)      form 2: v = tanh(h dt ds)      form 3: v = sgn(dt) tanh(h ds)

A hyperbolic tangent (or a sign) is held as its chance P = (1 - tanh) / 2, which needs one sum and one division a pair:
(1 - tanh(x - y)) / 2 = v / (u + v) with u = exp(2x), v = exp(2y). With Q the teacher's and P the student's,
    X = (1 - 2Q) P      v_ij = 1 - 2Q - 2X      dv_ij/ds_i = -dv_ij/ds_j = 4h X (1 - P)      (forms 1 and 3).
Pairs are taken by their cyclic distance d: (i, i + d mod k) for d < k/2 names every pair once; d = k/2 names them twice
and counts half. The samples stand innermost, so that all pairs of one distance are one long run of memory, and a block
of distances is a strided window of the channels doubled: no index, no copy.

On a CPU the samples are cut into pieces, each of which one thread takes. How they are cut does not depend on the number
of threads, and so no digit of the sums does.
"""

import threading
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from kdviz.base.threads import in_threads
from kdviz.losses.inputs import unmixed

BLOCK = 1 << 19  # pairs at once: large against the cost of a call, small enough for the last cache
DISTANCES = 16  # at least so many at once, where k allows, before more samples are taken
PIECES = 4  # of the samples at least, so that threads have equal shares of them; fewer where a piece has under
PIECE = 1 << 16  # pairs, as one has whose blocks are too small for torch to split them
ROOM = 1 << 24  # pairs at once on a device other than the CPU


class Side(NamedTuple):
    """One net's channels as windows `[k // 2 + 1, k * samples]`, window d turned by d, and how pairs become values."""

    windows: Tensor
    how: str  # "ratio", "logistic", "step" or "difference"


class Buffers(NamedTuple):
    """Room for a block: two values a pair, each `[distances, (k + distances - 1) * samples]`.

    Pair (i, i + d) stands in column i + d, the rest is 0 and stays 0, so that a sum over the rows belongs to i + d. The
    `slant` views `[distances, k * samples]` have it in column i.
    """

    a: Tensor
    b: Tensor
    slant_a: Tensor
    slant_b: Tensor


def side(rows: Tensor, how: str) -> Side:
    """Rows `[samples, k]` made ready; "logistic" of x becomes "ratio" of exp(x) where that is safe."""
    if how == "logistic" and rows.device.type == "cpu":  # elsewhere the look at the range would wait for the device
        low, high = rows.aminmax(dim=1, keepdim=True)
        # beyond, exp underflows and channels far below the top can no longer be distinguished
        if bool((high - low).max() < (80.0 if rows.dtype == torch.float32 else 600.0)):
            rows, how = torch.exp(rows - high), "ratio"
    samples, k = rows.shape
    channels = rows.t()
    return Side(torch.cat((channels, channels[: k // 2])).view(-1).unfold(0, k * samples, samples), how)


def _sides(student: Tensor, teacher: Tensor, form: int, half: float) -> tuple[Side, Side]:
    if form == 2:
        return side(student, "difference"), side(half * teacher, "difference")
    by_student = side(2 * half * student, "logistic")
    return by_student, side(teacher, "step") if form == 3 else side(2 * half * teacher, "logistic")


def _distances(k: int, many: int) -> Iterator[tuple[int, int]]:
    """(first, number) of distances, 1 to k / 2 in blocks of like size."""
    most = k // 2
    many = -(-most // -(-most // many))
    for first in range(1, most + 1, many):
        yield first, min(many, most + 1 - first)


def _buffers(like: Tensor, distances: int, k: int, samples: int) -> Buffers:
    width, run = (k + distances - 1) * samples, k * samples
    a, b = (like.new_zeros(distances, width) for _ in range(2))
    slants = (each.as_strided((distances, run), (width + samples, 1)) for each in (a, b))
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
        torch.heaviside(torch.sub(there, here, out=out), out.new_full((), 0.5), out=out)


def _concord(a: Tensor, b: Tensor, weights: Tensor, form: int, gradient: bool) -> Tensor:
    """From the pairs of teacher (a) and student (b) to the terms of the derivative, over 4h, in a.

    Returns: sums over the distances; V is their sum in form 2, in the others the number of pairs minus twice their sum.
    """
    if form == 2:
        b.mul_(a).tanh_()
        sums = weights @ b
        if gradient:
            torch.addcmul(a, a, b.mul_(b), value=-1, out=a)
        return sums
    sums = weights @ a
    torch.addcmul(b, b, a, value=-2, out=a)
    sums += weights @ a
    if gradient:
        torch.addcmul(a, a, b, value=-1, out=a)
    return sums


def _some(
    student: Tensor,
    teacher: Tensor,
    form: int,
    half: float,
    many: int,
    gradient: bool,
    held: dict[tuple[int, ...], Buffers],
) -> tuple[Tensor, Tensor]:
    """V `[r]` of some samples and its derivative `[r, k]`; held keeps this thread's buffers for the next."""
    (s, s_how), (t, t_how) = _sides(student, teacher, form, half)
    (r, k), turns = student.shape, len(s) - 1
    weights = student.new_ones(turns)
    if k % 2 == 0:
        weights[-1].fill_(0.5)
    value, slope = student.new_zeros(r), student.new_zeros(turns + k if gradient else 0, r)
    for first, number in _distances(k, many):
        weight, mine = weights[first - 1 : first - 1 + number], (threading.get_ident(), number, r)
        if mine not in held:
            held[mine] = _buffers(s, number, k, r)
        a, b, slant_a, slant_b = held[mine]
        _fill(slant_a, t[0], t[first : first + number], t_how)
        _fill(slant_b, s[0], s[first : first + number], s_how)
        value += _concord(a, b, weight, form, gradient).view(-1, r).sum(0)
        if gradient:
            slope[:k] += (weight @ slant_a).view(-1, r)
            slope[first : first + k + number - 1] -= (weight @ a).view(-1, r)
    slope[:turns] += slope[k:]
    slope = slope[:k].t()
    return (value, slope) if form == 2 else (k * (k - 1) / 2 - 2 * value, 4 * half * slope)


def blocked(
    student: Tensor, teacher: Tensor, form: int, half: float, *, gradient: bool = True, pairs: int | None = None
) -> tuple[Tensor, Tensor]:
    """V `[n]` and dV/ds `[n, k]` (`[n, 0]` without `gradient`).

    Args:
        student, teacher: `[n, k]`, float32 or float64, k >= 2.
        form: 1, 2 or 3.
        half: half the steepness.
        gradient: whether the derivative is wanted.
        pairs: how many at once.
    """
    n, k = student.shape
    on_cpu = student.device.type == "cpu"
    pieces = min(PIECES, 1 + n * k * (k - 1) // 2 // PIECE) if on_cpu else 1
    pairs = pairs or (BLOCK if on_cpu else ROOM)
    few = min(max(pairs // (k * DISTANCES), 1), -(-n // pieces))
    many = min(max(pairs // (k * few), 1), k // 4 + 1)  # a block is wider than its pairs by this
    held: dict[tuple[int, ...], Buffers] = {}

    def work(cut: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        with torch.no_grad(), unmixed(student.device):
            return _some(*cut, form, half, many, gradient, held)

    cuts = list(zip(student.split(few), teacher.split(few), strict=True))
    parts = in_threads(work, cuts, None if on_cpu else 1)
    with torch.no_grad():
        value, slope = (torch.cat(each) for each in zip(*parts, strict=True))
        return value, slope


def textbook(student: Tensor, teacher: Tensor, form: int, half: float) -> tuple[Tensor, Tensor]:
    """V `[n]` and dV/ds `[n, k]` by the formula, with every pair there at once; differentiable, and easy to fuse."""
    ds = student[:, :, None] - student[:, None, :]
    dt = teacher[:, :, None] - teacher[:, None, :]
    if form == 2:
        a, b = half * dt, torch.tanh(half * dt * ds)
        return b.sum(2).sum(1) / 2, (a * (1 - b * b)).sum(2)
    a, b = torch.sign(dt) if form == 3 else torch.tanh(half * dt), torch.tanh(half * ds)
    return (a * b).sum(2).sum(1) / 2, half * (a * (1 - b * b)).sum(2)
