"""One update of a student: forward passes of both nets, the method's terms, backward, optimizer."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from kdviz.methods import Batch, Objective
from kdviz.models import Outputs
from kdviz.train.ema import follow
from kdviz.train.optim import clip_grad
from kdviz.train.outputs import outputs_of_batch


@dataclass(frozen=True, eq=False)
class Step:
    """A function of tensors on the device; nothing in it waits for the host.

    Attributes:
        net: the student itself.
        student: what is called for it, the net or a compiled form.
        teacher: the frozen net, or None.
        objective: the method.
        optimizer: over the parameters of student and objective.
        precision: "fp32", "tf32", "bf16" or "fp16" (the last two by autocast).
        parts: equal parts that a batch is computed in, one after another.
        clip: the largest norm of the gradients; 0: not clipped.
        average: the moving average of the student's weights, or None.
        decay: of the average.
        scaler: of the loss, so that small gradients survive float16; idle in every other precision.
    """

    net: nn.Module
    student: Callable[..., Any]
    teacher: nn.Module | None
    objective: Objective
    optimizer: torch.optim.Optimizer
    precision: str
    parts: int = 1
    clip: float = 0.0
    average: nn.Module | None = None
    decay: float = 0.0
    scaler: torch.amp.GradScaler = field(default_factory=lambda: torch.amp.GradScaler("cpu", enabled=False))

    def __call__(
        self, batch: Batch, teach: Callable[[Batch], Outputs | None], *, epoch: float | Tensor
    ) -> dict[str, Tensor]:
        """Update the student once.

        Args:
            batch: on the device.
            teach: gives the teacher's outputs for a part of the batch (`Step.teach`, or a look-up); None without one.
            epoch: epochs done, a fraction within the epoch.
        Returns: the weighted terms by name and "total", detached, on the device; means over the parts.
        """
        self.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        for part in batch.parts(self.parts) if self.parts > 1 else [batch]:
            terms = self._terms(part, teach(part), epoch)
            self.scaler.scale(terms["total"] / self.parts).backward()
            for name, value in terms.items():
                sums[name] = sums.get(name, 0) + value.detach() / self.parts
        if self.clip:
            self.scaler.unscale_(self.optimizer)
            clip_grad([one for group in self.optimizer.param_groups for one in group["params"]], self.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            follow(self.average, self.net, decay=self.decay)
        return sums

    def _terms(self, batch: Batch, taught: Outputs | None, epoch: float | Tensor) -> dict[str, Tensor]:
        learnt = outputs_of_batch(self.student, batch, self.objective.needs, self.precision)
        return self.objective(learnt, taught, batch, epoch=epoch)

    def teach(self, batch: Batch) -> Outputs | None:
        """The teacher's outputs for a batch, without gradients; None without a teacher."""
        if self.teacher is None:
            return None
        with torch.no_grad():
            return outputs_of_batch(self.teacher, batch, self.objective.needs, self.precision)

    @property
    def state(self) -> dict[str, Any]:
        """Everything that moves, by name; each has `state_dict` and `load_state_dict`."""
        moving = {"student": self.net, "objective": self.objective, "optimizer": self.optimizer}
        if self.average is not None:
            moving["average"] = self.average
        if self.scaler.is_enabled():
            moving["scaler"] = self.scaler
        return moving
