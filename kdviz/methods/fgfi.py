"""FGFI: a detector's maps imitated where anchors lie near objects."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kdviz.base.check import KdvizError, require
from kdviz.losses import papers
from kdviz.losses.inputs import unmixed, wide
from kdviz.methods.batch import Batch
from kdviz.methods.detection import DETECTOR
from kdviz.methods.fpn_fitnet import pyramids
from kdviz.methods.method import METHODS, Method, Term
from kdviz.methods.shapes import both
from kdviz.methods.term import Probe
from kdviz.metrics.overlap import iou
from kdviz.models import Outputs


def near_objects(
    anchors: Tensor, truth: Tensor, sizes: Sequence[tuple[int, int]], *, threshold: float = 0.5
) -> list[Tensor]:
    """Where maps are imitated: positions with an anchor whose IoU with a ground-truth box exceeds `threshold` times the
    best IoU that any anchor has with that box.

    Args:
        anchors: of one image `[a, 4]`, map by map and row by row, as many at every position.
        truth: its ground-truth boxes `[m, 4]`; without any, no position counts.
        sizes: (height, width) of each map.
        threshold: from 0 to 1.
    Returns: one bool mask `[h, w]` per map.
    Raises: KdvizError where the anchors are not as many at every position.
    Source: Wang et al. 2019, sec. 3.1, with psi as the threshold.
    """
    positions = [height * width for height, width in sizes]
    each, rest = divmod(len(anchors), sum(positions))
    require(rest == 0 and each, f"fgfi: {len(anchors)} anchors do not fit maps with {sum(positions)} positions")
    overlaps = iou(truth, anchors)
    best = overlaps.amax(1, keepdim=True)
    chosen = (overlaps > threshold * best).any(0)
    parts = chosen.view(-1, each).any(1).split(positions)
    return [part.view(size) for part, size in zip(parts, sizes, strict=True)]


class FGFI(nn.Module):
    """Squared error between the teacher's maps and a convolution of the student's, at positions near objects.

    L = 1/(2 N) sum (conv(F_s) - F_t)^2 over maps, channels and the N positions of `near_objects`; conv is 3x3, one for
    each map.

    Args:
        probe: of both nets.
        threshold: psi, share of each box's best IoU that an anchor must exceed, from 0 to 1.

    Source: Wang et al. 2019, eq. 2, weight .01.

    Differs from: the paper, which imitates one map and puts a ReLU behind the convolution; here every map of a feature
    pyramid is imitated, each box's best IoU is over the anchors of all maps, and there is no ReLU, because a pyramid's
    maps have none.
    """

    needs = frozenset({"teacher", "features", "boxes"})
    couples = False  # by `Scene.average`

    def __init__(self, probe: Probe, *, threshold: float = 0.5) -> None:
        super().__init__()
        require(0 <= threshold <= 1, f"fgfi: threshold must be 0..1, got {threshold}")
        levels = pyramids("fgfi", *both("fgfi", probe))
        self.threshold = threshold
        self.adapters = nn.ModuleList(
            nn.Conv2d(learnt.shape[1], taught.shape[1], 3, padding=1) for learnt, taught in levels
        )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, *, epoch: float) -> Tensor:
        """The error as a scalar; 0 where no position is near an object. Raises KdvizError outside a detector's step."""
        if batch.scene is None:
            raise KdvizError("fgfi: needs anchors and ground-truth boxes; the student must be a detector")
        levels = pyramids("fgfi", student, teacher)
        sizes = [(learnt.shape[2], learnt.shape[3]) for learnt, _ in levels]
        of_images = [
            near_objects(anchors, truth, sizes, threshold=self.threshold)
            for anchors, truth in zip(batch.scene.anchors, batch.scene.truth, strict=True)
        ]
        error, count = student.logits.new_zeros(()), student.logits.new_zeros(())
        with unmixed(student.logits.device):
            for adapt, (learnt, taught), masks in zip(self.adapters, levels, zip(*of_images, strict=True), strict=True):
                mask = torch.stack(masks)[:, None]  # [n, 1, h, w]
                gaps = (adapt(wide(learnt)) - wide(taught.detach())).square()
                error, count = error + (gaps * mask).sum(), count + mask.sum()
        count = batch.scene.average(count)
        return error / (2 * torch.where(count > 0, count, 1))


METHODS.add(
    "fgfi",
    Method(
        "fgfi",
        (DETECTOR, Term("fgfi", 0.01, build=FGFI)),
        "Of detectors: the pyramid's maps imitated near objects.",
        papers.FGFI,
        kind="feature",
    ),
)
