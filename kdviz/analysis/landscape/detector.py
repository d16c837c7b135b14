"""A detector's own losses as the objective of `sweep`: its landscape, in Python."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from kdviz.analysis.attributes import meaning
from kdviz.base.seeds import derive
from kdviz.data import BoxData
from kdviz.models import evaluating, net_of

LOSSES = {  # torchvision's names
    "loss_classifier": ("nats", "cross-entropy of regions"),
    "loss_box_reg": ("1", "smooth L1 of regions' boxes"),
    "loss_objectness": ("nats", "binary cross-entropy of anchors"),
    "loss_rpn_box_reg": ("1", "smooth L1 of anchors' boxes"),
}


@dataclass(frozen=True, eq=False)
class DetectorLosses:
    """weights -> mean losses of a detector over fixed images, as `sweep` calls an objective.

    Batch normalisation uses its running statistics. The regions and anchors that the losses are of are drawn at random
    among the proposals; every point draws by the same seed.

    Attributes:
        net: the detector; its own weights, modes and buffers stay as they are.
        data: the images with their boxes; those without a box are left out.
        seed: of the draws.
        batch: images per forward pass.
    """

    net: Any
    data: BoxData
    seed: int = 0
    batch: int = 8

    @property
    def attrs(self) -> dict[str, Any]:
        """What the values are of."""
        attrs = {"data": self.data.name, "split": self.data.split, "data_sha256": self.data.sha256}
        return {**attrs, "samples": len(self.data), "synthetic": int(self.data.synthetic), "seed": self.seed}

    @property
    def variables(self) -> dict[str, dict[str, Any]]:
        """Unit and name of every value."""
        parts = {name: meaning(unit, text, "loss") for name, (unit, text) in LOSSES.items()}
        return {"detector": meaning("1", "sum of the detector's losses", "loss"), **parts}

    @torch.no_grad()
    def __call__(self, weights: dict[str, Tensor]) -> dict[str, float]:
        """The losses at these weights by name, and "detector", their sum: means over the batches, by images."""
        device, sums = next(self.net.parameters()).device, dict.fromkeys(LOSSES, 0.0)
        with _losing(self.net), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            for start in range(0, len(self.data), self.batch):
                places = range(start, min(start + self.batch, len(self.data)))
                images = [self.data.images[place].to(device).float() / 255 for place in places]
                targets = [self._target(place, device) for place in places]
                torch.manual_seed(derive(self.seed, "regions", start))
                losses = functional_call(self.net, weights, (images, targets))
                for name in sums:
                    sums[name] += float(losses[name]) * len(places) / len(self.data)
        return {"detector": sum(sums.values()), **sums}

    def _target(self, place: int, device: torch.device) -> dict[str, Tensor]:
        corners, labels, crowd = self.data.boxes[place]
        return {"boxes": corners[~crowd].to(device), "labels": labels[~crowd].to(device) + 1}


def detector_losses(model: Any, data: BoxData, *, samples: int | None = None, seed: int = 0) -> DetectorLosses:
    """The objective of a detector's landscape.

    With `weights = dict(net.named_parameters())`, `sweep(detector_losses(net, data), weights, random_pair(weights,
    seed=0), axis(1.0, 21), axis(1.0, 21))` is its plane; `plots.landscape` draws it.

    Args:
        model: a detector, or its `Checkpoint`.
        data: images with boxes.
        samples: how many of them [default: all that have a box].
        seed: of the images drawn, and of the regions in every pass.
    """
    usable = data.trainable()
    chosen = usable.subset(samples, seed=seed) if samples is not None else usable
    return DetectorLosses(net_of(model), chosen, seed)


@contextmanager
def _losing(net: nn.Module) -> Iterator[None]:
    """The detector as it gives losses, its batch normalisation as it measures; afterwards all as before."""
    with evaluating(net):
        for part in (net, net.rpn, net.roi_heads):
            part.training = True  # type: ignore[union-attr]  # of this module alone
        yield
