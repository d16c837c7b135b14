"""FitNet: one map of the student regressed to the teacher's, the hint."""

from torch import Tensor, nn
from torch.nn import functional

from kdviz.base.check import KdvizError, require
from kdviz.losses import papers
from kdviz.losses.inputs import unmixed, wide
from kdviz.methods.batch import Batch
from kdviz.methods.method import METHODS, Method, Term
from kdviz.methods.shapes import both, size, stages
from kdviz.methods.term import Probe
from kdviz.models import Outputs


def regressor(student: Tensor, teacher: Tensor) -> nn.Module:
    """The convolution that takes the student's map to the teacher's width and size.

    3x3 with stride 2 where the student's map is twice as large, a transposed 4x4 with stride 2 where it is half as
    large, else a kernel of 1 + the difference.

    Raises: KdvizError where the student's map is smaller, but not by half.
    """
    widths, here, there = (student.shape[1], teacher.shape[1]), size(student), size(teacher)
    if here == (2 * there[0], 2 * there[1]):
        return nn.Conv2d(*widths, 3, stride=2, padding=1)
    if there == (2 * here[0], 2 * here[1]):
        return nn.ConvTranspose2d(*widths, 4, stride=2, padding=1)
    if here[0] >= there[0] and here[1] >= there[1]:
        return nn.Conv2d(*widths, (1 + here[0] - there[0], 1 + here[1] - there[1]))
    raise KdvizError(
        f"fitnet: the student's map is {here[0]} x {here[1]} px but the teacher's {there[0]} x {there[1]};"
        " expected half as large, or as large at least; choose another fitnet.hint"
    )


class FitNet(nn.Module):
    """Mean squared error between the teacher's map and a regression of the student's.

    L = mean (relu(bn(conv(F_s))) - F_t)^2 over samples, channels and positions.

    Args:
        probe: of both nets.
        hint: which map, the stem's is 0.

    Source: Romero et al. 2015, eq. 3.

    Differs from: the paper, which trains the first half of the student on the hint alone before distilling; here the
    hint is one term of the loss from the start, and the regressor has batch norm, as in the code behind the tables.
    """

    needs = frozenset({"teacher", "features"})
    couples = False

    def __init__(self, probe: Probe, *, hint: int = 2) -> None:
        super().__init__()
        student, teacher = both("fitnet", probe)
        for net, outputs in (("student", student), ("teacher", teacher)):
            last = len(stages("fitnet", net, outputs, "features"))
            require(0 <= hint <= last, f"fitnet.hint must be 0 to {last}, the maps that the {net} has, got {hint}")
        self.hint = hint
        self.conv = regressor(student.features[hint], teacher.features[hint])
        self.bn = nn.BatchNorm2d(teacher.features[hint].shape[1])

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, *, epoch: float) -> Tensor:
        """The error as a scalar."""
        learnt, taught = wide(student.features[self.hint]), teacher.features[self.hint].detach()
        with unmixed(learnt.device):
            return functional.mse_loss(functional.relu(self.bn(self.conv(learnt))), taught.to(learnt.dtype))


METHODS.add(
    "fitnet",
    Method(
        "fitnet",
        (Term("ce"), Term("fitnet", 100.0, build=FitNet)),
        "One stage's map regressed to the teacher's.",
        papers.FITNET,
        kind="feature",
    ),
)
