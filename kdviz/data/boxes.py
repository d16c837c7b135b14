"""The record that a data set of boxes becomes: images with any number of boxes, each of a class."""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from kdviz.base.check import KdvizError, one_of, require
from kdviz.base.seeds import derive
from kdviz.data.base import DATA, SPLITS, Data


class Boxes(NamedTuple):
    """The boxes of one image.

    Attributes:
        corners: float32 `[m, 4]`: x1, y1, x2, y2 in pixels of the image.
        labels: int64 `[m]`, in 0..classes-1.
        crowd: bool `[m]`, a group that is marked as one: not trained on, and no mistake to detect.
    """

    corners: Tensor
    labels: Tensor
    crowd: Tensor


class Images(Protocol):
    """Images of any size, read when they are asked for."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Tensor:
        """uint8 `[3, h, w]`."""
        ...

    def take(self, index: Tensor) -> "Images":
        """The images at index alone."""
        ...

    def fingerprint(self) -> str:
        """What stands in for the pixels in `BoxData.sha256`."""
        ...


@dataclass(frozen=True, eq=False)
class BoxData:
    """One split of a data set of boxes.

    Args:
        name, split: what `load_boxes` was asked for.
        images: uint8 `[n, 3, h, w]`, or `Images`.
        boxes: one entry per image.
        class_names: in label order.
        side: shorter side in pixels at which detectors see the images, unless a recipe says otherwise.
        mean, std: per channel, of pixels scaled to [0, 1].
        synthetic: drawn by a program, not photographed.
        flip: whether training may mirror the images.
        ids: int64 `[n]`, positions in the full split.
        first: int64 `[n]`, the number of each image's first box among all boxes of the full split.
        warning: what a reader of its results must know.
    """

    name: str
    split: str
    images: Tensor | Images
    boxes: tuple[Boxes, ...]
    class_names: tuple[str, ...]
    side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    synthetic: bool = False
    flip: bool = True
    ids: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    first: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    warning: str = ""

    def __post_init__(self) -> None:
        who = f"{self.name} ({self.split})"
        if len(self.ids) == 0:
            object.__setattr__(self, "ids", torch.arange(len(self.boxes)))
        if len(self.first) == 0:
            counts = torch.tensor([len(one.labels) for one in self.boxes], dtype=torch.int64)
            object.__setattr__(self, "first", counts.cumsum(0) - counts)
        require(len(self.boxes) > 0, f"{who}: no images")
        require(len(self.images) == len(self.boxes), f"{who}: {len(self.images)} images but {len(self.boxes)} of boxes")
        require(len(self.ids) == len(self.boxes), f"{who}: {len(self.boxes)} images but {len(self.ids)} ids")
        require(self.classes >= 1, f"{who}: no classes")
        for place, (corners, labels, crowd) in enumerate(self.boxes):
            shapes = corners.shape == (len(labels), 4) and crowd.shape == labels.shape
            require(shapes, f"{who}: image {place} has {len(labels)} labels but boxes {tuple(corners.shape)}")
            known = len(labels) == 0 or (int(labels.min()) >= 0 and int(labels.max()) < self.classes)
            require(known, f"{who}: image {place} has labels beyond 0..{self.classes - 1}")
            require(
                bool((corners[:, 2:] > corners[:, :2]).all()) and bool(torch.isfinite(corners).all()),
                f"{who}: image {place} has a box without area",
            )
        require(any(len(one.labels) for one in self.boxes), f"{who}: no image has a box")

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def classes(self) -> int:
        """How many classes of objects there are, background not counted."""
        return len(self.class_names)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 over the pixels' bytes (or the files' fingerprint), then each image's boxes, labels and marks."""
        digest = hashlib.sha256()
        if isinstance(self.images, Tensor):
            for chunk in self.images.split(256):
                digest.update(chunk.numpy().tobytes())
        else:
            digest.update(self.images.fingerprint().encode())
        for corners, labels, crowd in self.boxes:
            digest.update(b"%d;" % len(labels))
            digest.update(corners.numpy().astype("<f4").tobytes())
            digest.update(labels.numpy().astype("<i8").tobytes())
            digest.update(crowd.numpy().tobytes())
        return digest.hexdigest()

    @property
    def remarks(self) -> dict[str, str]:
        """The warning as an attribute of results, where there is one."""
        return {"data_warning": self.warning} if self.warning else {}

    def take(self, index: Tensor) -> "BoxData":
        """The images at `index` (int64 `[m]`) with their boxes, as a record of their own."""
        images = self.images[index] if isinstance(self.images, Tensor) else self.images.take(index)
        chosen = tuple(self.boxes[place] for place in index.tolist())
        return replace(self, images=images, boxes=chosen, ids=self.ids[index], first=self.first[index])

    def subset(self, count: int, *, seed: int = 0) -> "BoxData":
        """`count` images drawn without replacement, in the order of the split; the same on every machine."""
        require(0 < count <= len(self), f"{self.name}: a subset of {count}, but {self.split} has {len(self)} images")
        draw = np.random.PCG64(derive(seed, "subset", self.name, self.split)).random_raw(len(self))
        return self.take(torch.from_numpy(np.sort(np.argsort(draw, kind="stable")[:count])))

    def trainable(self) -> "BoxData":
        """The images with a box to be trained on: one that is no crowd. Raises KdvizError where there is none."""
        index = [place for place, one in enumerate(self.boxes) if bool((~one.crowd).any())]
        require(index, f"{self.name} ({self.split}): no image has a box to be trained on")
        return self if len(index) == len(self) else self.take(torch.tensor(index))


