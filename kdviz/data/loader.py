"""Pictures decoded and cropped by worker processes, one pool for a whole run, the same whatever their number."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from kdviz.base.check import KdvizError, one_of, require
from kdviz.base.seeds import torch_generator
from kdviz.data.base import Data
from kdviz.data.files import CROP, Files, framed, opened
from kdviz.data.transforms import FILTERS, RATIO, SCALE, crop_boxes

DAMAGED = ("refuse", "replace")


@dataclass(frozen=True)
class View:
    """What a worker makes of a picture.

    Args:
        size: side of the result in pixels.
        scale, ratio: of `crop_boxes`; scale None frames the centre, as pictures are evaluated.
        flip: mirror with probability 1/2; not where scale is None.
        filter: "bilinear" or "bicubic".
        crop: of `kdviz.data.files.framed`, where scale is None.
    """

    size: int = 224
    scale: tuple[float, float] | None = SCALE
    ratio: tuple[float, float] = RATIO
    flip: bool = True
    filter: str = "bilinear"
    crop: float = CROP

    def __post_init__(self) -> None:
        require(self.size > 0, f"view: the size must be above 0, got {self.size}")
        one_of("view", FILTERS, filter=self.filter)

    def make(self, picture: Image.Image, generator: torch.Generator) -> Tensor:
        """One view of an RGB picture as uint8 [3, size, size]."""
        if self.scale is None:
            view = framed(picture, self.size, self.crop)
        else:
            sizes = torch.tensor([[picture.height, picture.width]])
            left, top, w, h = crop_boxes(sizes, generator=generator, scale=self.scale, ratio=self.ratio)[0].tolist()
            resampling = getattr(Image.Resampling, self.filter.upper())
            view = picture.resize((self.size, self.size), resampling, box=(left, top, left + w, top + h))
            if self.flip and int(torch.randint(2, (1,), generator=generator)):
                view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return torch.from_numpy(np.array(view)).permute(2, 0, 1).contiguous()


class Loaded(NamedTuple):
    """A batch on its way to the device.

    Attributes:
        images: uint8 [n, 3, size, size].
        labels: int64 [n].
        positions: int64 [n], in the data's split.
        damaged: pictures of the batch that could not be read, as "FILE: why"; another was taken in the place of each.
    """

    images: Tensor
    labels: Tensor
    positions: Tensor
    damaged: tuple[str, ...]


class Loader:
    """Batches of views of a data set's pictures, decoded ahead by a pool of processes that lives as long as the loader.

    A view depends on (seed, epoch, position) alone, never on the number of workers or on what came before. Close it
    (or use it in a `with` statement) when the run ends.

    Args:
        data: whose images are read from files, or tensors of uint8.
        view: what becomes of each picture.
        batch: pictures in a batch; the last of an epoch may have fewer, unless `drop_last`.
        seed: of the views.
        workers: processes; 0 decodes in this one.
        prefetch: batches ahead for each worker.
        pinned: page-locked memory, for `.to(device, non_blocking=True)`; only with a GPU.
        damaged: "refuse" stops at a picture that cannot be read; "replace" takes the next in the split that can.
        drop_last: leave out the last batch where it is not whole.

    Attributes:
        rate: pictures per second delivered in the last epoch, or so far in this one.
        waited: seconds of it that the caller waited for a batch; near 0 when decoding keeps up.
        broken: "FILE: why" of each damaged picture met so far, once each.
    """

    def __init__(
        self,
        data: Data,
        view: View,
        *,
        batch: int,
        seed: int = 0,
        workers: int = 0,
        prefetch: int = 2,
        pinned: bool = False,
        damaged: str = "refuse",
        drop_last: bool = False,
    ) -> None:
        require(batch > 0 and workers >= 0, f"loader: batch {batch} or workers {workers} out of range")
        one_of("loader", DAMAGED, damaged=damaged)
        self.rate, self.waited = 0.0, 0.0
        self.broken: list[str] = []
        self._sampler = _Sampler(batch, drop_last)
        settings: dict[str, Any] = {"num_workers": workers, "pin_memory": pinned, "collate_fn": _same}
        settings["generator"] = torch.Generator()  # or the pool would draw its own seed from the global state
        if workers:
            settings |= {"persistent_workers": True, "prefetch_factor": prefetch}
        self._views = _Views(data.images, data.labels, view, seed, damaged)
        self._loader: DataLoader = DataLoader(self._views, batch_size=None, sampler=self._sampler, **settings)

    def epoch(self, number: int, order: Tensor, *, start: int = 0) -> Iterator[Loaded]:
        """The batches of an epoch.

        Args:
            number: of the epoch; with the seed it decides the views.
            order: int64 [m], positions in the split in the order of the epoch.
            start: the first batch that is wanted, for a run that resumes.
        Raises: KdvizError for a damaged picture, where they are refused.
        """
        self._sampler.plan(number, order, start)
        began, count, self.waited = time.perf_counter(), 0, 0.0
        batches = iter(self._loader)
        while True:
            asked = time.perf_counter()
            loaded = next(batches, None)
            now = time.perf_counter()
            self.waited += now - asked
            if loaded is None:
                return
            if isinstance(loaded, str):
                raise KdvizError(f"{loaded}; mend or remove it, or let damaged pictures be replaced")
            self.broken += [text for text in loaded.damaged if text not in self.broken]
            count += len(loaded.labels)
            self.rate = count / max(now - began, 1e-9)
            yield loaded

    def framed(self, positions: Tensor) -> Tensor:
        """The centres of a few pictures, uint8 [n, 3, size, size], read in this process.

        Raises: KdvizError for a damaged picture.
        """
        centre = replace(self._views.view, scale=None)
        pictures = (picture_at(self._views.images, position) for position in positions.tolist())
        return torch.stack([centre.make(picture, torch.Generator()) for picture in pictures])

    def close(self) -> None:
        """End the worker processes."""
        pool = getattr(self._loader, "_iterator", None)
        self._loader._iterator = None
        if pool is not None and hasattr(pool, "_shutdown_workers"):
            pool._shutdown_workers()

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Sampler(Sampler):
    """(epoch, positions) of each batch; the plan is made anew for every epoch, in the main process."""

    def __init__(self, batch: int, drop_last: bool) -> None:
        self.batch, self.drop_last = batch, drop_last
        self.number, self.order, self.start = 0, torch.empty(0, dtype=torch.int64), 0

    def plan(self, number: int, order: Tensor, start: int) -> None:
        self.number, self.order, self.start = number, order, start

    def __len__(self) -> int:
        whole, rest = divmod(len(self.order), self.batch)
        return max(whole + (rest > 0 and not self.drop_last) - self.start, 0)

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        for step in range(self.start, self.start + len(self)):
            yield self.number, self.order[step * self.batch : (step + 1) * self.batch]


class _Views(Dataset):
    """Whole batches by (epoch, positions), made in a worker process."""

    def __init__(self, images: Any, labels: Tensor, view: View, seed: int, damaged: str) -> None:
        self.images, self.labels, self.view, self.seed, self.damaged = images, labels, view, seed, damaged

    def __getitem__(self, key: tuple[int, Tensor]) -> Loaded | str:
        epoch, wanted = key
        rows, positions, damaged = [], [], []
        for position in wanted.tolist():
            row, other = None, position
            for offset in range(len(self.labels)):
                other = (position + offset) % len(self.labels)
                try:
                    picture = picture_at(self.images, other)
                except KdvizError as error:
                    if self.damaged == "refuse":
                        return str(error)  # an exception would come out of the pool with the worker's traceback in it
                    damaged.append(str(error))
                    continue
                row = self.view.make(picture, torch_generator(self.seed, "view", epoch, position))
                break
            if row is None:
                return "no picture of the data set can be read"
            rows.append(row)
            positions.append(other)
        index = torch.tensor(positions)
        return Loaded(torch.stack(rows), self.labels[index], index, tuple(damaged))


def picture_at(images: Any, position: int) -> Image.Image:
    """One picture of a data set, RGB, as large as it is stored.

    Args:
        images: `Data.images`: a uint8 tensor [n, 3, h, w], or a source whose `picture(position)` returns it.
        position: 0..n-1.
    Raises: KdvizError for a damaged file.
    """
    if hasattr(images, "picture"):
        return images.picture(position)
    if isinstance(images, Files):
        with opened(images.paths[position]) as image:
            colours = image.convert("RGBA") if "transparency" in image.info else image
            return colours.convert("RGB")
    return Image.fromarray(images[position].permute(1, 2, 0).contiguous().numpy())


def _same(batch: Any) -> Any:
    return batch
