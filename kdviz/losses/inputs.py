"""What every loss does to its tensors before and after its formula; nothing here waits for the device."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor

from kdviz.base.check import one_of, require, same_shape

Reduction = Literal["mean", "none"]
Normalize = Literal["none", "zscore"]
GRAIN = 1 << 15  # numbers from which on torch splits an operation over threads


def wide(tensor: Tensor) -> Tensor:
    """The tensor in float32 at least, so that half precision and autocast cost range nowhere."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def unmixed(device: torch.device) -> AbstractContextManager[object]:
    """A context without autocast, for products of which half precision would keep too little."""
    kind = device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


def rows(who: str, **tensors: Tensor) -> None:
    """Refuse what is not floating point `[n, k]` with n >= 1 and k >= 1, by name."""
    for name, tensor in tensors.items():
        require(
            tensor.ndim == 2 and tensor.numel() > 0,
            f"{who}: {name} must be [samples, classes] with at least one of each, got {tuple(tensor.shape)}",
        )
        require(tensor.is_floating_point(), f"{who}: {name} must be floating point, got {tensor.dtype}")


def pair(who: str, logits_student: Tensor, logits_teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both logits checked, wide, and the teacher's detached."""
    rows(who, logits_student=logits_student, logits_teacher=logits_teacher)
    same_shape(who, logits_student=logits_student, logits_teacher=logits_teacher)
    require(logits_student.shape[1] >= 2, f"{who}: needs at least 2 classes, got {tuple(logits_student.shape)}")
    student = wide(logits_student)
    return student, logits_teacher.detach().to(student.dtype)


def labels(who: str, logits: Tensor, target: Tensor) -> Tensor:
    """The class indices `[n]`, int64, checked for shape and type; their range is `validate_logits`' business."""
    require(
        tuple(target.shape) == (len(logits),),
        f"{who}: target must hold one class index per row, ({len(logits)},), got {tuple(target.shape)};"
        " soft or one-hot labels are not taken",
    )
    require(
        not target.is_floating_point() and not target.is_complex() and target.dtype is not torch.bool,
        f"{who}: target must be integer class indices, got {target.dtype}",
    )
    return target.long()


def standard(logits: Tensor) -> Tensor:
    """Rows z-scored over the classes as LSKD does it: (x - mean) / (std + 1e-7), std unbiased."""
    return (logits - logits.mean(1, keepdim=True)) / (logits.std(1, keepdim=True) + 1e-7)


def normalized(who: str, logits: tuple[Tensor, Tensor], normalize: str) -> tuple[Tensor, Tensor]:
    """Both nets' logits as they are ("none") or z-scored ("zscore")."""
    one_of(who, ("none", "zscore"), normalize=normalize)
    return logits if normalize == "none" else (standard(logits[0]), standard(logits[1]))


def by_pieces(function: Callable[[Tensor], Tensor], tensor: Tensor) -> Tensor:
    """The function of rows `[n, k]` that know nothing of each other; on a CPU in pieces too small for torch to split.

    Each operation that torch splits over its threads waits for the slowest of them, long on busy cores.
    """
    step = max(1, (GRAIN - 1) // tensor.shape[1])
    if tensor.device.type != "cpu" or len(tensor) <= step:
        return function(tensor)
    return torch.cat([function(piece) for piece in tensor.split(step)])


def reduce(who: str, values: Tensor, reduction: str) -> Tensor:
    """The mean over samples, or the values `[n]` themselves."""
    one_of(who, ("mean", "none"), reduction=reduction)
    return values.mean() if reduction == "mean" else values
