"""Terms: modules that turn one training step into a scalar loss.

A term is an `nn.Module` with

    forward(student: Outputs, teacher: Outputs | None, batch: Batch, *, epoch: float) -> scalar tensor
    needs: frozenset[str], a subset of `NEEDS`
    couples: bool, False where the term is a mean over samples that do not depend on each other (left out: True)

built once the shapes of both nets' outputs are known. A pure loss of `kdviz.losses` becomes a term by the names of its
tensors (`LossTerm`); a term with weights or memory of its own is a module in a file of its own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdviz.base.check import KdvizError, require
from kdviz.losses import Loss
from kdviz.losses.inputs import wide
from kdviz.methods.batch import Batch
from kdviz.models import Outputs

NEEDS = frozenset({"teacher", "features", "preactivations", "pooled", "ids", "strong", "boxes"})

# A loss' tensor -> where the step holds it, and what the term then needs. Stage maps are passed on without the stem.
TENSORS: Mapping[str, tuple[Callable[[Outputs, Any, Batch], Any], frozenset[str]]] = {
    "logits_student": (lambda student, teacher, batch: student.logits, frozenset()),
    "logits_teacher": (lambda student, teacher, batch: teacher.logits, frozenset({"teacher"})),
    "pooled_student": (lambda student, teacher, batch: student.pooled, frozenset({"pooled"})),
    "pooled_teacher": (lambda student, teacher, batch: teacher.pooled, frozenset({"teacher", "pooled"})),
    "features_student": (lambda student, teacher, batch: student.features[1:], frozenset({"features"})),
    "features_teacher": (lambda student, teacher, batch: teacher.features[1:], frozenset({"teacher", "features"})),
    "target": (lambda student, teacher, batch: batch.labels, frozenset()),
}


@dataclass(frozen=True, eq=False)
class Probe:
    """What a term may know when it is built: both nets' outputs for two images, and facts of the run.

    Attributes:
        student: outputs of the student in eval mode, with every kind of feature that the net offers.
        teacher: the same of the teacher, or None without one.
        classes: number of classes.
        labels: class indices `[N]` of the whole training split, int64.
        seed: of the run; the weights of a term are drawn under a seed derived from it.
        teacher_net: the frozen teacher itself, for methods that read its batch normalisation.
        measured: False for made-up outputs, which have logits and pooled features alone.
    """

    student: Outputs
    teacher: Outputs | None
    classes: int
    labels: Tensor
    seed: int = 0
    teacher_net: nn.Module | None = None
    measured: bool = True

    @classmethod
    def made_up(cls, classes: int) -> "Probe":
        """Made-up logits and pooled features of three samples, for building a method without nets.

        >>> Probe.made_up(5).student.logits.shape
        torch.Size([3, 5])
        """
        ramp = torch.linspace(0, 1, 3 * classes).view(3, classes)
        outputs = Outputs(ramp, pooled=ramp, strong=Outputs(ramp))
        return cls(outputs, outputs, classes, torch.zeros(3, dtype=torch.int64), measured=False)


def share_done(epoch: "float | Tensor", epochs: float) -> Any:
    """epoch / epochs, held between 0 and 1: how far a warm-up has come; of the same kind as `epoch`.

    >>> share_done(5, 20), share_done(torch.tensor(30.0), 20)
    (0.25, tensor(1.))
    """
    done = epoch / epochs
    return done.clamp(0, 1) if isinstance(done, Tensor) else min(max(done, 0.0), 1.0)


class LossTerm(nn.Module):
    """A pure loss as a term, summed over its temperatures and, on request, over the plain and the strong view.

    Args:
        loss: of the registry.
        settings: keyword arguments of the loss, one mapping per temperature.
        strong: whether the loss of the strongly augmented view is added.
    """

    def __init__(self, loss: Loss, settings: Sequence[Mapping[str, Any]], *, strong: bool = False) -> None:
        super().__init__()
        self.loss, self.settings, self.strong = loss, tuple(settings), strong
        self.couples = not loss.separable
        self.needs = frozenset().union(*(TENSORS[name][1] for name in loss.takes), {"strong"} if strong else ())

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch, *, epoch: float) -> Tensor:
        """The loss as a scalar, in the loss' own unit."""
        value = self._of_view(student, teacher, batch)
        if not self.strong:
            return value
        if student.strong is None:
            raise KdvizError(f"{self.loss.name}: needs the outputs of the strongly augmented view as well")
        return value + self._of_view(student.strong, None if teacher is None else teacher.strong, batch)

    def _of_view(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        require(teacher is not None or "teacher" not in self.needs, f"{self.loss.name}: needs a teacher")
        tensors = {name: TENSORS[name][0](student, teacher, batch) for name in self.loss.takes}
        if batch.targets is not None and self.loss.name == "ce":
            return functional.cross_entropy(wide(student.logits), batch.targets)
        first, *others = (self.loss(settings=each, **tensors) for each in self.settings)
        return sum(others, first)
