"""Images in files, decoded when they are asked for, so that a large tree need not fit into memory."""

import hashlib
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from kdviz.base.check import KdvizError, require

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff", ".gif")
PIXELS = 2**26  # of an image; as RGBA they take 256 MiB
CROP = 0.875
_BIG = 128  # from here on images are framed as ImageNet's are evaluated


@dataclass(frozen=True)
class Files:
    """A `Source` over image files: RGB, all brought to size x size.

    The shorter side becomes `size` (from 128 on: size / crop, which is 0.875 in ImageNet's usual evaluation), bicubic,
    and the centre is cut out. An image that has the size already comes as it is.
    """

    paths: tuple[Path, ...]
    size: int
    crop: float = CROP
    dtype = torch.uint8

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(n, 3, size, size)."""
        return len(self.paths), 3, self.size, self.size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Tensor) -> Tensor:
        """The images at index (int64 [b]) as uint8 [b, 3, size, size] on the index's device."""
        chosen = [self.paths[i] for i in index.tolist()]
        with ThreadPoolExecutor() as pool:  # decoding leaves Python's lock
            rows = list(pool.map(self._read, chosen))
        return torch.from_numpy(np.stack(rows)).to(index.device).permute(0, 3, 1, 2).contiguous()

    def take(self, index: Tensor) -> "Files":
        """The source of the images at index alone."""
        return replace(self, paths=tuple(self.paths[i] for i in index.tolist()))

    def fingerprint(self) -> str:
        """SHA-256 over each file's class folder, name and size in bytes, and the side that images are brought to."""
        digest = hashlib.sha256(str(self.size).encode())
        for path in self.paths:
            digest.update(os.fsencode(f"/{path.parent.name}/{path.name}:{path.stat().st_size}"))
        return digest.hexdigest()

    def _read(self, path: Path) -> np.ndarray:
        with opened(path) as image:
            # A palette's transparency in bytes survives the way over RGBA alone.
            colours = image.convert("RGBA") if "transparency" in image.info else image
            return np.asarray(framed(colours.convert("RGB"), self.size, self.crop))


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """The decoded image at `path`; any damage is a KdvizError."""
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is the lower one
            width, height = image.size
            require(width * height <= PIXELS, f"{path}: {width} x {height} pixels, expected at most {PIXELS} in all")
            image.load()
            yield image
    except KdvizError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise KdvizError(f"{path}: not a whole image file ({error})") from error


def framed(image: Image.Image, size: int, crop: float = CROP) -> Image.Image:
    """The centre of the image at size x size; from 128 on it is `crop` of the shorter side; see `Files`."""
    if image.size == (size, size):
        return image
    side = round(size / crop) if size >= _BIG else size
    scale = side / min(image.size)
    width, height = (max(size, round(length * scale)) for length in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    return image.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + size, top + size))


def natural_size(path: Path) -> int:
    """The side for a tree whose first image is `path`: its shorter side up to 96 pixels, else 224."""
    with opened(path) as image:
        side = min(image.size)
    return side if side <= 96 else 224
