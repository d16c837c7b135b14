"""ReviewKD: each stage of the teacher is taught to all the student's stages from there on."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdviz.base.check import require
from kdviz.losses import papers
from kdviz.losses.inputs import unmixed, wide
from kdviz.methods.batch import Batch
from kdviz.methods.method import METHODS, Method, Term
from kdviz.methods.shapes import both, paired, pooled, size, stages
from kdviz.methods.term import Probe
from kdviz.models import Outputs

WIDEST = 512
LEVELS = (4, 2, 1)  # px of the average pools of the hierarchical context loss


class Fusion(nn.Module):
    """Attention-based fusion of a stage's map with what came from the deeper ones.

    Args:
        width_in: channels of the student's map.
        middle: channels in which the fusion happens.
        width: channels of the teacher's map.
        fuse: whether there is anything deeper.
    """

    def __init__(self, width_in: int, middle: int, width: int, *, fuse: bool) -> None:
        super().__init__()
        self.conv1 = _normalised(width_in, middle, 1)
        self.conv2 = _normalised(middle, width, 3)
        self.att_conv = nn.Sequential(nn.Conv2d(2 * middle, 2, 1), nn.Sigmoid()) if fuse else None

    def forward(self, maps: Tensor, deeper: Tensor | None, wanted: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """The map to compare with the teacher's, of `wanted` size, and the fused one for the next stage."""
        fused = self.conv1(maps)
        if self.att_conv is not None and deeper is not None:
            deeper = functional.interpolate(deeper, size(maps), mode="nearest")
            shares = self.att_conv(torch.cat([fused, deeper], 1))  # [n, 2, h, w]
            fused = fused * shares[:, :1] + deeper * shares[:, 1:]
        if size(fused) != wanted:
            fused = functional.interpolate(fused, wanted, mode="nearest")
        return self.conv2(fused), fused


def hierarchical_context(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared error at full size and at average pools of 4, 2 and 1 px, those smaller than the map.

    Their weights are 1, 1/2, 1/4, 1/8 in the order of those that count, divided by their sum.
    """
    total, weight, weights = functional.mse_loss(student, teacher), 1.0, 1.0
    for level in LEVELS:
        if level < student.shape[2]:
            weight /= 2
            weights += weight
            small = functional.adaptive_avg_pool2d(student, level)
            total = total + weight * functional.mse_loss(small, functional.adaptive_avg_pool2d(teacher, level))
    return total / weights


class ReviewKD(nn.Module):
    """Hierarchical context loss between the teacher's stages and fusions of the student's, deepest first.

    The student's stages and pooled features pass through one `Fusion` each, from the deepest on, each taking up the
    fused map of the one before; the results are compared with the teacher's stages before their activation and with
    its pooled features.

    Args:
        probe: of both nets.

    Source: Chen et al. 2021, sec. 3.

    Differs from: the paper, which does not say that the teacher's maps are those before the activation, or that the
    pooled features are a stage; both as in its authors' code.
    """

    needs = frozenset({"teacher", "features", "preactivations", "pooled"})
    couples = False

    def __init__(self, probe: Probe) -> None:
        super().__init__()
        student, teacher = both("reviewkd", probe)
        pairs = _pairs(student, teacher)
        widths = [(learnt.shape[1], taught.shape[1]) for learnt, taught in reversed(pairs)]
        middle = min(WIDEST, widths[0][0])
        self.fusions = nn.ModuleList(
            Fusion(width_in, middle, width, fuse=place > 0) for place, (width_in, width) in enumerate(widths)
        )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, *, epoch: float) -> Tensor:
        """The loss as a scalar, without its warm-up."""
        n = len(student.logits)
        require(n > 1, f"reviewkd: needs batches of 2 images or more for its batch norms, got {n}; raise batch")
        total, deeper = torch.zeros((), device=student.logits.device), None
        with unmixed(total.device):
            for (maps, taught), fuse in zip(reversed(_pairs(student, teacher)), self.fusions, strict=True):
                maps, taught = wide(maps), wide(taught.detach())
                reviewed, deeper = fuse(maps, deeper, size(taught))
                total = total + hierarchical_context(reviewed, taught)
        return total


def _pairs(student: Outputs, teacher: Outputs) -> list[tuple[Tensor, Tensor]]:
    """The student's stages and pooled features beside the teacher's, which are those before the activation."""
    maps = paired(
        "reviewkd",
        stages("reviewkd", "student", student, "features"),
        stages("reviewkd", "teacher", teacher, "preactivations"),
    )
    learnt, taught = pooled("reviewkd", "student", student), pooled("reviewkd", "teacher", teacher)
    return [*maps, (learnt[:, :, None, None], taught[:, :, None, None])]


def _normalised(width_in: int, width: int, kernel: int) -> nn.Sequential:
    convolution = nn.Conv2d(width_in, width, kernel, padding=kernel // 2, bias=False)
    nn.init.kaiming_uniform_(convolution.weight, a=1)
    return nn.Sequential(convolution, nn.BatchNorm2d(width))


METHODS.add(
    "reviewkd",
    Method(
        "reviewkd",
        (Term("ce"), Term("reviewkd", 5.0, warmup=20.0, build=ReviewKD)),
        "Fused stage maps, compared at several sizes, 20 warm-up epochs.",
        papers.REVIEWKD,
        {
            ("*", "ShuffleV2"): {"reviewkd.weight": 8.0},
            ("*", "resnet20"): {"reviewkd.weight": 0.6},
            ("*", "resnet32"): {"reviewkd.weight": 1.0},
        },
        kind="feature",
    ),
)
