"""glyphboxes: a synthetic data set of boxes, the digits of glyphs100 scattered over noisy canvases.

One to six digits, 19 to 56 pixels high, in 16 faces on a gradient of 128 x 128 pixels, their boxes overlapping little.
Everything is integer arithmetic on raw generator bits, so that the same bytes come out on every machine.
"""

from functools import cache, partial
from pathlib import Path

import numpy as np
import torch

from kdviz.base.check import require
from kdviz.base.seeds import derive
from kdviz.data.base import DATA, DataEntry
from kdviz.data.boxes import LOADERS, BoxData, boxes_of, refuse_as_images
from kdviz.data.glyphs import CLASSES, FACES, atlas
from kdviz.data.outlines import CELLS

NAME = "glyphboxes"
SIDE = 128
DIGITS = 10  # glyphs100's first classes
SIZES = {"train": 800, "val": 100, "test": 200}
SHA256 = {
    "train": "3e7bfc610a08babd0d7ae2214a392e5798ae1e3572af0e492a896bafc1702e30",
    "val": "4e2bddfa7b136f3869ac61d1670fdf17f25e680b5210d1fa92439ca0be5d5635",
    "test": "dcd04e5c73cfac750c3fea671da16a947032f4c2997ab8ed63b8233c2095f60f",
}
MEAN, STD = (0.4828, 0.4853, 0.4832), (0.3006, 0.3079, 0.3084)  # measured on train
_VISIBLE = 64  # of 255: the least cover that counts as part of a digit
_TRIES = 30  # of finding a free place


class _Bits:
    """Uniform whole numbers from raw PCG64 bits; NumPy keeps the bit stream, its distributions it may change."""

    def __init__(self, split: str) -> None:
        self.bits = np.random.PCG64(derive(0, NAME, split))

    def whole(self, low: int, high: int) -> int:
        """A number in low..high, ends included."""
        return low + int((int(self.bits.random_raw()) >> 32) * (high - low + 1) >> 32)

    def bytes(self, count: int) -> np.ndarray:
        """uint8 `[count]`; count a multiple of 8."""
        return self.bits.random_raw(count // 8).astype("<u8").view(np.uint8)


def scaled(mask: np.ndarray, size: int) -> np.ndarray:
    """A mask of 64 x 64 cells brought to `size` pixels, bilinear in 1/256 cell, int32 0..255."""
    at = np.clip((2 * np.arange(size) + 1) * CELLS * 128 // size - 128, 0, (CELLS - 2) * 256)
    cell, part = at >> 8, (at & 255).astype(np.int32)
    wide = mask.astype(np.int32)
    rows = wide[cell] * (256 - part)[:, None] + wide[cell + 1] * part[:, None]
    return (rows[:, cell] * (256 - part) + rows[:, cell + 1] * part) >> 16


def _canvas(bits: _Bits) -> tuple[np.ndarray, bool]:
    """A gradient, int32 [3, side, side], and whether it is light."""
    light = bits.whole(0, 1) == 1
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.int32)
    layers = []
    for _ in range(3):
        paper, across, down = bits.whole(0, 110), bits.whole(-30, 30), bits.whole(-30, 30)
        layers.append((255 - paper if light else paper) + ((across * (2 * x - SIDE) + down * (2 * y - SIDE)) >> 8))
    return np.stack(layers), light


def _overlaps(box: tuple[int, int, int, int], others: list[tuple[int, int, int, int]]) -> bool:
    """Whether the box shares more than a tenth of its area with another one."""
    for left, top, right, bottom in others:
        width, height = min(box[2], right) - max(box[0], left), min(box[3], bottom) - max(box[1], top)
        if width > 0 and height > 0 and 10 * width * height > (box[2] - box[0]) * (box[3] - box[1]):
            return True
    return False


def draw_image(bits: _Bits) -> tuple[np.ndarray, list[tuple[int, int, int, int]], list[int]]:
    """One image, uint8 [3, side, side], with its boxes (x1, y1, x2, y2) and labels."""
    picture, light = _canvas(bits)
    boxes: list[tuple[int, int, int, int]] = []
    labels: list[int] = []
    for _ in range(bits.whole(1, 6)):
        label, face = bits.whole(0, DIGITS - 1), bits.whole(0, len(FACES) - 1)
        cover = scaled(atlas()[face * len(CLASSES) + label], bits.whole(35, 90))
        rows, columns = (np.flatnonzero((cover >= _VISIBLE).any(axis)) for axis in (1, 0))
        cover = cover[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        ink = [bits.whole(150, 255) for _ in range(3)]
        height, width = cover.shape
        for _ in range(_TRIES):
            left, top = bits.whole(0, SIDE - width), bits.whole(0, SIDE - height)
            box = (left, top, left + width, top + height)
            if not _overlaps(box, boxes):
                part = picture[:, top : box[3], left : box[2]]
                colour = np.array([255 - one if light else one for one in ink], dtype=np.int32)[:, None, None]
                part += ((colour - part) * cover) >> 8
                boxes.append(box)
                labels.append(label)
                break
    noise = bits.bytes(3 * SIDE * SIDE).reshape(3, SIDE, SIDE).astype(np.int32)
    grain = ((noise - 128) * bits.whole(0, 40)) >> 7
    return np.clip(picture + grain, 0, 255).astype(np.uint8), boxes, labels


def draw(split: str, count: int | None = None) -> BoxData:
    """A split, drawn anew; its first `count` images [default: all]."""
    bits = _Bits(split)
    drawn = [draw_image(bits) for _ in range(count or SIZES[split])]
    return BoxData(
        name=NAME,
        split=split,
        images=torch.from_numpy(np.stack([image for image, _, _ in drawn])),
        boxes=tuple(boxes_of(boxes, labels) for _, boxes, labels in drawn),
        class_names=tuple(CLASSES[:DIGITS]),
        side=SIDE,
        mean=MEAN,
        std=STD,
        synthetic=True,
        flip=False,
    )


@cache
def load(split: str, _root: Path | None = None) -> BoxData:
    """A split, drawn anew and checked against its SHA-256.

    Raises: KdvizError when what is drawn here is not what is drawn elsewhere (changed fonts).
    """
    data = draw(split)
    require(
        data.sha256 == SHA256[split],
        f"{NAME}: the {split} images drawn here have SHA-256 {data.sha256[:12]}, expected {SHA256[split][:12]}; their"
        " outlines come from matplotlib's fonts, so install the pinned versions",
    )
    return data


LOADERS[NAME] = load
DATA.add(
    NAME,
    DataEntry(
        summary="digits in 16 faces on canvases, with boxes, for detectors: 800 train, 100 val, 200 test",
        classes=DIGITS,
        shape=(3, SIDE, SIDE),
        load=partial(refuse_as_images, NAME),
        synthetic=True,
    ),
)
