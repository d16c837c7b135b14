"""One update of a detector: the student's pass, the teacher's logits at the student's regions, the method's terms.

Under torchrun each process passes its own images. The losses are means over sampled regions, of which the processes
have different numbers, so that each is weighted by its process's share of all; the regions' logits of all processes are
gathered, and every process computes the methods' losses of all of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kdviz.methods import Batch, Objective, Scene
from kdviz.models import Outputs, evaluating
from kdviz.models.detection import Seen, backbone_maps, logits_at, train_pass
from kdviz.train.detection.batches import BoxBatch
from kdviz.train.device import autocast
from kdviz.train.distributed import ALONE, Ranks, Together
from kdviz.train.step import Step

Views = tuple[Outputs, Outputs | None, Batch]


@dataclass(frozen=True, eq=False)
class DetectorStep(Step):
    """A `Step` over `BoxBatch`es.

    Attributes:
        ranks: the processes that share each batch.
    """

    ranks: Ranks = ALONE

    def teach(self, batch: Any) -> None:  # noqa: ARG002
        """None: what the teacher sees is known only after the student's pass; see `views`."""
        return

    def _terms(self, batch: Any, taught: Outputs | None, epoch: float | Tensor, part: int) -> dict[str, Tensor]:
        if self.exchange is not None:
            return self.exchange(batch, taught, epoch=epoch, part=part)
        learnt, taught, seen = self.views(batch)
        return self.objective(learnt, taught, seen, epoch=epoch)

    def views(self, batch: BoxBatch) -> Views:
        """What the terms are given: outputs of student and teacher, and the regions' labels with the images' boxes.

        Both nets' logits are at the same regions, those that the student's proposals were sampled to. Logits and labels
        are of all processes' regions; maps, boxes and the student's own losses of this process's images, the losses so
        weighted that their mean over processes is that over all regions.
        """
        ranks = self.ranks
        with autocast(self.precision, batch.ids.device):
            seen = train_pass(
                self.student,
                batch.images,
                batch.targets,
                seeds=batch.seeds,
                frame=lambda size: (ranks.most(size[0]), ranks.most(size[1])),
            )
        losses = {name: value * self._share(seen.counts[name]) for name, value in seen.losses.items()}
        learnt = Outputs(ranks.below(seen.logits), tuple(seen.features.values()), losses=losses)
        scene = Scene(tuple(seen.anchors), tuple(seen.truth), self._average)
        return learnt, self._taught(seen), Batch(seen.images, ranks.below(seen.labels), batch.ids, scene=scene)

    def _average(self, count: Tensor) -> Tensor:
        return self.ranks.mean({"count": count.float()})["count"]

    def _share(self, count: int) -> float:
        """What this process has of something, over the mean of all processes."""
        return 1.0 if self.ranks.world == 1 else count / float(self._average(torch.tensor(count)))

    @torch.no_grad()
    def _taught(self, seen: Seen) -> Outputs | None:
        if self.teacher is None:
            return None
        with autocast(self.precision, seen.images.device):
            features = backbone_maps(self.teacher, seen.images)
            logits = logits_at(self.teacher, features, seen.proposals, seen.sizes)
        return Outputs(self.ranks.below(logits), tuple(features.values()))


class DetectorTogether(Together):
    """A detector and its method as one module, so that DDP sees every weight that learns and the loss that it gets.

    Args:
        student: the detector.
        objective: the method.
        precision: as `kdviz.train.step.Step`.
        ranks: all processes.
        views: `DetectorStep.views`.
    """

    def __init__(
        self, student: nn.Module, objective: Objective, precision: str, ranks: Ranks, views: Callable[[BoxBatch], Views]
    ) -> None:
        super().__init__(student, objective, precision, ranks)
        self.views = views

    def forward(
        self,
        batch: Any,
        taught: Outputs | None,
        *,
        epoch: float | Tensor,
        part: int,  # noqa: ARG002
        parts: int,  # noqa: ARG002
    ) -> dict[str, Tensor]:
        """The terms of this rank's images, whose means over the ranks are those of the whole batch."""
        learnt, taught, seen = self.views(batch)
        return self.objective(learnt, taught, seen, epoch=epoch)

    def reached(self, batch: Any, taught: Outputs | None) -> list[bool]:
        """Whether the loss reaches each weight that learns; nothing is changed, and all ranks take part."""
        weights = [weight for weight in self.parameters() if weight.requires_grad]
        device = batch.ids.device
        with evaluating(self), torch.random.fork_rng([device] if device.type == "cuda" else []):
            self.train()  # a detector in eval mode has not all of its losses
            total = self.forward(batch, taught, epoch=0.0, part=0, parts=1)["total"]
            return [grad is not None for grad in torch.autograd.grad(total, weights, allow_unused=True)]
