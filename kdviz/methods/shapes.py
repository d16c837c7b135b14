"""What a term with weights of its own reads off the probe: the stages that both nets show, checked."""

from typing import Literal

from torch import Tensor

from kdviz.base.check import KdvizError, require
from kdviz.methods.term import Probe
from kdviz.models import Outputs


def both(who: str, probe: Probe) -> tuple[Outputs, Outputs]:
    """The outputs of student and teacher. Raises KdvizError without a teacher."""
    if probe.teacher is None:
        raise KdvizError(f"{who}: needs a teacher")
    return probe.student, probe.teacher


def stages(who: str, net: str, outputs: Outputs, kind: Literal["features", "preactivations"]) -> tuple[Tensor, ...]:
    """One net's maps of that kind, without the stem. Raises KdvizError where the net gives none.

    >>> import torch
    >>> stages("ofd", "student", Outputs(torch.zeros(2, 5)), "features")
    Traceback (most recent call last):
    kdviz.base.check.KdvizError: ofd: the student gives no stage maps; use a net of `kdviz list models`, or name the
    modules whose maps are to be compared (--features-at)
    """
    maps = getattr(outputs, kind)[1:]
    wanted = "stage maps" if kind == "features" else "stage maps before the activation"
    require(
        maps,
        f"{who}: the {net} gives no {wanted}; use a net of `kdviz list models`,"
        " or name the modules whose maps are to be compared (--features-at)",
    )
    return maps


def pooled(who: str, net: str, outputs: Outputs) -> Tensor:
    """One net's pooled features `[n, c]`. Raises KdvizError where the net gives none."""
    if outputs.pooled is None:
        raise KdvizError(
            f"{who}: the {net} gives no pooled features; use a net of `kdviz list models`,"
            " or name the modules whose maps are to be compared (--features-at)"
        )
    return outputs.pooled


def paired(who: str, student: tuple[Tensor, ...], teacher: tuple[Tensor, ...]) -> list[tuple[Tensor, Tensor]]:
    """The nets' maps stage by stage. Raises KdvizError where their numbers differ."""
    require(
        len(student) == len(teacher),
        f"{who}: the student has {len(student)} stages but the teacher has {len(teacher)};"
        " choose nets with as many stages, or name the maps to compare (--features-at)",
    )
    return list(zip(student, teacher, strict=True))


def size(maps: Tensor) -> tuple[int, int]:
    """Height and width in pixels."""
    return maps.shape[2], maps.shape[3]
