"""Detectors and data sets of boxes small enough for tests, registered when this is imported."""

import os
from dataclasses import replace

import torch
from torch import nn

from kdviz.data import DATA, BoxData
from kdviz.data.base import DataEntry
from kdviz.data.boxes import LOADERS, boxes_of
from kdviz.models.detection import DETECTORS, FALLBACK, torchvision_detection

os.environ[FALLBACK] = "1"  # they run on the Python operators where the compiled ones do not load
SIDE = 64


class Small(nn.Module):
    """A backbone of the pyramid's strides, quick on one core; its last maps are those of a ResNet in shape."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU())
        for level in range(1, 5):
            setattr(self, f"layer{level}", nn.Sequential(nn.Conv2d(width, width, 3, 2, 1), nn.ReLU()))

    def forward(self, images):
        raise NotImplementedError


def small(width=8):
    """A detector's constructor on the small backbone, its box head narrow."""

    def make(classes):
        from kdviz.models.detection.nets import _detector

        detection = torchvision_detection()
        layers = {f"layer{level}": str(level - 1) for level in range(1, 5)}
        backbone = detection.backbone_utils.BackboneWithFPN(Small(width), layers, [width] * 4, 16)
        net = _detector(backbone, classes)
        net.roi_heads.box_head = detection.faster_rcnn.TwoMLPHead(16 * 49, 32)
        net.roi_heads.box_predictor.cls_score = nn.Linear(32, classes + 1)
        net.roi_heads.box_predictor.bbox_pred = nn.Linear(32, 4 * (classes + 1))
        return net

    return make


def sparse(classes):
    """The small detector with few anchors and regions, other numbers of them in every image."""
    net = small()(classes)
    net.rpn.nms_thresh = 0.1
    net.rpn.proposal_matcher.low_threshold = 0.0  # no anchor is negative
    return net


for name, make in (("small", small()), ("wide", small(12)), ("sparse", sparse)):
    if f"fasterrcnn_{name}" not in DETECTORS:
        DETECTORS.add(f"fasterrcnn_{name}", make)


def squares(split: str, _root=None) -> BoxData:
    """Bright squares and tall bars on dark noise."""
    generator = torch.Generator().manual_seed(len(split))
    images = torch.randint(0, 60, ({"train": 12, "val": 4, "test": 4}[split], 3, SIDE, SIDE), generator=generator)
    boxes = []
    for place, image in enumerate(images):
        left, top = (int(one) for one in torch.randint(2, 36, (2,), generator=generator))
        width, height = (16, 16) if place % 2 else (10, 24)
        image[:, top : top + height, left : left + width] = 220
        boxes.append(boxes_of([[left, top, left + width, top + height]], [place % 2]))
    names, half = ("bar", "square"), (0.5, 0.5, 0.5)
    return BoxData("squares", split, images.to(torch.uint8), tuple(boxes), names, SIDE, half, half, synthetic=True)


def frames(split: str, _root=None) -> BoxData:
    """The images of `squares`, each with one box that all but fills it."""
    data = squares(split)
    boxes = tuple(boxes_of([[4, 4, 60, 60]], [place % 2]) for place in range(len(data)))
    return replace(data, name="frames", boxes=boxes)


class Pictures:
    """Images of several sizes."""

    def __init__(self, images):
        self.images = list(images)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]

    def take(self, index):
        return Pictures(self.images[place] for place in index.tolist())

    def fingerprint(self):
        return str([image.shape for image in self.images])


def uneven(split: str, _root=None) -> BoxData:
    """The images of `squares` with a dark rest on the right, of one to four widths, and two boxes in every third."""
    data = squares(split)
    images, boxes = [], []
    for place, (image, one) in enumerate(zip(data.images, data.boxes, strict=True)):
        images.append(torch.cat([image, image.new_full((3, SIDE, 12 * (place % 4)), 30)], 2))
        (corners,), (label,) = one.corners.tolist(), one.labels.tolist()
        more = [[2, 2, 12, 12]] if place % 3 == 0 else []
        boxes.append(boxes_of([corners, *more], [label, *[0] * len(more)]))
    return replace(data, name="uneven", images=Pictures(images), boxes=tuple(boxes))


for name, load in (("squares", squares), ("frames", frames), ("uneven", uneven)):
    if name not in DATA:
        LOADERS[name] = load
        DATA.add(name, DataEntry("of a test", 2, (3, SIDE, SIDE), lambda *_: None, synthetic=True))
