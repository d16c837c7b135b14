"""VID: each stage's teacher map as a normal distribution around what the student predicts."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdviz.base.check import positive
from kdviz.losses import papers
from kdviz.losses.inputs import unmixed
from kdviz.losses.maps import map_pairs, pooled_alike
from kdviz.methods.batch import Batch
from kdviz.methods.method import METHODS, Method, Term
from kdviz.methods.shapes import both, paired, stages
from kdviz.methods.term import Probe
from kdviz.models import Outputs

EPSILON = 1e-5  # the least variance


class VID(nn.Module):
    """Negative log-likelihood of the teacher's maps given the student's, without its constant.

    L = sum over stages of mean 1/2 [(m - t)^2 / var + log var] over samples, channels and positions; m three 1x1
    convolutions of the student's map with ReLUs between, var = softplus(log scale) + 1e-5 for each channel. Where a
    stage's maps differ in size, the larger one is averaged down to the smaller. The log scales are trained.

    Args:
        probe: of both nets.
        variance: of every channel at the start, above 1e-5.

    Source: Ahn et al. 2019, sec. 2.1.

    Differs from: the code behind the published tables, which leaves the log scales out of the optimizer, so that the
    variances stay at 5; the paper trains them, and so does this.
    """

    needs = frozenset({"teacher", "features"})
    couples = False

    def __init__(self, probe: Probe, *, variance: float = 5.0) -> None:
        super().__init__()
        positive("vid", variance=variance - EPSILON)
        student, teacher = both("vid", probe)
        pairs = paired(
            "vid", stages("vid", "student", student, "features"), stages("vid", "teacher", teacher, "features")
        )
        widths = [(learnt.shape[1], taught.shape[1]) for learnt, taught in pairs]
        self.regressors = nn.ModuleList(_regressor(*each) for each in widths)
        start = math.log(math.expm1(variance - EPSILON))
        self.log_scales = nn.ParameterList(torch.full((width,), start) for _, width in widths)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, *, epoch: float) -> Tensor:
        """The loss as a scalar in nats."""
        values = []
        pairs = map_pairs("vid", student.features[1:], teacher.features[1:])
        with unmixed(student.logits.device):
            for maps, regress, log_scale in zip(pairs, self.regressors, self.log_scales, strict=True):
                learnt, taught = pooled_alike(*maps)
                variance = (functional.softplus(log_scale) + EPSILON)[:, None, None]
                values.append(0.5 * ((regress(learnt) - taught).square() / variance + variance.log()).mean())
        return torch.stack(values).sum()


def _regressor(width_in: int, width: int) -> nn.Sequential:
    def pointwise(wide: int) -> nn.Conv2d:
        return nn.Conv2d(wide, width, 1, bias=False)

    return nn.Sequential(pointwise(width_in), nn.ReLU(), pointwise(width), nn.ReLU(), pointwise(width))


METHODS.add(
    "vid",
    Method(
        "vid",
        (Term("ce"), Term("vid", build=VID)),
        "Likelihood of the teacher's stage maps given the student's.",
        papers.VID,
        kind="feature",
    ),
)
