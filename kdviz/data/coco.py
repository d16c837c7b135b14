"""COCO's folder: annotations as JSON beside folders of images, which are read as they are asked for.

Constants: ImageNet's channel means and deviations, as detectors on COCO have them.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdviz.base.check import KdvizError, require
from kdviz.data.base import DATA, DataEntry, roots
from kdviz.data.boxes import LOADERS, BoxData, Boxes, boxes_of, refuse_as_images
from kdviz.data.files import opened

NAME = "coco"
SIDE = 800
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PARTS = {"train": "train", "val": "val", "test": "val"}  # the labels of COCO's own test images are not published


@dataclass(frozen=True)
class ImageFiles:
    """`kdviz.data.boxes.Images` over image files, as large as they are.

    Attributes:
        folder: of the files.
        names: of each image, relative to it.
        sizes: (width, height) of each, as the annotations state it.
    """

    folder: Path
    names: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Tensor:
        """uint8 `[3, h, w]`. Raises KdvizError for a file that is damaged, or of another size than its boxes."""
        path = self.folder / self.names[index]
        if not path.is_file():
            raise KdvizError(f"{path}: no such image; are the images unpacked beside the annotations?")
        with opened(path) as image:
            require(
                image.size == self.sizes[index],
                f"{path}: is {image.size[0]} x {image.size[1]} px, but its annotations say"
                f" {self.sizes[index][0]} x {self.sizes[index][1]}",
            )
            return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()

    def take(self, index: Tensor) -> "ImageFiles":
        """The images at index alone."""
        chosen = index.tolist()
        return replace(self, names=tuple(self.names[i] for i in chosen), sizes=tuple(self.sizes[i] for i in chosen))

    def fingerprint(self) -> str:
        """SHA-256 over each file's name and its size in pixels."""
        digest = hashlib.sha256()
        for name, (width, height) in zip(self.names, self.sizes, strict=True):
            digest.update(f"/{name}:{width}x{height}".encode())
        return digest.hexdigest()


def read_annotations(path: Path, folder: Path, *, split: str, name: str = NAME) -> BoxData:
    """The images and boxes of one annotation file.

    Categories are numbered in the order of their ids. Boxes that reach beyond their image are cut at its edge, those
    without area left out, and the record's warning counts both; images without boxes stay (a run trains on those that
    have some).

    Args:
        path: of the JSON: "images" (id, file_name, width, height), "annotations" (image_id, category_id, bbox as x, y,
            width, height in pixels, optionally iscrowd), "categories" (id, name).
        folder: of the images.
        split, name: of the record.
    Raises: KdvizError, in one line, for what is no such JSON, naming the first entry at fault.
    Source: the data format of cocodataset.org.
    """
    content = _json(path)
    categories = _by_id(path, content, "categories", {"name": str})
    images = _by_id(path, content, "images", {"file_name": str, "width": int, "height": int})
    for number, image in images.items():
        _check_image(path, number, image)
    labels = {number: place for place, number in enumerate(sorted(categories))}
    found: dict[int, list[tuple[list[float], int, bool]]] = {number: [] for number in images}
    cut, empty = 0, 0
    for place, one in enumerate(_list(path, content, "annotations")):
        box, number, label, crowd = _annotation(path, place, one, images, labels)
        kept = _within(box, images[number])
        cut += kept is not None and kept != box
        empty += kept is None
        if kept is not None:
            found[number].append((kept, label, crowd))
    warning = ", ".join(
        text
        for count, text in ((cut, f"{cut} boxes cut at their image's edge"), (empty, f"{empty} without area left out"))
        if count
    )
    return BoxData(
        name=name,
        split=split,
        images=ImageFiles(
            folder,
            tuple(image["file_name"] for image in images.values()),
            tuple((image["width"], image["height"]) for image in images.values()),
        ),
        boxes=tuple(_boxes(each) for each in found.values()),
        class_names=tuple(str(categories[number]["name"]) for number in sorted(categories)),
        side=SIDE,
        mean=MEAN,
        std=STD,
        warning=f"{path.name}: {warning}" if warning else "",
    )


