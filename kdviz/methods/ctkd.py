"""CTKD: distillation at a temperature that the student learns to find hard."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from kdviz.base.check import positive
from kdviz.losses.inputs import pair
from kdviz.losses.kd import divergence
from kdviz.methods.batch import Batch
from kdviz.methods.term import Probe, share_done
from kdviz.models import Outputs


class Scaled(torch.autograd.Function):
    """The identity, whose gradient is multiplied by `scale`."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, scale: Any) -> Tensor:
        ctx.scale = scale
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] * ctx.scale, None


def reversal(epoch: float | Tensor, epochs: float) -> Any:
    """The factor of the temperature's gradient: 0 at the start, -1 from `epochs` on, half a cosine between.

    >>> [round(reversal(epoch, 10.0), 3) for epoch in (0, 5, 10, 99)]
    [0.0, -0.5, -1.0, -1.0]
    """
    done = share_done(epoch, epochs)
    cosine = (torch if isinstance(done, Tensor) else math).cos(math.pi * done)
    return (cosine - 1) / 2


class LearntTemperature(nn.Module):
    """KL divergence at a learnt temperature T = floor + span * sigmoid(theta), times T squared.

    Theta starts at `start` and climbs the loss that the student descends: its gradient is reversed, the more so the
    later the epoch (0 to -1 by half a cosine over `reversal_epochs`).

    Source: Li et al. 2023, eqs. 4-7, the global temperature.

    Differs from: the original counts epochs from 1; here the epoch is a fraction that starts at 0.
    """

    needs = frozenset({"teacher"})
    couples = False

    def __init__(
        self, probe: Probe, *, start: float = 1.0, floor: float = 1.0, span: float = 20.0, reversal_epochs: float = 10.0
    ) -> None:
        super().__init__()
        positive("ctkd", floor=floor, span=span, reversal_epochs=reversal_epochs)
        self.floor, self.span, self.reversal_epochs = floor, span, reversal_epochs
        self.theta = nn.Parameter(torch.tensor(float(start)))

    @property
    def temperature(self) -> Tensor:
        return self.floor + self.span * torch.sigmoid(self.theta)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, *, epoch: float) -> Tensor:
        """The loss as a scalar in nats, mean over the batch."""
        learnt, taught = pair("ctkd", student.logits, teacher.logits)
        temperature = Scaled.apply(self.temperature, reversal(epoch, self.reversal_epochs))
        return (divergence(learnt / temperature, taught / temperature) * temperature**2).mean()
