"""Class-folder trees at ImageNet's size: PATH/train/CLASS/IMAGE is train, PATH/val/CLASS/IMAGE is val, nothing is cut.

The names of a million files are one array of bytes, so that worker processes share its memory.
Constants: ImageNet's channel means and deviations, as they are commonly given.
"""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from kdviz.base.check import KdvizError, require
from kdviz.data.base import DATA, Data, DataEntry, roots
from kdviz.data.files import CROP, SUFFIXES, framed, opened

NAME = "imagenet"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, eq=False)
class TreeImages:
    """A `Source` over a tree's files: RGB, framed as ImageNet is evaluated; `picture` gives one as it is.

    Args:
        folder: what the names are relative to.
        names: bytes [n], CLASS/IMAGE in UTF-8.
        size: side in pixels that images are brought to when they are asked for as a batch.
        crop: as in `kdviz.data.files.framed`.
    """

    folder: Path
    names: np.ndarray
    size: int = 224
    crop: float = CROP
    dtype = torch.uint8

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(n, 3, size, size)."""
        return len(self.names), 3, self.size, self.size

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: Tensor) -> Tensor:
        """The images at index (int64 [b]) as uint8 [b, 3, size, size] on the index's device."""
        with ThreadPoolExecutor() as pool:  # decoding leaves Python's lock
            rows = list(pool.map(lambda i: np.asarray(framed(self.picture(i), self.size, self.crop)), index.tolist()))
        return torch.from_numpy(np.stack(rows)).to(index.device).permute(0, 3, 1, 2).contiguous()

    def where(self, position: int) -> str:
        """The file at a position."""
        return str(self.folder / os.fsdecode(bytes(self.names[position])))

    def picture(self, position: int) -> Image.Image:
        """The image at a position, RGB, as large as it is. Raises KdvizError for a damaged file."""
        with opened(Path(self.where(position))) as image:
            colours = image.convert("RGBA") if "transparency" in image.info else image
            return colours.convert("RGB")

    def take(self, index: Tensor) -> "TreeImages":
        """The source of the images at index alone."""
        return replace(self, names=self.names[index.cpu().numpy()])

    def fingerprint(self) -> str:
        """SHA-256 over the files' names and sizes in bytes, and the side that images are brought to."""
        digest = hashlib.sha256(str(self.size).encode())
        for position, name in enumerate(self.names):
            digest.update(b"/" + bytes(name) + b":%d" % os.stat(self.where(position)).st_size)
        return digest.hexdigest()


def load_tree(root: Path, part: str, *, size: int = 224, name: str | None = None) -> Data:
    """The images of `root/part` as they stand: every class folder of train/ a class, in sorted order.

    Args:
        root: the folder that holds train/ and val/.
        part: "train", "val" or another folder beside them.
        size: side in pixels when images are asked for as a batch.
        name: of the record [default: that of the folder].
    Raises: KdvizError for a missing or empty folder, or a class that train/ lacks.
    """
    classes = _folders(root / "train")
    known = {label: number for number, label in enumerate(classes)}
    folder = root / part
    names: list[bytes] = []
    counts: list[tuple[int, int]] = []
    for label in _folders(folder):
        require(label in known, f"{folder / label}: no such class in {root / 'train'}")
        found = sorted(_files(folder / label, label))
        require(found or part != "train", f"{folder / label}: no images ({', '.join(SUFFIXES)}) in this class folder")
        names += found
        counts.append((known[label], len(found)))
    require(names, f"{folder}: class folders, but no images ({', '.join(SUFFIXES)}) in them")
    labels = torch.cat([torch.full((count,), label) for label, count in counts])
    images = TreeImages(folder, np.array(names), size)
    return Data(name or f"folder:{root}", part, images, labels, MEAN, STD, tuple(classes))


def _folders(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise KdvizError(f"{folder}: cannot be read ({error.strerror}); expected {folder}/CLASS/IMAGE") from error
    require(names, f"{folder}: no class folders in it; expected {folder}/CLASS/IMAGE")
    return names


def _files(folder: Path, prefix: str) -> Iterator[bytes]:
    """The images below folder, as prefix/NAME in bytes; types come with the listing, so no file is looked up."""
    with os.scandir(folder) as entries:
        for entry in entries:
            name = f"{prefix}/{entry.name}"
            if entry.name.lower().endswith(SUFFIXES) and entry.is_file():
                yield os.fsencode(name)
            elif entry.is_dir():
                yield from _files(Path(entry.path), name)


def _load(split: str, root: Path | None = None) -> Data:
    """train is train/ whole; val and test are val/, ImageNet's own test labels being unpublished.

    Raises: KdvizError for a missing tree.
    """
    searched = roots(root)
    for place in searched:
        for home in (place, place / "imagenet", place / "ILSVRC" / "Data" / "CLS-LOC"):
            if (home / "train").is_dir() and (home / "val").is_dir():
                return replace(load_tree(home, "train" if split == "train" else "val", name=NAME), split=split)
    where = " or ".join(map(str, searched)) or "a folder"
    raise KdvizError(
        f"{NAME}: no train/ and val/ with class folders in {where}; name the folder that holds them with --root"
    )


DATA.add(
    NAME,
    DataEntry(
        summary="train/ and val/ with one folder per class, as they stand; read as needed; val is test too",
        classes=None,
        shape=(3, 224, 224),
        load=_load,
        val_is_test=True,
        files="train/CLASS/IMAGE and val/CLASS/IMAGE (image-net.org, val sorted into class folders)",
    ),
)
