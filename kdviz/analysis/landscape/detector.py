"""A detector's own losses at any weights: the objective of its landscape."""

import json
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from kdviz.analysis.attributes import meaning
from kdviz.analysis.landscape.options import Measurement
from kdviz.base.check import require, unknown
from kdviz.base.files import versions
from kdviz.base.processes import local_device
from kdviz.base.seeds import derive
from kdviz.data import BoxData
from kdviz.models import net_of

BATCH = 8  # images per forward pass; they draw their regions one after another from one seed
SUM = "detector"
LOSSES = {  # torchvision's names of the parts
    SUM: ("1", "total loss"),
    "loss_classifier": ("nats", "class loss"),  # cross-entropy of regions
    "loss_box_reg": ("1", "box loss"),  # smooth L1 of their boxes
    "loss_objectness": ("nats", "objectness loss"),  # binary cross-entropy of anchors
    "loss_rpn_box_reg": ("1", "proposal loss"),  # smooth L1 of their boxes
}


class DetectorLosses:
    """weights -> mean losses of a detector over fixed images: for a detector what `Evaluator` is for other nets.

    Batch normalisation uses its running statistics. The regions and anchors that the losses are of are drawn at random
    among the proposals; every point draws by the same seed. The model itself is never touched.

    Args:
        model: a detector, or its `Checkpoint`.
        data: the images with their boxes; those without a box are left out.
        measurement: losses (of `LOSSES`), samples (images), seed and device; all else at its default.
    Attributes:
        weights: name -> tensor, the detector's parameters, on the device.
        terms: the losses that are measured, without settings.
        chunk, threads: images at a time, and passes at the same time.
        attrs: what is needed to repeat the measurement.
        variables: unit, long name and role of every value.
    Raises:
        KdvizError: an unknown loss, a measurement that is not a detector's, a data set without boxes.
    Source: ours.
    """

    chunk, threads = BATCH, 1

    def __init__(self, model: Any, data: BoxData, measurement: Measurement) -> None:
        _check(measurement)
        self.measurement = measurement
        self.terms: dict[str, dict[str, Any]] = {name: {} for name in measurement.losses}
        usable = data.trainable()
        count = measurement.samples
        self.data = usable if count is None else usable.subset(min(count, len(usable)), seed=measurement.seed)
        device = torch.device(measurement.device or local_device())
        self._net: Any = deepcopy(net_of(model)).to(device).eval()
        for part in (self._net, self._net.rpn, self._net.roi_heads):
            part.training = True  # of this module alone: it gives losses, and batch norm below it stays as it is
        self.weights = {name: tensor.detach().clone() for name, tensor in self._net.named_parameters()}
        self.variables = {name: meaning(*LOSSES[name], "loss") for name in self.terms}
        self.attrs = {
            "data": data.name,
            "split": data.split,
            "data_sha256": data.sha256,
            "synthetic": int(data.synthetic),
            **data.remarks,
            "samples": len(self.data),
            "population": len(usable),
            "samples_seed": measurement.seed,
            "losses": " ".join(self.terms),
            "precision": "fp32",
            "bn": "frozen",
            "device": device.type,
            "versions": json.dumps(versions()),
        }

    @torch.no_grad()
    def __call__(self, weights: dict[str, Tensor]) -> dict[str, float]:
        """The losses at these weights by name: means over the batches, weighted by their images."""
        device = next(iter(self.weights.values())).device
        sums = dict.fromkeys(LOSSES, 0.0)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            for start in range(0, len(self.data), BATCH):
                places = range(start, min(start + BATCH, len(self.data)))
                images = [self.data.images[place].to(device).float() / 255 for place in places]
                targets = [self._target(place, device) for place in places]
                torch.manual_seed(derive(self.measurement.seed, "regions", start))
                losses = functional_call(self._net, weights, (images, targets))
                for name, value in losses.items():
                    sums[name] += float(value) * len(places) / len(self.data)
        sums[SUM] = sum(sums.values())
        return {name: sums[name] for name in self.terms}

    def _target(self, place: int, device: torch.device) -> dict[str, Tensor]:
        corners, labels, crowd = self.data.boxes[place]
        return {"boxes": corners[~crowd].to(device), "labels": labels[~crowd].to(device) + 1}


def _check(measurement: Measurement) -> None:
    """Refuse what is not measured of a detector, and losses that it has not."""
    for name in measurement.losses:
        if name not in LOSSES:
            raise unknown("loss of a detector", name, LOSSES)
    others = {
        "teacher": measurement.teacher is None,
        "settings": not measurement.settings,
        "precision": measurement.precision == "fp32",
        "bn": measurement.bn in (None, "frozen"),
        "chunk": measurement.chunk in ("auto", BATCH),
    }
    refused = [name for name, fine in others.items() if not fine]
    require(
        not refused,
        f"landscape: a detector is measured in fp32 with frozen batch norm, {BATCH} images at a time, without a"
        f" teacher; leave {', '.join(refused)} as by default",
    )
