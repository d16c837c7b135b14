"""The boxes of a data set as images with one label each: what its objects look like."""

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from kdviz.data.base import Data
from kdviz.data.boxes import BoxData

AROUND = 0.25  # of the box's longer side, shown beyond it on every side


@dataclass(frozen=True, eq=False)
class Crops:
    """A `kdviz.data.base.Source` of squares around the boxes of images, cut out when they are asked for.

    Args:
        data: the images and their boxes.
        image: int64 `[b]`, each box's image, as a place in `data`.
        corners: float32 `[b, 4]` in pixels of the image.
        side: of a square, in pixels.
    """

    data: BoxData
    image: Tensor
    corners: Tensor
    side: int
    dtype = torch.uint8

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(b, 3, side, side)."""
        return len(self.image), 3, self.side, self.side

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, index: Tensor) -> Tensor:
        """The squares at index (int64 `[m]`) as uint8 `[m, 3, side, side]`."""
        return torch.stack([self._cut(int(one)) for one in index])

    def take(self, index: Tensor) -> "Crops":
        """The source of the squares at index alone."""
        return Crops(self.data, self.image[index], self.corners[index], self.side)

    def fingerprint(self) -> str:
        """Of the data, the boxes and the side."""
        boxes = self.corners.numpy().astype("<f4").tobytes() + self.image.numpy().astype("<i8").tobytes()
        return f"{self.data.sha256} {hashlib.sha256(boxes).hexdigest()} {self.side}"

    def _cut(self, box: int) -> Tensor:
        pixels = Image.fromarray(self.data.images[int(self.image[box])].permute(1, 2, 0).numpy())
        x1, y1, x2, y2 = self.corners[box].tolist()
        half = (0.5 + AROUND) * max(x2 - x1, y2 - y1)
        x, y = (x1 + x2) / 2, (y1 + y2) / 2
        square = (math.floor(x - half), math.floor(y - half), math.ceil(x + half), math.ceil(y + half))
        cut = pixels.crop(square).resize((self.side, self.side), Image.Resampling.BILINEAR)  # black beyond the image
        return torch.from_numpy(np.array(cut)).permute(2, 0, 1).contiguous()


def crops(data: BoxData, *, side: int = 64) -> Data:
    """Every box of a data set as an image of its own, a square with some of what is around it.

    Args:
        data: images with boxes; crowds are left out.
        side: of the squares, in pixels.
    Returns:
        Images with one label each: background is class 0, the data set's classes begin at 1, as in a detector's class
        logits. `ids` are the boxes' numbers in the full split.
    """
    single = [(~one.crowd).nonzero()[:, 0] for one in data.boxes]
    images = torch.arange(len(data)).repeat_interleave(torch.tensor([len(one) for one in single]))
    source = Crops(data, images, torch.cat([one.corners[at] for one, at in zip(data.boxes, single, strict=True)]), side)
    return Data(
        name=data.name,
        split=data.split,
        images=source,
        labels=torch.cat([one.labels[at] + 1 for one, at in zip(data.boxes, single, strict=True)]),
        mean=data.mean,
        std=data.std,
        class_names=("background", *data.class_names),
        synthetic=data.synthetic,
        flip=data.flip,
        ids=torch.cat([first + at for first, at in zip(data.first, single, strict=True)]),
        warning=data.warning,
    )
