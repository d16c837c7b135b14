"""Checks of values that wait for the device, made once where data come in and never inside a loss."""

import torch
from torch import Tensor

from kdviz.base.check import require
from kdviz.losses.inputs import labels, pair, rows


def validate_logits(
    logits_student: Tensor, logits_teacher: Tensor | None = None, target: Tensor | None = None, *, who: str
) -> None:
    """Refuse logits that are not finite, shapes that do not fit and labels out of range. It waits for the device.

    Args:
        logits_student: `[n, k]`.
        logits_teacher: `[n, k]`, where there is one.
        target: class indices `[n]`, where there are any.
        who: who asks, for the message.

    Raises: KdvizError.

    >>> import torch
    >>> validate_logits(torch.zeros(1, 3), target=torch.tensor([3]), who="train")
    Traceback (most recent call last):
    kdviz.base.check.KdvizError: train: target has label 3 in row 0 but there are 3 classes (0..2)
    """
    named = {"logits_student": logits_student}
    rows(who, **named)
    if logits_teacher is not None:
        pair(who, logits_student, logits_teacher)
        named["logits_teacher"] = logits_teacher
    for name, logits in named.items():
        bad = (~torch.isfinite(logits)).any(1)
        require(
            not bad.any(),
            f"{who}: {name} has values that are not finite in {int(bad.sum())} of {len(bad)} rows,"
            f" first in row {int(bad.int().argmax())}; did the training diverge?",
        )
    if target is not None:
        index, classes = labels(who, logits_student, target), logits_student.shape[1]
        bad = (index < 0) | (index >= classes)
        if bad.any():
            row = int(bad.int().argmax())
            require(
                False,
                f"{who}: target has label {int(index[row])} in row {row} but there are {classes} classes"
                f" (0..{classes - 1})",
            )
