"""One update of a detector: the student's pass, the teacher's logits at the student's regions, the method's terms."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kdviz.methods import Batch, Scene
from kdviz.models import Outputs
from kdviz.models.detection import Seen, backbone_maps, logits_at, train_pass
from kdviz.train.detection.batches import BoxBatch
from kdviz.train.device import autocast
from kdviz.train.step import Step


@dataclass(frozen=True, eq=False)
class DetectorStep(Step):
    """A `Step` over `BoxBatch`es."""

    def teach(self, batch: Any) -> None:  # noqa: ARG002
        """None: what the teacher sees is known only after the student's pass; see `views`."""
        return

    def _terms(self, batch: Any, taught: Outputs | None, epoch: float | Tensor, part: int) -> dict[str, Tensor]:  # noqa: ARG002
        learnt, taught, seen = self.views(batch)
        return self.objective(learnt, taught, seen, epoch=epoch)

    def views(self, batch: BoxBatch) -> tuple[Outputs, Outputs | None, Batch]:
        """What the terms are given: outputs of student and teacher, and the regions' labels with the images' boxes.

        Both nets' logits are at the same regions, those that the student's proposals were sampled to.
        """
        with autocast(self.precision, batch.ids.device):
            seen = train_pass(self.student, batch.images, batch.targets)
        learnt = Outputs(seen.logits, tuple(seen.features.values()), losses=seen.losses)
        scene = Scene(tuple(seen.anchors), tuple(seen.truth))
        return learnt, self._taught(seen), Batch(seen.images, seen.labels, batch.ids, scene=scene)

    @torch.no_grad()
    def _taught(self, seen: Seen) -> Outputs | None:
        if self.teacher is None:
            return None
        with autocast(self.precision, seen.images.device):
            features = backbone_maps(self.teacher, seen.images)
            logits = logits_at(self.teacher, features, seen.proposals, seen.sizes)
        return Outputs(logits, tuple(features.values()))
