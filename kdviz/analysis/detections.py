"""Class logits of detectors at the boxes that a student finds objects in: what tau and histograms are made of."""

from collections.abc import Callable
from typing import Any, NamedTuple

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

CORNERS = ("x1", "y1", "x2", "y2")


class Regions(NamedTuple):
    """The matched boxes of one image.

    Attributes:
        corners: of the proposals `[r, 4]`, x1, y1, x2, y2 in pixels of the image.
        labels: of the objects they match `[r]`, from 1.
        ids: of the objects `[r]`, their ground-truth boxes' numbers in the full split.
    """

    corners: Tensor
    labels: Tensor
    ids: Tensor


def matched_logits(
    model: Any,
    data: BoxData,
    *,
    teacher: Any = None,
    at: xr.Dataset | None = None,
    least: float = 0.5,
    batch: int = 8,
    label: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """Class logits of a detector, and of its teacher, at matched boxes: of every ground-truth box the student's
    proposal with the largest IoU, where that is `least` or more.

    Both box heads see the same boxes, the student's. Ground-truth boxes that no proposal matches are counted in the
    attributes, not measured; crowds are left out.

    Args:
        model: a detector, or its `Checkpoint`.
        data: images with boxes.
        teacher: the same of its teacher; None for the student alone.
        at: another student's result over the same images, whose boxes are taken instead of this student's.
        least: IoU, a fraction above 0; unused with `at`.
        batch: images per forward pass.
        label: the student's name in figures; None takes the checkpoint's method.
        progress: called with (images done, images in all).
    Returns: as `collect_logits`: (sample, channel) with background as channel 0 and the classes from 1, a sample for
        each matched box, numbered as the ground-truth box is in the full split; `image` (sample) is its image's place
        in the full split, `box` (sample, corner) the proposal in pixels of the image.
    Raises: KdvizError where no box is matched, or for `at` of other images.
    """
    require(0 < least <= 1, f"matched_logits: least must be above 0 and at most 1, got {least}")
    if at is not None:
        same = at.attrs.get("data_sha256") == data.sha256 and "box" in at.coords
        require(same, "matched_logits: at must be another detector's matched logits over the same images")
    nets: dict[str, Any] = {"student": net_of(model)} | ({} if teacher is None else {"teacher": net_of(teacher)})
    parts: dict[str, list[Tensor]] = {name: [] for name in (*nets, "target", "image", "box", "sample")}
    device = next(nets["student"].parameters()).device
    with evaluating(*nets.values()), torch.no_grad():
        for start in range(0, len(data), batch):
            places = range(start, min(start + batch, len(data)))
            images = [data.images[place].to(device).float() / 255 for place in places]
            prepared, _ = nets["student"].transform(images)
            scales = [_scale(one, size) for one, size in zip(images, prepared.image_sizes, strict=True)]
            maps = {name: backbone_maps(net, prepared.tensors) for name, net in nets.items()}
            if at is None:
                proposed, _ = nets["student"].rpn(prepared, maps["student"])
                seen = zip(places, proposed, scales, strict=True)
                found = [_matched(data, place, boxes / scale, least) for place, boxes, scale in seen]
            else:
                found = [_held(at, int(data.ids[place]), device) for place in places]
            if any(len(one.ids) for one in found):
                boxes = [one.corners * scale for one, scale in zip(found, scales, strict=True)]
                for name, net in nets.items():
                    parts[name].append(logits_at(net, maps[name], boxes, prepared.image_sizes).float().cpu())
                for name, column in (("box", 0), ("target", 1), ("sample", 2)):
                    parts[name].append(torch.cat([one[column] for one in found]).cpu())
                counts = torch.tensor([len(one.ids) for one in found])
                parts["image"].append(data.ids[list(places)].repeat_interleave(counts))
            if progress:
                progress(places.stop, len(data))
    require(parts["student"], f"matched_logits: no proposal has an IoU of {least} with a box; is the detector trained?")
    arrays = {name: torch.cat(found).numpy() for name, found in parts.items()}
    image, box, sample = (arrays.pop(name) for name in ("image", "box", "sample"))
    facts: dict[str, Any] = {"matched_iou": least} if at is None else {"matched_iou": at.attrs["matched_iou"]}
    facts["boxes_without_match"] = sum(int((~one.crowd).sum()) for one in data.boxes) - len(sample)
    facts["boxes_of"] = getattr(model, "sha256", None) if at is None else at.attrs.get("boxes_of")
    attrs = origin_of(model, data, teacher, label) | {name: fact for name, fact in facts.items() if fact is not None}
    names = np.array(["background", *data.class_names], dtype=object)
    coordinates = {"sample": sample, "image": ("sample", image), "box": (("sample", "corner"), box)}
    return dataset_of(arrays, None, attrs).assign_coords(
        **coordinates, corner=list(CORNERS), class_name=("channel", names)
    )


def _scale(image: Tensor, size: tuple[int, int]) -> Tensor:
    """What the corners of boxes are multiplied by where an image is resized to (height, width)."""
    height, width = image.shape[1:]
    return torch.tensor([size[1] / width, size[0] / height] * 2, device=image.device)


def _matched(data: BoxData, place: int, proposed: Tensor, least: float) -> Regions:
    """Of every ground-truth box the proposal `[p, 4]` with the largest IoU, where that is large enough."""
    corners, labels, crowd = (one.to(proposed.device) for one in data.boxes[place])
    single = (~crowd).nonzero()[:, 0]
    if not len(single) or not len(proposed):
        none = single[:0]
        return Regions(proposed[:0], none, none)
    overlap, best = iou(corners[single], proposed).max(1)
    fits = overlap >= least
    chosen = single[fits]
    return Regions(proposed[best[fits]], labels[chosen] + 1, int(data.first[place]) + chosen)


def _held(at: xr.Dataset, image: int, device: torch.device) -> Regions:
    """The boxes of one image in an earlier result."""
    mine = at["image"].values == image
    held = (at["box"].values[mine], at["target"].values[mine], at["sample"].values[mine])
    return Regions(*(torch.from_numpy(one).to(device) for one in held))
