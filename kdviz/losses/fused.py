"""The sums over pairs of channels as one compiled kernel, for GPUs."""

import warnings
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from kdviz.losses.inputs import unmixed
from kdviz.losses.pairwise import blocked, textbook

PAIRS = 1 << 27  # pairs in one call: should a compiler ever store them, 512 MB in float32
_failed: list[str] = []  # why there is no kernel, once that is known


@cache
def _kernel() -> Callable[..., tuple[Tensor, Tensor]]:
    # fullgraph: past its limit of variants torch would else run the formula as it stands, and store every pair
    return torch.compile(textbook, dynamic=True, fullgraph=True)


def _whole(student: Tensor, teacher: Tensor, form: int, half: float, calls: int) -> tuple[Tensor, Tensor]:
    """The kernel on the rows in so many parts.

    A variant is compiled for each form and dtype, and more for tensors with a gradient, parts of others, of inference
    mode or under autocast, which torch's limit would not bear; hence all come as plain copies here.
    """
    with torch.inference_mode(False), torch.no_grad(), unmixed(student.device):
        nets = (net.detach().tensor_split(calls) for net in (student, teacher))
        parts = [_kernel()(s.clone(), t.clone(), form, half) for s, t in zip(*nets, strict=True)]
        value, slope = (torch.cat(each) for each in zip(*parts, strict=True))
    return value, slope


def fused(student: Tensor, teacher: Tensor, form: int, half: float, *, gradient: bool = True) -> tuple[Tensor, Tensor]:
    """V `[n]` and dV/ds `[n, k]`, as `textbook`, which the compiler makes one kernel that stores no pair.

    Rows go in as many at once as have `PAIRS` pairs. Where few rows have more, for a single row, and where nothing can
    be compiled (one warning says so), the sums are `blocked`. Nothing waits for the device. The derivative comes
    with or without `gradient`.
    """
    n, k = student.shape
    rows = PAIRS // k**2
    if n > 1 and rows >= 4 and not _failed:  # never a part of one row, which would be a variant of its own
        try:
            return _whole(student, teacher, form, half, -(-n // rows))
        except (
            RuntimeError
        ) as error:  # no Triton, no compiler, too many variants: all that torch raises derives from it
            _failed.append(" ".join(str(error).splitlines()[:2]) or type(error).__name__)
            warnings.warn(f"rank_kendall: no fused kernel, going on in blocks: {_failed[0]}", stacklevel=2)
    return blocked(student, teacher, form, half, gradient=gradient)
