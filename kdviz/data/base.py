"""The record that every data set becomes, and the registry of those that can be opened."""

import hashlib
import html
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from kdviz.base.check import KdvizError, require
from kdviz.base.registry import Registry
from kdviz.base.seeds import derive

SPLITS = ("train", "val", "test")


class Source(Protocol):
    """Images that are read when they are asked for; indexed as a uint8 tensor [n, c, h, w] would be."""

    @property
    def shape(self) -> Any: ...
    @property
    def dtype(self) -> Any: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: Tensor, /) -> Tensor: ...
    def take(self, index: Tensor) -> "Source":
        """The source of the images at index alone."""
        ...

    def fingerprint(self) -> str:
        """What stands in for the pixels in `Data.sha256`."""
        ...


@dataclass(frozen=True, eq=False)
class Data:
    """One split of a data set, in memory or folder-backed.

    Args:
        name, split: what `load_data` was asked for.
        images: uint8 [n, c, h, w], or a `Source` (len, shape, dtype, [index tensor] -> uint8 batch).
        labels: int64 [n], in 0..classes-1.
        mean, std: per channel, of pixels scaled to [0, 1].
        class_names: in label order.
        synthetic: drawn by a program, not photographed.
        flip: whether training may mirror the images.
        ids: int64 [n], positions in the full split (for a train and val cut from one file: in that file).
        variant: what of the data set is taken otherwise than it says (`kdviz.data.adapt`); it is part of `sha256`.
        warning: what a reader of its results must know.
    """

    name: str
    split: str
    images: Tensor | Source
    labels: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]
    synthetic: bool = False
    flip: bool = True
    ids: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    variant: str = ""
    warning: str = ""

    def __post_init__(self) -> None:
        if len(self.ids) == 0:
            object.__setattr__(self, "ids", torch.arange(len(self.labels)))
        who = f"{self.name} ({self.split})"
        count, channels = len(self.labels), self.images.shape[1]
        require(count > 0, f"{who}: no images")
        require(len(self.images) == count, f"{who}: {len(self.images)} images but {count} labels")
        require(len(self.ids) == count, f"{who}: {count} images but {len(self.ids)} ids")
        require(self.images.dtype == torch.uint8, f"{who}: images must be uint8, got {self.images.dtype}")
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= self.classes:
            at = int(((self.labels < 0) | (self.labels >= self.classes)).nonzero()[0, 0])
            raise KdvizError(
                f"{who}: labels {low}..{high}, but there are {self.classes} classes; the first is of image"
                f" {int(self.ids[at])} (label {int(self.labels[at])})"
            )
        require(
            len(self.mean) == len(self.std) == channels,
            f"{who}: images have {channels} channels, mean {len(self.mean)} and std {len(self.std)} values",
        )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 over the pixels' bytes, then the labels as little-endian int64, then the variant.

        A folder-backed source stands in for its pixels by its own fingerprint (paths and sizes of files).
        """
        digest = hashlib.sha256()
        if isinstance(self.images, Tensor):
            for chunk in self.images.cpu().split(4096):
                digest.update(chunk.numpy().tobytes())
        else:
            digest.update(self.images.fingerprint().encode())
        digest.update(self.labels.cpu().numpy().astype("<i8").tobytes())
        digest.update(self.variant.encode())
        return digest.hexdigest()

    @property
    def remarks(self) -> dict[str, str]:
        """The variant and the warning as attributes of results, where there are any."""
        both = {"data_variant": self.variant, "data_warning": self.warning}
        return {name: text for name, text in both.items() if text}

    def normalize(self, images: Tensor) -> Tensor:
        """(x / 255 - mean) / std in float32, on the batch's device and in its memory format."""
        mean = torch.tensor(self.mean, device=images.device).view(-1, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(-1, 1, 1)
        return (images.float() / 255 - mean) / std

    def take(self, index: Tensor) -> "Data":
        """The images at `index` (int64 [m], positions in this record) as a record of their own, `ids` kept."""
        images = self.images[index] if isinstance(self.images, Tensor) else self.images.take(index)
        return replace(self, images=images, labels=self.labels[index], ids=self.ids[index])

    def subset(self, count: int, *, seed: int = 0) -> "Data":
        """`count` images drawn without replacement, every class in proportion, in the order of the split.

        The draw depends on `seed` and the labels alone, and is the same on every machine.
        """
        require(0 < count <= len(self), f"{self.name}: a subset of {count}, but {self.split} has {len(self)} images")
        return self.take(stratified(self.labels, count, derive(seed, "subset", self.name, self.split)))

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(normalised float32 [b, c, h, w], labels [b]) in order; the last batch may be smaller."""
        require(size > 0, f"{self.name}: batch size must be above 0, got {size}")
        for start in range(0, len(self), size):
            stop = min(start + size, len(self))
            yield self.normalize(self.images[torch.arange(start, stop)]), self.labels[start:stop]

    def _repr_html_(self) -> str:
        n, (c, h, w) = len(self), tuple(self.images.shape)[1:]
        kind = "synthetic" if self.synthetic else "real"
        name = html.escape(self.name)  # a folder's is the user's own
        return (
            f"<b>{name}</b> ({kind}), {self.split}: {n:,} images, {c}x{h}x{w} uint8, {self.classes} classes"
            f"<br><small>mean {_round(self.mean)}, std {_round(self.std)}; {_few(self.class_names)}</small>"
        )


def stratified(labels: Tensor, count: int, seed: int) -> Tensor:
    """Sorted positions of `count` of the labels, every class in proportion (to within one image).

    Each class is shuffled; an image's place is (rank + 1/2) / size of its class, and the first `count` places win.
    Raw bits of PCG64, whose stream NumPy keeps; its permutations it may change.

    >>> labels = torch.tensor([0] * 6 + [1] * 3)
    >>> labels[stratified(labels, 3, seed=0)].tolist()
    [0, 0, 1]
    """
    flat = labels.cpu().numpy()
    draw = np.random.PCG64(seed).random_raw(len(flat))
    order = np.lexsort((draw, flat))
    sizes = np.bincount(flat)
    starts = np.cumsum(sizes) - sizes
    rank = np.empty(len(flat), dtype=np.int64)
    rank[order] = np.arange(len(flat)) - starts[flat[order]]
    place = (rank + 0.5) / sizes[flat]
    return torch.from_numpy(np.sort(np.lexsort((draw, place))[:count]))


def held_out(data: Data, split: str, count: int) -> Data:
    """`data` cut in two for good: "val" is `count` of its images, every class in proportion, "train" the others."""
    chosen = torch.zeros(len(data), dtype=torch.bool)
    chosen[stratified(data.labels, count, derive(0, "held out", data.name))] = True
    index = torch.nonzero(chosen if split == "val" else ~chosen)[:, 0]
    return replace(data.take(index), split=split)


def _round(values: tuple[float, ...]) -> str:
    return "/".join(f"{value:.3f}" for value in values)


def _few(names: tuple[str, ...]) -> str:
    shown = ", ".join(html.escape(name) for name in names[:12])
    return shown + (", ..." if len(names) > 12 else "")


@dataclass(frozen=True)
class DataEntry:
    """What is known of a data set before it is opened.

    Args:
        summary: one line for lists.
        classes: how many, None where the folder decides.
        shape: (c, h, w) of an image, None where the setting decides.
        load: (split, root) -> Data; root None means the usual places.
        files: which files it needs and where they come from, for people; empty when none.
        places: folders that are searched when no root is given.
        synthetic: drawn by a program.
        val_is_test: val and test are the same images, and train is whole.
    """

    summary: str
    classes: int | None
    shape: tuple[int, int, int] | None
    load: Callable[[str, Path | None], Data]
    files: str = ""
    places: tuple[Path, ...] = ()
    synthetic: bool = False
    val_is_test: bool = False


DATA: Registry[DataEntry] = Registry("data set")


def roots(root: str | os.PathLike | None, places: tuple[Path, ...] = ()) -> list[Path]:
    """Folders to search: `root` alone when given, else $KDVIZ_DATA (when set) and the data set's own places."""
    if root is not None:
        return [Path(root).expanduser()]
    named = os.environ.get("KDVIZ_DATA")
    return [*([Path(named).expanduser()] if named else []), *places]
