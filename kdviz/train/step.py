"""One update of a student: forward passes of both nets, the method's terms, backward, optimizer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kdviz.methods import Batch, Objective
from kdviz.models import Outputs
from kdviz.train.outputs import outputs_of_batch


@dataclass(frozen=True, eq=False)
class Step:
    """A function of tensors on the device; nothing in it waits for the host.

    Attributes:
        student: the net that learns, compiled or not.
        teacher: the frozen net, or None.
        objective: the method.
        optimizer: over the parameters of both.
        precision: "fp32" or "bf16" (autocast).
    """

    student: Callable[..., Any]
    teacher: nn.Module | None
    objective: Objective
    optimizer: torch.optim.Optimizer
    precision: str

    def __call__(self, batch: Batch, taught: Outputs | None, *, epoch: float) -> dict[str, Tensor]:
        """Update the student once.

        Args:
            batch: on the device.
            taught: the teacher's outputs for it, see `teach`; None without a teacher.
            epoch: epochs done, a fraction within the epoch.
        Returns: the weighted terms by name and "total", detached, on the device.
        """
        learnt = outputs_of_batch(self.student, batch, self.objective.needs, self.precision)
        terms = self.objective(learnt, taught, batch, epoch=epoch)
        self.optimizer.zero_grad(set_to_none=True)
        terms["total"].backward()
        self.optimizer.step()
        return {name: value.detach() for name, value in terms.items()}

    def teach(self, batch: Batch) -> Outputs | None:
        """The teacher's outputs for a batch, without gradients; None without a teacher."""
        if self.teacher is None:
            return None
        with torch.no_grad():
            return outputs_of_batch(self.teacher, batch, self.objective.needs, self.precision)