def joined(first: BoxData, second: BoxData) -> BoxData:
    """Two splits of one data set as one, both in memory. Raises KdvizError where one is in files."""
    if not (isinstance(first.images, Tensor) and isinstance(second.images, Tensor)):
        raise KdvizError(f"{first.name}: {first.split} and {second.split} cannot be joined; train with --holdout split")
    images = torch.cat([first.images, second.images])
    unknown = torch.empty(0, dtype=torch.int64)  # numbers of images and boxes are those of the whole
    return replace(first, images=images, boxes=first.boxes + second.boxes, ids=unknown, first=unknown)


def boxes_of(corners: Sequence, labels: Sequence[int], crowd: Sequence[bool] | None = None) -> Boxes:
    """`Boxes` of plain lists.

    >>> boxes_of([[0, 0, 2, 3]], [1]).labels
    tensor([1])
    """
    flat = torch.tensor(corners, dtype=torch.float32).reshape(-1, 4)
    marks = torch.tensor(crowd or [False] * len(labels), dtype=torch.bool)
    return Boxes(flat, torch.tensor(labels, dtype=torch.int64), marks)


LOADERS: dict[str, Callable[[str, Path | None], BoxData]] = {}  # filled by the modules that add them to DATA


def has_boxes(name: str) -> bool:
    """Whether a data set's name is of one for detectors.

    >>> has_boxes("glyphs100")
    False
    """
    return name.partition(":")[0] in LOADERS


def load_boxes(name: str, *, split: str = "test", root: str | os.PathLike | None = None) -> BoxData:
    """One split of a data set of boxes.

    Args:
        name: "glyphboxes", "coco", or "coco:PATH".
        split: "train", "val" or "test".
        root: folder of the files.
    Raises: KdvizError for another data set, files that are missing or damaged.
    """
    one_of("load_boxes", SPLITS, split=split)
    name, _, path = name.partition(":")
    if name not in LOADERS:
        kind = "has one label per image and no boxes" if name in DATA else "is unknown"
        raise KdvizError(f"data set {name!r} {kind}; detectors train on {', '.join(sorted(LOADERS))}")
    place = path or root
    return LOADERS[name](split, Path(place).expanduser() if place else None)


def refuse_as_images(name: str, _split: str, _root: Path | None) -> Data:
    """What `kdviz.load_data` answers for a data set of boxes: KdvizError."""
    raise KdvizError(
        f"{name}: holds boxes, for detectors (kdviz train --student fasterrcnn_resnet18_fpn --data {name});"
        " this needs images with one label each"
    )
