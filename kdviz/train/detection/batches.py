"""A detector's batches: order and flips, each decided by seed, epoch and step alone."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from kdviz.base.processes import said_by_any_rank
from kdviz.base.seeds import derive, torch_generator
from kdviz.data import BoxData
from kdviz.data.boxes import Boxes
from kdviz.train.batches import EpochPlan
from kdviz.train.distributed import ALONE, Ranks
from kdviz.train.recipe import Recipe

AHEAD = 4  # batches that are read before they are asked for


class BoxBatch(NamedTuple):
    """The images of one step and their boxes, on the device.

    Attributes:
        images: float32 `[3, h, w]` each, from 0 to 1, of any size.
        targets: of each image, "boxes" `[m, 4]` as x1, y1, x2, y2 in pixels and "labels" `[m]` from 1, int64.
        ids: each image's place in the training split `[n]`.
        seeds: of each image, what its anchors and regions are drawn by.
    """

    images: list[Tensor]
    targets: list[dict[str, Tensor]]
    ids: Tensor
    seeds: tuple[int, ...] = ()

    def parts(self, count: int) -> list["BoxBatch"]:
        """The batch in `count` equal parts."""
        size = len(self.images) // count
        cuts = [slice(start, start + size) for start in range(0, len(self.images), size)]
        return [BoxBatch(self.images[cut], self.targets[cut], self.ids[cut], self.seeds[cut]) for cut in cuts]


@dataclass(frozen=True)
class BoxBatches:
    """The training split, served by (epoch, step), as `kdviz.train.batches.Batches` serves images.

    Attributes:
        data: the training split; every image has a box.
        device: where the batches are wanted.
        workers: threads that read images ahead, where these are in files.
        ranks: the processes that share each batch.
    """

    recipe: Recipe
    data: BoxData
    device: torch.device
    workers: int = 0
    ranks: Ranks = ALONE
    loader: None = None  # no worker processes
    images: None = None  # nothing that a CUDA graph could hold

    @property
    def size(self) -> int:
        """Images in a batch, of all processes together."""
        return min(self.recipe.batch, len(self.data))

    @property
    def steps(self) -> int:
        """Steps of an epoch: whole batches of a pass over the images, or the recipe's share of its iterations."""
        if self.recipe.iterations is not None:
            return self.recipe.iterations // self.recipe.epochs
        return len(self.data) // self.size

    def plan(self, epoch: int) -> EpochPlan:
        """The order of an epoch; with iterations, its part of passes over the images one after another."""
        count, seed = len(self.data), self.recipe.seed
        length = self.steps * self.size
        begin = epoch * length if self.recipe.iterations is not None else epoch * count
        passes = range(begin // count, (begin + length - 1) // count + 1)
        order = torch.cat([torch.randperm(count, generator=torch_generator(seed, "order", one)) for one in passes])
        return EpochPlan(epoch, order[begin % count :][:length], None)

    def ids(self, plan: EpochPlan, step: int) -> Tensor:
        """The images of one step `[size]`, as places in the training split."""
        return plan.order[step * self.size : (step + 1) * self.size]

    def epoch(self, plan: EpochPlan, start: int = 0) -> Iterator[BoxBatch]:
        """The batches of an epoch from step `start` on, of each this process's images.

        Raises: KdvizError for an image file that cannot be read.
        """
        with said_by_any_rank():
            yield from self._epoch(plan, start)

    def _epoch(self, plan: EpochPlan, start: int) -> Iterator[BoxBatch]:
        steps = range(start, self.steps)
        if isinstance(self.data.images, Tensor) or not self.workers:
            yield from (self.get(plan, step) for step in steps)
            return
        with ThreadPoolExecutor(self.workers) as pool:
            waiting: list[Future[BoxBatch]] = []
            try:
                for step in steps:
                    waiting.append(pool.submit(self.get, plan, step))
                    if len(waiting) > AHEAD:
                        yield waiting.pop(0).result()
                while waiting:
                    yield waiting.pop(0).result()
            finally:
                for one in waiting:
                    one.cancel()

    def get(self, plan: EpochPlan, step: int) -> BoxBatch:
        """This process's images of the batch of one step, with the draws that they have in the whole batch."""
        ids, seed = self.ids(plan, step), self.recipe.seed
        generator = torch_generator(seed, "transform", plan.epoch, step)
        mirrored = torch.rand(len(ids), generator=generator) < 0.5
        wanted = self.recipe.augment == "flip" and self.data.flip
        own = self.ranks.own(torch.arange(len(ids)), self.recipe.accumulate)
        pairs = [self._one(int(ids[place]), wanted and bool(mirrored[place])) for place in own]
        seeds = tuple(derive(seed, "regions", plan.epoch, step, place) for place in own.tolist())
        images, targets = [image for image, _ in pairs], [target for _, target in pairs]
        return BoxBatch(images, targets, ids[own].to(self.device), seeds)

    def first(self, count: int) -> BoxBatch:
        """The first few images of the first epoch, as they are."""
        ids = self.plan(0).order[:count]
        pairs = [self._one(place, mirror=False) for place in ids.tolist()]
        seeds = tuple(derive(self.recipe.seed, "regions", place) for place in range(len(ids)))
        return BoxBatch([image for image, _ in pairs], [target for _, target in pairs], ids.to(self.device), seeds)

    def close(self) -> None:
        """Nothing is held between epochs."""

    def _one(self, place: int, mirror: bool) -> tuple[Tensor, dict[str, Tensor]]:
        image, boxes = self.data.images[place].to(self.device), target_of(self.data.boxes[place], self.device)
        if mirror:
            image, width = image.flip(2), image.shape[2]
            left, top, right, bottom = boxes["boxes"].unbind(1)
            boxes["boxes"] = torch.stack([width - right, top, width - left, bottom], 1)
        return image.float() / 255, boxes


def target_of(boxes: Boxes, device: torch.device) -> dict[str, Tensor]:
    """An image's boxes as torchvision's detectors are trained on them: crowds left out, labels from 1."""
    single = ~boxes.crowd
    return {"boxes": boxes.corners[single].to(device), "labels": boxes.labels[single].to(device) + 1}
