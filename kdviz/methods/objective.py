"""The sum that the trainer minimises."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from kdviz.base.check import require
from kdviz.losses import LOSSES


class Part(NamedTuple):
    """A term with its settings in force; `settings` holds one entry per temperature to be summed over."""

    name: str
    weight: float
    warmup: float
    settings: tuple[Mapping[str, Any], ...]
    strong: bool


class Objective(nn.Module):
    """A method at work: the weighted terms of a batch and their total.

    Attributes:
        spec: the method's name, "kd+rk".
        settings: every setting in force, `{"kd.temperature": 4.0, ...}`; with them `build` gives the same again.
        needs_teacher, needs_features, needs_strong_view: what `forward` must be given.
    """

    def __init__(
        self, spec: str, parts: Iterable[Part], modules: Mapping[str, nn.Module], settings: Mapping[str, Any]
    ) -> None:
        super().__init__()
        self.spec, self.settings = spec, dict(settings)
        self.parts = tuple(parts)
        self.learnt = nn.ModuleDict(dict(modules))
        takes = {name for part in self.parts if part.name in LOSSES for name in LOSSES[part.name].takes}
        self.needs_teacher = bool(modules) or bool(takes & {"logits_teacher", "pooled_teacher"})
        self.needs_features = bool(takes & {"pooled_student", "pooled_teacher"})
        self.needs_strong_view = any(part.strong for part in self.parts)

    def forward(
        self, student: Any, teacher: Any, target: Tensor, *, epoch: float, strong: tuple[Any, Any] | None = None
    ) -> dict[str, Tensor]:
        """The weighted terms by name, and "total", their sum; scalars.

        Args:
            student: Outputs of the student, logits `[n, k]`.
            teacher: Outputs of the teacher, or None where `needs_teacher` is False.
            target: class indices `[n]`.
            epoch: epochs done, a fraction within the epoch, from 0; warm-ups follow it.
            strong: Outputs of student and teacher for the strongly augmented view, where `needs_strong_view`.

        Raises: KdvizError when something that the method needs is missing.
        """
        require(teacher is not None or not self.needs_teacher, f"{self.spec}: needs a teacher")
        require(
            strong is not None or not self.needs_strong_view, f"{self.spec}: needs the strongly augmented view as well"
        )
        views = [(student, teacher)] if strong is None else [(student, teacher), strong]
        terms: dict[str, Tensor] = {}
        for part in self.parts:
            seen = [
                self._value(part, taught, teaching, target, epoch)
                for taught, teaching in views[: 2 if part.strong else 1]
            ]
            rising = min(epoch / part.warmup, 1.0) if part.warmup > 0 else 1.0
            terms[part.name] = part.weight * rising * sum(seen[1:], seen[0])
        first, *others = terms.values()
        return {**terms, "total": sum(others, first)}

    def _value(self, part: Part, student: Any, teacher: Any, target: Tensor, epoch: float) -> Tensor:
        """The term of one view, summed over its temperatures."""
        if part.name in self.learnt:
            return self.learnt[part.name](student.logits, teacher.logits, target, epoch=epoch)
        tensors = {
            "logits_student": student.logits,
            "logits_teacher": None if teacher is None else teacher.logits,
            "target": target,
            "pooled_student": student.pooled if self.needs_features else None,
            "pooled_teacher": teacher.pooled if self.needs_features and teacher is not None else None,
        }
        first, *others = (LOSSES[part.name](settings=each, **tensors) for each in part.settings)
        return sum(others, first)
