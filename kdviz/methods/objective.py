"""The sum that the trainer minimises."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from torch import Tensor, nn

from kdviz.base.check import require
from kdviz.methods.batch import Batch
from kdviz.methods.settings import Setting
from kdviz.methods.term import share_done
from kdviz.models import Outputs


class Part(NamedTuple):
    """A term at work: its weight, the epochs over which that rises from 0, and the module."""

    name: str
    weight: float
    warmup: float
    module: nn.Module


class Objective(nn.Module):
    """A method at work: the weighted terms of a step and their total.

    Attributes:
        spec: the method's name, "kd+rk".
        settings: every setting in force, `{"kd.temperature": 4.0, ...}`; with them `build` gives the same again.
        needs: what `forward` must be given, a subset of `kdviz.methods.term.NEEDS`.
        couples: whether a term is no mean over independent samples, so that it needs the whole batch in one place.
    """

    def __init__(self, spec: str, parts: Iterable[Part], settings: Mapping[str, Setting]) -> None:
        super().__init__()
        self.spec, self.settings = spec, dict(settings)
        parts = tuple(parts)
        self.weights = {part.name: (part.weight, part.warmup) for part in parts}
        self.terms = nn.ModuleDict({part.name: part.module for part in parts})
        self.needs: frozenset[str] = frozenset().union(*(getattr(part.module, "needs", ()) for part in parts))
        self.couples = any(getattr(part.module, "couples", True) for part in parts)

    def of_one_class(self) -> list[str]:
        """The terms that compare with a single class of each image, which an image mixed of two does not have."""
        found = []
        for name, module in self.terms.items():
            takes, needs = getattr(getattr(module, "loss", None), "takes", ()), getattr(module, "needs", ())
            if name != "ce" and ("target" in takes or "ids" in needs):
                found.append(name)
        return found

    def forward(
        self, student: Outputs, teacher: Outputs | None, batch: Batch, *, epoch: float | Tensor
    ) -> dict[str, Tensor]:
        """The weighted terms by name, and "total", their sum; scalars.

        Args:
            student: outputs of the student, with the features that `needs` names and, where it names "strong", the
                outputs of the strong view as `.strong`.
            teacher: the same of the teacher, or None where `needs` has no "teacher".
            batch: the images of the step, their labels and ids.
            epoch: epochs done, a fraction within the epoch, from 0; warm-ups follow it. A scalar tensor in a step that
                is captured as a CUDA graph.

        Raises: KdvizError when something that the method needs is missing.
        """
        require(teacher is not None or "teacher" not in self.needs, f"{self.spec}: needs a teacher")
        views = (student,) if teacher is None else (student, teacher)
        require(
            "strong" not in self.needs or all(view.strong is not None for view in views),
            f"{self.spec}: needs the strongly augmented view as well",
        )
        values: dict[str, Tensor] = {}
        for name, (weight, warmup) in self.weights.items():
            rising = share_done(epoch, warmup) if warmup > 0 else 1.0
            values[name] = weight * rising * self.terms[name](student, teacher, batch, epoch=epoch)
        first, *others = values.values()
        return {**values, "total": sum(others, first)}
