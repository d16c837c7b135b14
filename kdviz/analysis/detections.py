"""Class logits of two detectors at the boxes that the student finds objects in: what tau and histograms are made of."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from kdviz.analysis.logits import dataset_of, origin_of
from kdviz.base.check import require
from kdviz.data import BoxData
from kdviz.metrics.overlap import iou
from kdviz.models import evaluating, net_of
from kdviz.models.detection import backbone_maps, logits_at


def matched_logits(
    model: Any,
    data: BoxData,
    *,
    teacher: Any = None,
    least: float = 0.5,
    batch: int = 8,
    label: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """Class logits of a detector, and of its teacher, at matched boxes: of every ground-truth box the student's
    proposal with the largest IoU, where that is `least` or more.

    Both box heads see the same boxes, the student's. Boxes that no proposal matches are counted in the attributes, not
    measured; crowds are left out.

    Args:
        model: a detector, or its `Checkpoint`.
        data: images with boxes.
        teacher: the same of its teacher; None for the student alone.
        least: IoU, a fraction above 0.
        batch: images per forward pass.
        label: the student's name in figures; None takes the checkpoint's method.
        progress: called with (images done, images in all).
    Returns: as `collect_logits`: (sample, channel) with background as channel 0 and the classes from 1, a sample for
        each matched box; `image` (sample) is its image's place in the full split.
    Raises: KdvizError where no box is matched.
    """
    require(0 < least <= 1, f"matched_logits: least must be above 0 and at most 1, got {least}")
    net, taught = net_of(model), None if teacher is None else net_of(teacher)
    parts: dict[str, list[Tensor]] = {"student": [], "target": [], "image": []} | ({"teacher": []} if taught else {})
    missed = 0
    nets = [net] if taught is None else [net, taught]
    with evaluating(*nets), torch.no_grad():
        for start in range(0, len(data), batch):
            places = range(start, min(start + batch, len(data)))
            maps, images, sizes, chosen, labels = _matches(net, data, places, least)
            counts = [len(one) for one in chosen]
            missed += sum(int((~data.boxes[place].crowd).sum()) for place in places) - sum(counts)
            if sum(counts):
                parts["student"].append(logits_at(net, maps, chosen, sizes).float().cpu())
                if taught is not None:
                    parts["teacher"].append(
                        logits_at(taught, backbone_maps(taught, images), chosen, sizes).float().cpu()
                    )
                parts["target"].append(torch.cat(labels).cpu())
                parts["image"].append(data.ids[list(places)].repeat_interleave(torch.tensor(counts)))
            if progress:
                progress(places.stop, len(data))
    require(parts["student"], f"matched_logits: no proposal has an IoU of {least} with a box; is the detector trained?")
    arrays = {name: torch.cat(found).numpy() for name, found in parts.items()}
    attrs = origin_of(model, data, teacher, label)
    image = arrays.pop("image")
    result = dataset_of(arrays, None, {**attrs, "matched_iou": least, "boxes_without_match": missed})
    names = np.array(["background", *data.class_names], dtype=object)
    return result.assign_coords(image=("sample", image), class_name=("channel", names))


def _matches(
    net: Any, data: BoxData, places: range, least: float
) -> tuple[dict[str, Tensor], Tensor, list[tuple[int, int]], list[Tensor], list[Tensor]]:
    """The student's maps, the prepared images and their sizes, and of each image the matched proposals with labels."""
    device = next(net.parameters()).device
    images = [data.images[place].to(device).float() / 255 for place in places]
    single = [data.boxes[place].corners[~data.boxes[place].crowd].to(device) for place in places]
    prepared, targets = net.transform(images, [{"boxes": one} for one in single])
    maps = backbone_maps(net, prepared.tensors)
    proposals, _ = net.rpn(prepared, maps)
    chosen, labels = [], []
    for place, found, target in zip(places, proposals, targets, strict=True):
        kinds = data.boxes[place].labels[~data.boxes[place].crowd].to(device) + 1
        if len(found) == 0 or len(kinds) == 0:
            best = torch.zeros(0, dtype=torch.int64, device=device)
            chosen.append(found[best])
            labels.append(best)
            continue
        overlap, best = iou(target["boxes"], found).max(1)
        chosen.append(found[best[overlap >= least]])
        labels.append(kinds[overlap >= least])
    return maps, prepared.tensors, prepared.image_sizes, chosen, labels
