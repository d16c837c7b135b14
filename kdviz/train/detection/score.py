"""Average precision of a detector over a data set of boxes."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn

from kdviz.base.processes import said_by_any_rank
from kdviz.data import BoxData
from kdviz.metrics.average_precision import average_precision
from kdviz.models import evaluating
from kdviz.train.distributed import ALONE, Ranks

BATCH = 8
Detections = tuple[Tensor, Tensor, Tensor]


@torch.no_grad()
def score_boxes(
    model: nn.Module, data: BoxData, *, workers: int = 0, ranks: Ranks = ALONE
) -> tuple[dict[str, float], list[float | None]]:
    """{"ap", "ap50", "ap75"} as fractions, and `ap` of each class in label order, None for one without a box.

    Args:
        model: of `kdviz.models.detection.DETECTORS`; its mode and buffers are restored.
        data: what to measure on.
        workers: threads that read images, where these are in files.
        ranks: the processes that share the images, all of which call this; as `detect`.
    """
    found = detect(model, data, workers=workers, ranks=ranks)
    precision = average_precision(list(data.boxes), found, classes=data.classes)
    return {name: getattr(precision, name) for name in ("ap", "ap50", "ap75")}, precision.by_class


@torch.no_grad()
def detect(
    model: nn.Module, data: BoxData, *, batch: int = BATCH, workers: int = 0, ranks: Ranks = ALONE
) -> list[Detections]:
    """Boxes `[d, 4]` in pixels, labels `[d]` from 0 and scores `[d]` that a detector finds in each image, on the CPU.

    Args:
        model: the detector.
        data: the images.
        batch: images per forward pass.
        workers: threads that read the images of a pass; 0: one after another.
        ranks: processes that take the passes in turn, each one as it is in one process, with the first one's buffers.
            Each is given what all found.
    """
    device = next(model.parameters()).device
    found: list[Tensor] = []
    with evaluating(model), ThreadPoolExecutor(max(workers, 1)) as pool, said_by_any_rank():
        ranks.share_buffers(model)
        for start in range(0, len(data), batch)[ranks.rank :: ranks.world]:
            places = range(start, min(start + batch, len(data)))
            read = pool.map(data.images.__getitem__, places)
            images = [image.to(device).float() / 255 for image in read]
            results: list[dict[str, Any]] = model(images)
            found += [_rows(place, one) for place, one in zip(places, results, strict=True)]
    return _by_image(ranks.below(torch.cat(found) if found else torch.zeros(0, 7, dtype=torch.float64)), len(data))


def _rows(place: int, found: dict[str, Tensor]) -> Tensor:
    """An image's detections as rows `[d, 7]` of place, corners, label and score, all of which float64 holds."""
    label, score = (found[name].double().cpu()[:, None] for name in ("labels", "scores"))
    return torch.cat([torch.full_like(label, place), found["boxes"].double().cpu(), label - 1, score], 1)


def _by_image(rows: Tensor, images: int) -> list[Detections]:
    """The detections of each image, in the order of the images."""
    places = rows[:, 0].long()
    parts = rows[places.argsort(stable=True)].split(places.bincount(minlength=images).tolist())
    return [(part[:, 1:5].float(), part[:, 5].long(), part[:, 6].float()) for part in parts]
