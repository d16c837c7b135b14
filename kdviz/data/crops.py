"""The boxes of a data set as images with one label each: what its objects look like."""

import hashlib
import math
import os

import numpy as np
import torch
from PIL import Image

from kdviz.base.check import require
from kdviz.data.base import Data
from kdviz.data.boxes import BoxData
from kdviz.data.external import Pictures, as_picture

AROUND = 0.25  # of the box's longer side, shown beyond it on every side
MOST = 127  # px; larger pictures would lose their edges, as ImageNet's do in evaluation


def crops(data: BoxData, *, side: int = 64) -> Data:
    """Every box of a data set as an image of its own, a square with some of what is around it.

    Args:
        data: images with boxes; crowds are left out.
        side: of the squares in pixels, 127 at most.
    Returns:
        Images with one label each, cut out when they are asked for, black beyond the edges: background is class 0, the
        data set's classes begin at 1, as in a detector's class logits. `ids` are the boxes' numbers in the full split.
    """
    require(0 < side <= MOST, f"crops: side must be 1 to {MOST}, got {side}")
    single = [(~one.crowd).nonzero()[:, 0] for one in data.boxes]
    image = torch.arange(len(data)).repeat_interleave(torch.tensor([len(one) for one in single]))
    corners = torch.cat([one.corners[at] for one, at in zip(data.boxes, single, strict=True)])

    def cut(box: int) -> Image.Image:
        x1, y1, x2, y2 = corners[box].tolist()
        half = (0.5 + AROUND) * max(x2 - x1, y2 - y1)
        x, y = (x1 + x2) / 2, (y1 + y2) / 2
        square = (math.floor(x - half), math.floor(y - half), math.ceil(x + half), math.ceil(y + half))
        return as_picture(data.images[int(image[box])]).crop(square)

    mark = hashlib.sha256(f"{data.sha256} {AROUND}".encode()).hexdigest()
    return Data(
        name=data.name,
        split=data.split,
        images=Pictures(cut, np.arange(len(corners)), side, mark),
        labels=torch.cat([one.labels[at] + 1 for one, at in zip(data.boxes, single, strict=True)]),
        mean=data.mean,
        std=data.std,
        class_names=("background", *data.class_names),
        synthetic=data.synthetic,
        flip=data.flip,
        ids=torch.cat([first + at for first, at in zip(data.first, single, strict=True)]),
        warning=data.warning,
    )


def load_samples(name: str, *, split: str = "test", root: str | os.PathLike | None = None) -> Data:
    """What logits of a data set are of: its images, or of one with boxes its boxes, cut out.

    Args: name, split, root as `kdviz.load_data`.
    """
    from kdviz.data import has_boxes, load_boxes, load_data

    return (
        crops(load_boxes(name, split=split, root=root)) if has_boxes(name) else load_data(name, split=split, root=root)
    )
