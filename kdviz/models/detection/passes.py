"""A detector's training pass in the parts that distillation needs: maps, proposals, logits at boxes, losses."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

Targets = Sequence[Mapping[str, Tensor]]


class Seen(NamedTuple):
    """What a training pass gives.

    Attributes:
        images: resized, normalised and padded to one size `[n, 3, h, w]`.
        sizes: (height, width) of each image within it.
        features: the pyramid's maps by name, finest first, `[n, 256, h, w]` each.
        proposals: the boxes that the box head was trained on, for each image `[r, 4]`.
        labels: their classes `[R]` of all images, 0 for background.
        logits: class logits at them `[R, classes + 1]`, background first.
        losses: torchvision's four, by name, scalars.
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
    anchors: list[Tensor]
    truth: list[Tensor]


def train_pass(net: Any, images: list[Tensor], targets: Targets) -> Seen:
    """The training pass of torchvision's Faster R-CNN: the same numbers as `net(images, targets)`, and all in between.

    In eval mode it is the same pass without the region proposals' own losses. Under autocast
    convolutions and products are computed in half precision, but not boxes, whose corners it would round.

    Args:
        net: of `DETECTORS`.
        images: float32 `[3, h, w]` each, from 0 to 1.
        targets: of each image, "boxes" `[m, 4]` in pixels and "labels" `[m]` from 1, int64.
    """
    import torch
    from torchvision.models.detection.roi_heads import fastrcnn_loss

    listed, resized = net.transform(images, [dict(target) for target in targets])
    features = backbone_maps(net, listed.tensors)
    proposals, losses = net.rpn(listed, features, resized)
    heads = net.roi_heads
    proposals, _, labels, regression = heads.select_training_samples(proposals, resized)
    logits, offsets = _heads(net, features, proposals, listed.image_sizes)
    classifier, box = fastrcnn_loss(logits, offsets, labels, regression)
    anchors = net.rpn.anchor_generator(listed, list(features.values()))
    return Seen(
        images=listed.tensors,
        sizes=listed.image_sizes,
        features=features,
        proposals=proposals,
        labels=torch.cat(labels),
        logits=logits,
        losses={"loss_classifier": classifier, "loss_box_reg": box, **losses},
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
