"""A detector's training pass in the parts that distillation needs: maps, proposals, logits at boxes, losses."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor
from torch.nn.functional import pad

from kdviz.models.detection.sampling import drawing

Size = tuple[int, int]  # height and width in pixels
Targets = Sequence[Mapping[str, Tensor]]


RPN_LOSSES = ("loss_objectness", "loss_rpn_box_reg")


class Seen(NamedTuple):
    """What a training pass gives.

    Attributes:
        images: resized, normalised and padded to one size `[n, 3, h, w]`.
        sizes: (height, width) of each image within it.
        features: the pyramid's maps by name, finest first, `[n, 256, h, w]` each.
        proposals: the boxes that the box head was trained on, for each image `[r, 4]`.
        labels: their classes `[R]` of all images, 0 for background.
        logits: class logits at them `[R, classes + 1]`, background first.
        losses: torchvision's four, by name, scalars; means over what `counts` counts.
        counts: how many regions, or anchors, the mean of each loss is over.
        anchors: of each image `[a, 4]`, map by map.
        truth: ground-truth boxes of each image `[m, 4]`, in pixels of `images`.
    """

    images: Tensor
    sizes: list[tuple[int, int]]
    features: Mapping[str, Tensor]
    proposals: list[Tensor]
    labels: Tensor
    logits: Tensor
    losses: Mapping[str, Tensor]
    counts: Mapping[str, int]
    anchors: list[Tensor]
    truth: list[Tensor]


def train_pass(
    net: Any,
    images: list[Tensor],
    targets: Targets,
    *,
    seeds: Sequence[int] = (),
    frame: Callable[[Size], Size] = lambda size: size,
) -> Seen:
    """The training pass of torchvision's Faster R-CNN: the same numbers as `net(images, targets)`, and all in between.

    In eval mode it is the same pass without the region proposals' own losses. Under autocast
    convolutions and products are computed in half precision, but not boxes, whose corners it would round.

    Args:
        net: of `DETECTORS`.
        images: float32 `[3, h, w]` each, from 0 to 1.
        targets: of each image, "boxes" `[m, 4]` in pixels and "labels" `[m]` from 1, int64.
        seeds: of each image, what its anchors and regions are drawn by [default: torch's global random state].
        frame: from the size that the images are padded to, a larger one to pad them to; the anchors cover it, so
            that an image's losses depend on it.
    """
    import torch
    from torchvision.models.detection.roi_heads import fastrcnn_loss

    listed, resized = net.transform(images, [dict(target) for target in targets])
    height, width = listed.tensors.shape[-2:]
    wanted = frame((height, width))
    listed.tensors = pad(listed.tensors, (0, wanted[1] - width, 0, wanted[0] - height))
    features = backbone_maps(net, listed.tensors)
    heads = net.roi_heads
    with drawing(net, seeds, listed.tensors.device):
        proposals, losses = net.rpn(listed, features, resized)
        drawn = net.rpn.fg_bg_sampler.count
        proposals, _, labels, regression = heads.select_training_samples(proposals, resized)
    logits, offsets = _heads(net, features, proposals, listed.image_sizes)
    classifier, box = fastrcnn_loss(logits, offsets, labels, regression)
    anchors = net.rpn.anchor_generator(listed, list(features.values()))
    losses = {"loss_classifier": classifier, "loss_box_reg": box, **losses}
    return Seen(
        images=listed.tensors,
        sizes=listed.image_sizes,
        features=features,
        proposals=proposals,
        labels=torch.cat(labels),
        logits=logits,
        losses=losses,
        counts={name: drawn if name in RPN_LOSSES else len(logits) for name in losses},
        anchors=anchors,
        truth=[target["boxes"] for target in resized],
    )


def backbone_maps(net: Any, images: Tensor) -> dict[str, Tensor]:
    """The pyramid's maps of prepared images `[n, 3, h, w]`, by name, in float32.

    Args:
        net: of `DETECTORS`.
        images: resized, normalised and padded.
    """
    return net.backbone(images)


def logits_at(net: Any, features: Mapping[str, Tensor], boxes: list[Tensor], sizes: list[tuple[int, int]]) -> Tensor:
    """Class logits `[R, classes + 1]` of a net's own box head at given boxes, background first.

    Args:
        net: of `DETECTORS`.
        features: its own maps; `backbone_maps`.
        boxes: of each image `[r, 4]`, in pixels of the prepared images.
        sizes: (height, width) of each image.
    """
    return _heads(net, features, boxes, sizes)[0]


def _heads(
    net: Any, features: Mapping[str, Tensor], boxes: list[Tensor], sizes: list[tuple[int, int]]
) -> tuple[Tensor, Tensor]:
    heads = net.roi_heads
    pooled = heads.box_roi_pool(features, boxes, sizes)
    return heads.box_predictor(heads.box_head(pooled))
