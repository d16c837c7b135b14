"""Methods of detectors: the detector's own losses, and losses of both nets' class logits at the student's regions.

Both box heads see the same regions: those that the student's proposals were sampled to, background among them. Every
method of logits joins by a sum: "detector+dist", "roi_kd+rk". The ranking loss, PLD and KD have no published settings
for detectors: weight 1 and temperature 1 are ours. DKD's are those of the code behind its published detectors.
"""

from torch import Tensor, nn

from kdviz.base.check import require
from kdviz.losses import papers
from kdviz.methods.batch import Batch
from kdviz.methods.method import METHODS, Method, Term
from kdviz.methods.term import Probe
from kdviz.models import Outputs


class DetectorLoss(nn.Module):
    """The sum of a detector's own losses: class and box of its regions, objectness and box of its proposals.

    Args:
        probe: not used.

    Source: Ren et al. 2015, eq. 1, as torchvision computes it.
    """

    needs = frozenset({"boxes"})
    couples = False

    def __init__(self, probe: Probe) -> None:
        super().__init__()

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch, *, epoch: float) -> Tensor:
        """The sum as a scalar. Raises KdvizError for a student that is no detector."""
        require(student.losses, "detector: the student gives no losses of its own; it must be a detector")
        first, *others = student.losses.values()
        return sum(others, first)


DETECTOR = Term("detector", build=DetectorLoss)

for method in (
    Method("detector", (DETECTOR,), "Of detectors: the labels alone, no teacher.", papers.FASTER_RCNN),
    Method(
        "roi_kd",
        (DETECTOR, Term("kd", settings={"temperature": 1.0})),
        "Of detectors: KL divergence of the regions' class logits.",
        papers.KD,
    ),
    Method(
        "roi_dkd",
        (DETECTOR, Term("dkd", settings={"beta": 0.25, "temperature": 1.0})),
        "Of detectors: DKD of the regions' class logits.",
        papers.DKD,
    ),
    Method(
        "roi_pld",
        (DETECTOR, Term("pld")),
        "Of detectors: Plackett-Luce ranking of the regions' class logits, label first.",
        papers.PLD,
    ),
):
    METHODS.add(method.name, method)
