"""Average precision of a detector over a data set of boxes."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn

from kdviz.data import BoxData
from kdviz.metrics.average_precision import average_precision
from kdviz.models import evaluating

BATCH = 8


@torch.no_grad()
def score_boxes(model: nn.Module, data: BoxData, *, workers: int = 0) -> tuple[dict[str, float], list[float | None]]:
    """{"ap", "ap50", "ap75"} as fractions, and `ap` of each class in label order, None for one without a box.

    Args:
        model: of `kdviz.models.detection.DETECTORS`; its mode and buffers are restored.
        data: what to measure on.
        workers: threads that read images, where these are in files.
    """
    found = detect(model, data, workers=workers)
    precision = average_precision(list(data.boxes), found, classes=data.classes)
    return {name: getattr(precision, name) for name in ("ap", "ap50", "ap75")}, precision.by_class


@torch.no_grad()
def detect(
    model: nn.Module, data: BoxData, *, batch: int = BATCH, workers: int = 0
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Boxes `[d, 4]` in pixels, labels `[d]` from 0 and scores `[d]` that a detector finds in each image, on the CPU.

    Args:
        model: the detector.
        data: the images.
        batch: images per forward pass.
        workers: threads that read the images of a pass; 0: one after another.
    """
    device = next(model.parameters()).device
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    with evaluating(model), ThreadPoolExecutor(max(workers, 1)) as pool:
        for start in range(0, len(data), batch):
            places = range(start, min(start + batch, len(data)))
            read = pool.map(data.images.__getitem__, places)
            images = [image.to(device).float() / 255 for image in read]
            results: list[dict[str, Any]] = model(images)
            found += [(one["boxes"].cpu(), one["labels"].cpu() - 1, one["scores"].cpu()) for one in results]
    return found
