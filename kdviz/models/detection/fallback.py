"""The operators of torchvision that Faster R-CNN calls, in Python, for machines where the compiled ones do not load.

Never used unless it is asked for; see `kdviz.models.detection.library`. torchvision looks up some of `SCHEMAS` when it
is imported; nms and roi_align get a Python version, the others stay without one and fail when they are called.
"""

import sys
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample

from kdviz.base.check import require

SCHEMAS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_align": "(Tensor input, Tensor rois, float spatial_scale, int pooled_height, int pooled_width,"
    " int sampling_ratio, bool aligned) -> Tensor",
    "_roi_align_backward": "(Tensor grad, Tensor rois, float spatial_scale, int pooled_height, int pooled_width,"
    " int batch_size, int channels, int height, int width, int sampling_ratio, bool aligned) -> Tensor",
    "roi_pool": "(Tensor input, Tensor rois, float spatial_scale, int pooled_height, int pooled_width)"
    " -> (Tensor, Tensor)",
    "_roi_pool_backward": "(Tensor grad, Tensor rois, Tensor argmax, float spatial_scale, int pooled_height,"
    " int pooled_width, int batch_size, int channels, int height, int width) -> Tensor",
    "ps_roi_align": "(Tensor input, Tensor rois, float spatial_scale, int pooled_height, int pooled_width,"
    " int sampling_ratio) -> (Tensor, Tensor)",
    "_ps_roi_align_backward": "(Tensor grad, Tensor rois, Tensor channel_mapping, float spatial_scale,"
    " int pooled_height, int pooled_width, int sampling_ratio, int batch_size, int channels, int height, int width)"
    " -> Tensor",
    "ps_roi_pool": "(Tensor input, Tensor rois, float spatial_scale, int pooled_height, int pooled_width)"
    " -> (Tensor, Tensor)",
    "_ps_roi_pool_backward": "(Tensor grad, Tensor rois, Tensor channel_mapping, float spatial_scale,"
    " int pooled_height, int pooled_width, int batch_size, int channels, int height, int width) -> Tensor",
    "deform_conv2d": "(Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, int stride_h,"
    " int stride_w, int pad_h, int pad_w, int dilation_h, int dilation_w, int groups, int offset_groups,"
    " bool use_mask) -> Tensor",
    "_deform_conv2d_backward": "(Tensor grad, Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias,"
    " int stride_h, int stride_w, int pad_h, int pad_w, int dilation_h, int dilation_w, int groups, int offset_groups,"
    " bool use_mask) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
}
_libraries: list[torch.library.Library] = []  # an operator lives as long as the library that defined it


def define() -> None:
    """Define the operators under torchvision's names, once."""
    if _libraries:
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    _libraries.append(library)
    for name, schema in SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name):
            library.define(name + schema)
    library.impl("nms", nms, "CompositeExplicitAutograd")
    library.impl("roi_align", roi_align, "CompositeImplicitAutograd")


def enable() -> None:
    """Tell torchvision, once it is imported, that nms and roi_align are there."""
    for name in ("torchvision.ops.boxes", "torchvision.ops.roi_align"):
        module: Any = sys.modules[name]
        module._assert_has_ops = lambda: None
        module._has_ops = lambda: True


def nms(dets: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Non-maximum suppression: places of the boxes that stay, best score first, int64 `[kept]`.

    A box stays unless one with a higher score that stays overlaps it by an IoU above the threshold.

    Args:
        dets: boxes `[n, 4]` as x1, y1, x2, y2.
        scores: `[n]`.
        iou_threshold: from 0 to 1.
    """
    order = scores.sort(descending=True, stable=True).indices
    boxes = dets[order].detach().cpu().numpy().astype(np.float32)
    left, top, right, bottom = boxes.T
    areas = (right - left) * (bottom - top)
    alive, kept = np.ones(len(boxes), dtype=bool), []
    for i in range(len(boxes)):
        if not alive[i]:
            continue
        kept.append(i)
        width = np.minimum(right[i], right[i + 1 :]) - np.maximum(left[i], left[i + 1 :])
        height = np.minimum(bottom[i], bottom[i + 1 :]) - np.maximum(top[i], top[i + 1 :])
        shared = width.clip(0) * height.clip(0)
        union = areas[i] + areas[i + 1 :] - shared
        alive[i + 1 :] &= shared <= np.float32(iou_threshold) * union
    return order[torch.tensor(kept, dtype=torch.int64, device=order.device)]


def roi_align(
    input: Tensor,
    rois: Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """Features of regions, each bin the mean of bilinear samples: `[k, c, pooled_height, pooled_width]`.

    Of PyTorch's own differentiable operations, so that its gradient needs no operator.

    Args:
        input: maps `[n, c, h, w]`.
        rois: `[k, 5]`, the image's place in the batch and x1, y1, x2, y2 in the image's pixels.
        spatial_scale: of the maps to the image.
        pooled_height, pooled_width: bins.
        sampling_ratio: samples per bin and axis, 1 or more; -1, which lets the region's size decide, is not there.
        aligned: whether pixels' centres lie at halves.
    Raises: KdvizError for a sampling ratio below 1.
    """
    require(sampling_ratio > 0, f"roi_align in Python: needs a sampling_ratio of 1 or more, got {sampling_ratio}")
    height, width = input.shape[2:]
    corners = rois[:, 1:].to(input.dtype) * spatial_scale - (0.5 if aligned else 0.0)
    x, x_in = _samples(corners[:, 0], corners[:, 2], pooled_width, sampling_ratio, width, aligned)
    y, y_in = _samples(corners[:, 1], corners[:, 3], pooled_height, sampling_ratio, height, aligned)
    owners = rois[:, 0].long()
    pooled = input.new_zeros(len(rois), input.shape[1], pooled_height, pooled_width)
    for number in range(len(input)):
        mine = (owners == number).nonzero()[:, 0]
        if len(mine) == 0:
            continue
        grid = torch.stack(torch.broadcast_tensors(x[mine][:, None, :], y[mine][:, :, None]), dim=-1)
        flat = grid.reshape(1, -1, grid.shape[2], 2)  # regions below each other: [1, k * samples, samples, 2]
        values = grid_sample(input[number : number + 1], flat, padding_mode="border", align_corners=True)
        values = values[0].view(input.shape[1], len(mine), *grid.shape[1:3]).transpose(0, 1)  # [k, c, y, x]
        values = values * (y_in[mine][:, :, None] & x_in[mine][:, None, :])[:, None]
        pooled = pooled.index_copy(0, mine, avg_pool2d(values, sampling_ratio))
    return pooled


def _samples(low: Tensor, high: Tensor, bins: int, per_bin: int, length: int, aligned: bool) -> tuple[Tensor, Tensor]:
    """Where regions are sampled along one axis, and which samples count.

    Args:
        low, high: the regions' ends `[k]`, in pixels of the map.
        bins, per_bin: of the region, and samples in each.
        length: of the map, in pixels.
        aligned: without it a region is one pixel long at least.
    Returns: positions `[k, bins * per_bin]`, from -1 to 1 as `grid_sample` takes them; whether each lies within a pixel
        of the map.
    """
    extent = high - low if aligned else (high - low).clamp(min=1.0)
    steps = (torch.arange(bins * per_bin, device=low.device, dtype=low.dtype) + 0.5) / (bins * per_bin)
    at = low[:, None] + extent[:, None] * steps
    return 2 * at.clamp(0, length - 1) / max(length - 1, 1) - 1, (at >= -1) & (at <= length)