def _json(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise KdvizError(f"{path}: cannot be read as JSON ({str(error).splitlines()[0]})") from error
    if not isinstance(content, dict):
        raise KdvizError(f"{path}: holds a {type(content).__name__}, expected images, annotations and categories")
    return content


def _list(path: Path, content: Mapping[str, Any], key: str) -> list[Any]:
    found = content.get(key)
    if not isinstance(found, list):
        raise KdvizError(f"{path}: has no list of {key}; is it an instances file of COCO's format?")
    return found


def _by_id(path: Path, content: Mapping[str, Any], key: str, fields: Mapping[str, type]) -> dict[int, dict[str, Any]]:
    """The entries of a list by their id, each with the fields and types that are needed."""
    entries: dict[int, dict[str, Any]] = {}
    for place, one in enumerate(_list(path, content, key)):
        where = f"{path}: {key}[{place}]"
        if not isinstance(one, dict):
            raise KdvizError(f"{where} is a {type(one).__name__}, expected a mapping")
        for field, kind in {"id": int, **fields}.items():
            good = isinstance(one.get(field), kind) and not isinstance(one.get(field), bool)
            require(good, f"{where}: {field} is {_brief(one.get(field))}, expected {kind.__name__}")
        require(one["id"] not in entries, f"{where}: a second entry with id {one['id']}")
        entries[one["id"]] = one
    require(entries, f"{path}: its list of {key} is empty")
    return entries


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _check_image(path: Path, number: int, image: Mapping[str, Any]) -> None:
    name = PurePosixPath(image["file_name"])
    inside = name.parts and not name.is_absolute() and ".." not in name.parts and "\0" not in str(name)
    require(inside, f"{path}: image {number}: file_name {_brief(str(name))} leads out of the images' folder")
    good = 0 < image["width"] <= 2**16 and 0 < image["height"] <= 2**16
    require(good, f"{path}: image {number}: {image['width']} x {image['height']} px is no size of an image")


def _annotation(
    path: Path, place: int, one: Any, images: Mapping[int, Any], labels: Mapping[int, int]
) -> tuple[list[float], int, int, bool]:
    """One annotation's box as x1, y1, x2, y2, the image's id, the label, and whether it is a crowd."""
    where = f"{path}: annotations[{place}]"
    if not isinstance(one, dict):
        raise KdvizError(f"{where} is a {type(one).__name__}, expected a mapping")
    number, category, box = one.get("image_id"), one.get("category_id"), one.get("bbox")
    require(type(number) is int and number in images, f"{where}: image_id {_brief(number)} is of no image")
    require(type(category) is int and category in labels, f"{where}: category_id {_brief(category)} is of no category")
    numbers = isinstance(box, list) and len(box) == 4 and all(type(each) in (int, float) for each in box)
    require(
        numbers and all(math.isfinite(each) and abs(each) < 2**24 for each in box),  # type: ignore[union-attr]
        f"{where}: bbox is {_brief(box)}, expected x, y, width and height in pixels",
    )
    x, y, width, height = box  # type: ignore[misc]
    require(width >= 0 and height >= 0, f"{where}: bbox has a negative width or height ({width}, {height})")
    return [x, y, x + width, y + height], number, labels[category], bool(one.get("iscrowd", 0))  # type: ignore


def _within(box: list[float], image: Mapping[str, Any]) -> list[float] | None:
    """The box cut at its image's edge; None where less than a hundredth of a pixel is left of a side."""
    width, height = image["width"], image["height"]
    left, top, right, bottom = (
        min(max(each, 0), limit) for each, limit in zip(box, (width, height, width, height), strict=True)
    )
    kept = [left, top, right, bottom]
    return None if right - left < 0.01 or bottom - top < 0.01 else kept


def _boxes(found: list[tuple[list[float], int, bool]]) -> Boxes:
    corners, labels, crowd = ([one[place] for one in found] for place in range(3))
    return boxes_of(corners, labels, crowd)  # type: ignore[arg-type]


@cache
def load(split: str, root: Path | None = None) -> BoxData:
    """A split of COCO's folder: annotations/instances_train2017.json and train2017/ beside it, and the same for val.

    train is train whole; val and test are val. Another year's or data set's files do too, where there is one
    instances file for each part.

    Raises: KdvizError for missing or damaged files.
    """
    part, searched = PARTS[split], roots(root)
    for place in searched:
        for home in (place, place / "coco"):
            found = sorted((home / "annotations").glob(f"instances_{part}*.json"))
            require(
                len(found) < 2, f"{home / 'annotations'}: several files of {part}: {', '.join(p.name for p in found)}"
            )
            if found:
                folder = home / found[0].stem.removeprefix("instances_")
                require(folder.is_dir(), f"{found[0]}: its images are not there, expected in {folder}")
                return read_annotations(found[0], folder, split=split)
    where = " or ".join(map(str, searched)) or "a folder"
    raise KdvizError(
        f"{NAME}: no annotations/instances_{part}*.json in {where}; name the folder that holds annotations/ and the"
        " images' folders with --root"
    )


LOADERS[NAME] = load
DATA.add(
    NAME,
    DataEntry(
        summary="COCO 2017, or any data set in its format, with boxes, for detectors; read as needed; val is test too",
        classes=None,
        shape=None,
        load=partial(refuse_as_images, NAME),
        files="annotations/instances_{train,val}2017.json, train2017/ and val2017/ (cocodataset.org)",
        val_is_test=True,
    ),
)
