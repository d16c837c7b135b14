"""OFD: the maps before the activation, up to the margin below which the teacher's are all the same."""

import torch
from torch import Tensor, nn

from kdviz.base.check import KdvizError, require
from kdviz.losses import papers
from kdviz.losses.inputs import unmixed, wide
from kdviz.methods.batch import Batch
from kdviz.methods.method import METHODS, Method, Term
from kdviz.methods.shapes import both, paired, size, stages
from kdviz.methods.term import Probe
from kdviz.models import Outputs

RARE = 0.001  # the share below 0 under which its mean is taken to be three standard deviations below


def margin(bn: nn.BatchNorm2d) -> Tensor:
    """Mean of each channel's normal distribution below 0, as batch norm sets it, `[c]`.

    With mean m = bias and deviation s = |weight|: m - s phi(m / s) / Phi(-m / s), or -3 s where Phi(-m / s) <= .001.

    >>> margin(nn.BatchNorm2d(1)).item()  # the standard normal distribution: -sqrt(2 / pi)
    -0.7978845834732056
    """
    mean, deviation = bn.bias.detach().double(), bn.weight.detach().double().abs().clamp_min(1e-12)
    place = mean / deviation
    below = torch.special.ndtr(-place)
    density = torch.exp(-(place**2) / 2) / (2 * torch.pi) ** 0.5
    inside = mean - deviation * density / below.clamp_min(RARE)
    return torch.where(below > RARE, inside, -3 * deviation).to(bn.weight.dtype)


class OFD(nn.Module):
    """Partial squared distance between the nets' maps before their activations.

    L = sum_l 2^-(S - 1 - l) * mean_i sum (g(s) - max(t, margin))^2 over channels and positions, l = 0 ... S - 1; where
    the teacher is not above 0, only a student above max(t, margin) counts. g is a 1x1 convolution and batch norm.

    Args:
        probe: of both nets; the teacher must know the batch norms before its ReLUs (`bn_before_relu`).

    Source: Heo et al. 2019, sec. 3.

    Differs from: the paper, which writes no weights of the stages; they are those of its authors' code. The batch
    norm of a residual stage is taken before the addition, as there.
    """

    needs = frozenset({"teacher", "preactivations"})
    couples = False

    def __init__(self, probe: Probe) -> None:
        super().__init__()
        student, teacher = both("ofd", probe)
        pairs = paired(
            "ofd",
            stages("ofd", "student", student, "preactivations"),
            stages("ofd", "teacher", teacher, "preactivations"),
        )
        norms = _norms(probe.teacher_net, [taught.shape[1] for _, taught in pairs])
        self.connectors = nn.ModuleList()
        for place, ((learnt, taught), norm) in enumerate(zip(pairs, norms, strict=True), 1):
            require(
                size(learnt) == size(taught),
                f"ofd: stage {place} is {size(learnt)} px in the student but {size(taught)} in the teacher;"
                " it compares maps position by position, so choose nets whose stages have the same sizes",
            )
            self.connectors.append(_connector(learnt.shape[1], taught.shape[1]))
            self.register_buffer(f"margin{place}", margin(norm)[:, None, None])

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, *, epoch: float) -> Tensor:
        """The distance as a scalar."""
        total, last = torch.zeros((), device=student.logits.device), len(self.connectors)
        with unmixed(total.device):
            for place, connect in enumerate(self.connectors, 1):
                learnt = connect(wide(student.preactivations[place]))
                taught = teacher.preactivations[place].detach().to(learnt.dtype)
                goal = torch.maximum(taught, self.get_buffer(f"margin{place}"))
                counts = (learnt > goal) | (taught > 0)
                distance = ((learnt - goal).square() * counts).mean(0).sum()
                total = total + distance * 2.0 ** (place - last)
        return total


def _connector(width_in: int, width: int) -> nn.Sequential:
    convolution = nn.Conv2d(width_in, width, 1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(convolution, nn.BatchNorm2d(width))


def _norms(net: nn.Module | None, widths: list[int]) -> list[nn.BatchNorm2d]:
    """The batch norms before the teacher's ReLUs, one for each stage."""
    ask = getattr(net, "bn_before_relu", None)
    if not callable(ask):
        kind = "no net" if net is None else type(net).__name__
        raise KdvizError(
            f"ofd: needs the batch norm before each ReLU of the teacher, which {kind} does not name;"
            " expected a resnet, wrn, vgg or MobileNetV2, or a net with a method bn_before_relu()"
        )
    norms: list[nn.BatchNorm2d] = ask()  # type: ignore[assignment]
    found = [norm.num_features for norm in norms]
    require(found == widths, f"ofd: the teacher's batch norms have {found} channels but its stages have {widths}")
    return norms


METHODS.add(
    "ofd",
    Method(
        "ofd",
        (Term("ce"), Term("ofd", 1e-3, build=OFD)),
        "Stage maps before the activation, above a margin.",
        papers.OFD,
        kind="feature",
    ),
)
