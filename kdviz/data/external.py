"""Data sets from outside: `hf:NAME` and `package.module:function`, for the command line and Python, never for a file.

Both become a `Data` record whose pictures are read as they are asked for.
"""

import hashlib
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from kdviz.base.check import KdvizError, require, unknown
from kdviz.data.base import Data
from kdviz.data.files import framed

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def is_external(name: str) -> bool:
    """Whether a data set's name leads outside: hf:NAME or package.module:function (folder:PATH does not)."""
    return ":" in name and not name.startswith("folder:")


def named_by_file(name: str, *, where: object) -> str:
    """The name that a checkpoint or recipe file gives its data set, unless it would load something from outside.

    Raises: KdvizError with what to say on the command line instead.

    >>> named_by_file("cifar100", where="run.pt")
    'cifar100'
    >>> named_by_file("os:system", where="run.pt")
    Traceback (most recent call last):
    kdviz.base.check.KdvizError: run.pt: names its data set 'os:system', and a file never chooses what to import or
    fetch; if you trust it, name it yourself: --data os:system
    """
    require(
        not is_external(name),
        f"{where}: names its data set {name!r}, and a file never chooses what to import or fetch;"
        f" if you trust it, name it yourself: --data {name}",
    )
    return name


@dataclass(frozen=True, eq=False)
class Pictures:
    """A `Source` over anything that gives a picture by its number.

    Args:
        get: number -> PIL image, uint8 array [h, w, 3] or [h, w], or uint8 tensor [c, h, w].
        numbers: int64 [n], which of them, in order.
        size: side in pixels that pictures are brought to when they are asked for as a batch.
        mark: what stands in for the pixels in `Data.sha256`.
    """

    get: Callable[[int], Any]
    numbers: np.ndarray
    size: int
    mark: str
    dtype = torch.uint8

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(n, 3, size, size)."""
        return len(self.numbers), 3, self.size, self.size

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: Tensor) -> Tensor:
        """The pictures at index (int64 [b]) as uint8 [b, 3, size, size] on the index's device."""
        rows = [np.array(framed(self.picture(i), self.size)) for i in index.tolist()]
        return torch.from_numpy(np.stack(rows)).to(index.device).permute(0, 3, 1, 2).contiguous()

    def picture(self, position: int) -> Image.Image:
        """The picture at a position, RGB, as large as it is. Raises KdvizError where there is none."""
        number = int(self.numbers[position])
        try:
            return as_picture(self.get(number)).convert("RGB")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise KdvizError(f"picture {number}: {error}") from error

    def take(self, index: Tensor) -> "Pictures":
        """The source of the pictures at index alone."""
        return replace(self, numbers=self.numbers[index.cpu().numpy()])

    def fingerprint(self) -> str:
        """SHA-256 over the mark, the pictures' numbers and the side that they are brought to."""
        digest = hashlib.sha256(f"{self.mark}/{self.size}".encode())
        digest.update(self.numbers.astype("<i8").tobytes())
        return digest.hexdigest()


def as_picture(value: Any) -> Image.Image:
    """A PIL image of what a data set gives for one: an image, a uint8 array [h, w(, 3)] or tensor [c, h, w].

    Raises: ValueError for anything else; a data set's own normalisation must be off.
    """
    if isinstance(value, Image.Image):
        return value
    if isinstance(value, Tensor):
        value = value.cpu().permute(1, 2, 0).numpy() if value.ndim == 3 else value.cpu().numpy()
    if isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim in (2, 3):
        return Image.fromarray(np.ascontiguousarray(value[..., 0] if value.shape[2:] == (1,) else value))
    kind = getattr(value, "dtype", type(value).__name__)
    raise ValueError(f"is {kind}, expected a PIL image or uint8 pixels (without transforms)")


def record(
    name: str,
    split: str,
    *,
    get: Callable[[int], Any],
    labels: Sequence[int],
    class_names: Sequence[str] | None,
    mark: str,
    size: int | None = None,
) -> Data:
    """The `Data` of pictures by number and their labels; the first picture decides the side (to 96 px as it is).

    Raises: KdvizError for an empty set, labels that are no whole numbers from 0, or a first picture that is none.
    """
    require(len(labels) > 0, f"{name}: its {split} split is empty")
    whole = torch.as_tensor(np.asarray(labels))
    require(not whole.is_floating_point() and whole.ndim == 1, f"{name}: labels must be whole numbers, one for each")
    low, high = int(whole.min()), int(whole.max())
    require(low >= 0, f"{name}: label {low}; labels must count from 0 (is it a split without labels?)")
    names = tuple(class_names) if class_names else tuple(f"class {number}" for number in range(high + 1))
    pictures = Pictures(get, np.arange(len(whole)), size or 224, mark)
    side = min(pictures.picture(0).size)
    images = pictures if size or side > 96 else replace(pictures, size=side)
    return Data(name, split, images, whole.long(), MEAN, STD, names)


def load_function(name: str, split: str) -> Data:
    """The torch Dataset that `package.module:function` returns for a split, as a `Data` record.

    The function is called with split="train", "val" or "test" and returns a `Data`, or a Dataset with a length whose
    items are (picture, label); `targets` or `labels` and `classes`, where it has them, spare reading every item.

    Raises: KdvizError for a function that is not there or returns something else.
    """
    module_name, _, function = name.rpartition(":")
    if os.getcwd() not in sys.path:  # the console script starts without it, `python -m kdviz` with it
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except (ImportError, RuntimeError, ValueError) as error:
        raise KdvizError(f"{name}: cannot import {module_name} ({str(error).splitlines()[0]})") from error
    make = getattr(module, function, None)
    if not callable(make):
        raise unknown(f"function in {module_name}:", function, (key for key in vars(module) if not key.startswith("_")))
    try:
        found = make(split=split)
    except TypeError as error:
        raise KdvizError(f"{name}: cannot be called with split={split!r} ({error})") from error
    if isinstance(found, Data):
        return found
    kind = type(found).__name__
    require(
        hasattr(found, "__getitem__") and hasattr(found, "__len__"),
        f"{name}: returned a {kind}; expected a torch Dataset with a length, or a kdviz.data.Data",
    )
    return _dataset(name, split, found)


def _dataset(name: str, split: str, dataset: Any) -> Data:
    listed = next((getattr(dataset, key) for key in ("targets", "labels") if hasattr(dataset, key)), None)
    try:
        labels = [int(dataset[i][1]) for i in range(len(dataset))] if listed is None else [int(one) for one in listed]
    except (TypeError, ValueError, IndexError, KeyError) as error:
        raise KdvizError(f"{name}: its items are not (picture, label): {error}") from error
    require(len(labels) == len(dataset), f"{name}: {len(dataset)} items but {len(labels)} labels")
    classes = getattr(dataset, "classes", None)
    class_names = [str(one) for one in classes] if isinstance(classes, list | tuple) else None
    mark = f"{name}/{split}/{len(dataset)}"  # its pixels are read as needed; the count and the labels stand in for them
    return record(name, split, get=lambda number: dataset[number][0], labels=labels, class_names=class_names, mark=mark)
