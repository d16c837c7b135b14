"""FitNet for detectors: every map of the student's pyramid, through an adapter, regressed to the teacher's."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdviz.base.check import require
from kdviz.losses import papers
from kdviz.losses.inputs import unmixed, wide
from kdviz.methods.batch import Batch
from kdviz.methods.detection import DETECTOR
from kdviz.methods.method import METHODS, Method, Term
from kdviz.methods.shapes import both, paired
from kdviz.methods.term import Probe
from kdviz.models import Outputs


def pyramids(who: str, student: Outputs, teacher: Outputs) -> list[tuple[Tensor, Tensor]]:
    """Both nets' maps level by level `[n, c, h, w]`, the finest first.

    Raises: KdvizError where a net gives none, or the maps of a level differ in size.
    """
    require(student.features and teacher.features, f"{who}: needs the maps of both detectors' pyramids")
    levels = paired(who, student.features, teacher.features)
    for number, (learnt, taught) in enumerate(levels):
        require(
            learnt.shape[2:] == taught.shape[2:],
            f"{who}: map {number} is {tuple(learnt.shape[2:])} px of the student but {tuple(taught.shape[2:])} of the"
            " teacher; both detectors must see the images at one size",
        )
    return levels


class PyramidFitNet(nn.Module):
    """Mean squared error between the teacher's maps and a 1x1 convolution of the student's, one for each level.

    L = mean over levels of mean (conv(F_s) - F_t)^2 over samples, channels and positions.

    Args:
        probe: of both nets.

    Source: Romero et al. 2015, eq. 3, on the maps of a feature pyramid (Lin et al. 2017); that it is every level, and
        weight 1, is ours: RKKD's Table 5 does not say.
    """

    needs = frozenset({"teacher", "features", "boxes"})
    couples = False

    def __init__(self, probe: Probe) -> None:
        super().__init__()
        levels = pyramids("fpn_fitnet", *both("fpn_fitnet", probe))
        self.adapters = nn.ModuleList(nn.Conv2d(learnt.shape[1], taught.shape[1], 1) for learnt, taught in levels)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, *, epoch: float) -> Tensor:
        """The error as a scalar."""
        values = []
        levels = pyramids("fpn_fitnet", student, teacher)
        with unmixed(student.logits.device):
            for adapt, (learnt, taught) in zip(self.adapters, levels, strict=True):
                values.append(functional.mse_loss(adapt(wide(learnt)), wide(taught.detach())))
        return torch.stack(values).mean()


METHODS.add(
    "fpn_fitnet",
    Method(
        "fpn_fitnet",
        (DETECTOR, Term("fpn_fitnet", build=PyramidFitNet)),
        "Of detectors: each map of the pyramid regressed to the teacher's.",
        papers.FITNET,
        kind="feature",
    ),
)
