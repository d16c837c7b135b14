"""Sums over the pairs of channels of two rows, with their derivative, in memory O(n k).

For each row V = sum over i < j of v_ij, and dV/ds. With h half the steepness, dt = t_i - t_j, ds = s_i - s_j:
    form 1: v = tanh(h dt) tanh(h ds)      form 2: v = tanh(h dt ds)      form 3: v = sgn(dt) tanh(h ds)
In each of them dV/ds_m is a sum over j of w_mj, w = a (1 - b^2) antisymmetric, with a what stands before or with ds and
b the hyperbolic tangent of the student, so that a pair is computed once. Pairs are taken by their cyclic distance d:
(i, i + d mod k) for d < k/2 names every pair once, and d = k/2 needs the first half of the i. A block of distances is a
strided window of the row doubled: no index, no copy.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

BLOCK = 65536  # pairs at once: three buffers of .25 MB in float32 stay in a core's cache


class Side(NamedTuple):
    """One net's rows as windows `[n, k // 2 + 1, k]`, window d the row rotated by d, and how pairs become values."""

    windows: Tensor
    how: str  # "ratio", "tanh", "sign" or "difference"


class Buffers(NamedTuple):
    """Room for a block: two factors and a spare, each `[samples, distances, columns + distances - 1]`.

    Pair (i, i + d) stands in column i + d, the rest is 0 and stays 0, so that a sum over the rows belongs to i + d. The
    `slant` views `[samples, distances, columns]` have it in column i.
    """

    a: Tensor
    b: Tensor
    spare: Tensor
    slant_a: Tensor
    slant_b: Tensor
    slant_spare: Tensor


def side(rows: Tensor, how: str) -> Side:
    """The rows made ready. "tanh" becomes "ratio" where it is safe: tanh(x - y) = (u - v) / (u + v), u = exp(2x)."""
    if how == "tanh" and rows.device.type == "cpu":  # elsewhere the look at the range would wait for the device
        low, high = rows.aminmax(dim=1, keepdim=True)
        # beyond, exp underflows and channels far below the top are told apart no more
        if bool((high - low).max() < (40.0 if rows.dtype == torch.float32 else 300.0)):
            rows, how = torch.exp(2 * (rows - high)), "ratio"
    classes = rows.shape[1]
    return Side(torch.cat((rows, rows[:, : classes // 2]), 1).unfold(1, classes, 1), how)


def _sides(student: Tensor, teacher: Tensor, form: int, half: float) -> tuple[Side, Side]:
    if form == 2:
        return side(student, "difference"), side(half * teacher, "difference")
    return side(half * student, "tanh"), side(teacher, "sign") if form == 3 else side(half * teacher, "tanh")


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
    room = [like.new_zeros(samples, distances, width) for _ in range(3)]
    return Buffers(*room, *(each.as_strided(shape, (distances * width, width + 1, 1)) for each in room))


def _fill(out: Tensor, spare: Tensor, here: Tensor, there: Tensor, how: str) -> None:
    """out = the value of each pair of a block."""
    torch.sub(here, there, out=out)
    if how == "ratio":
        out.div_(torch.add(here, there, out=spare))
    elif how == "tanh":
        out.tanh_()
    elif how == "sign":
        out.sign_()


def _some(by_student: Side, by_teacher: Side, form: int, many: int, held: dict, slope: Tensor | None) -> Tensor:
    """V of some samples `[r]`; the sums of w are added to slope `[r, k + k // 2]`, to be folded, where it is given."""
    (s, s_how), (t, t_how) = by_student, by_teacher
    value = s.new_zeros(len(s))
    for first, number, columns in _distances(s.shape[2], many):
        shape = (len(s), number, columns)
        if shape not in held:
            held[shape] = _buffers(s, shape)
        a, b, spare, slant_a, slant_b, slant_spare = held[shape]
        which = slice(first, first + number)
        _fill(slant_a, slant_spare, t[:, :1, :columns], t[:, which, :columns], t_how)
        _fill(slant_b, slant_spare, s[:, :1, :columns], s[:, which, :columns], s_how)
        if form == 2:
            b.mul_(a).tanh_()
        torch.mul(a, b, out=spare)
        value += (b if form == 2 else spare).sum((1, 2))
        if slope is not None:
            torch.addcmul(a, spare, b, value=-1, out=spare)
            slope[:, :columns].add_(slant_spare.sum(1))
            slope[:, first : first + spare.shape[2]].sub_(spare.sum(1))
    return value


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
    pairs = pairs or (BLOCK if student.device.type == "cpu" else 1 << 24)
    many = min(max(pairs // k, 1), k // 8 + 1)  # a block is wider than its pairs by this
    few = max(pairs // (k * many), 1)
    by_student, by_teacher = _sides(student, teacher, form, half)
    value, slope = student.new_empty(n), student.new_zeros(n, k + k // 2 if gradient else 0)
    held: dict[tuple[int, int, int], Buffers] = {}
    for start in range(0, n, few):
        which = slice(start, start + few)
        s, t = (Side(each.windows[which], each.how) for each in (by_student, by_teacher))
        value[which] = _some(s, t, form, many, held, slope[which] if gradient else None)
    folded = slope[:, :k]
    if gradient:
        folded[:, : k // 2] += slope[:, k:]
        folded *= 1.0 if form == 2 else half
    return value, folded


def textbook(student: Tensor, teacher: Tensor, form: int, half: float) -> tuple[Tensor, Tensor]:
    """V `[n]` and dV/ds `[n, k]` by the formula, with every pair there at once; differentiable, and easy to fuse."""
    ds = student[:, :, None] - student[:, None, :]
    dt = teacher[:, :, None] - teacher[:, None, :]
    if form == 2:
        a, b = half * dt, torch.tanh(half * dt * ds)
        return b.sum(2).sum(1) / 2, (a * (1 - b * b)).sum(2)
    a, b = torch.sign(dt) if form == 3 else torch.tanh(half * dt), torch.tanh(half * ds)
    return (a * b).sum(2).sum(1) / 2, half * (a * (1 - b * b)).sum(2)
