"""The logits of both nets on both views of a step, for methods that compare them."""

from typing import NamedTuple

from torch import Tensor

from kdviz.base.check import KdvizError
from kdviz.losses.inputs import pair
from kdviz.models import Outputs


class Views(NamedTuple):
    """(student, teacher) logits `[n, k]` of the plain and of the strongly augmented view; the teacher's detached."""

    plain: tuple[Tensor, Tensor]
    strong: tuple[Tensor, Tensor]


def both_views(who: str, student: Outputs, teacher: Outputs | None) -> Views:
    """The logits of both views, checked and in float32 at least.

    Raises: KdvizError without a teacher, without a strong view or for shapes that differ.
    """
    if teacher is None:
        raise KdvizError(f"{who}: needs a teacher")
    if student.strong is None or teacher.strong is None:
        raise KdvizError(f"{who}: needs the outputs of the strongly augmented view as well")
    return Views(pair(who, student.logits, teacher.logits), pair(who, student.strong.logits, teacher.strong.logits))
