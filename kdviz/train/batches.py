"""A run's batches: order, augmentation and the teacher's answers, each decided by seed, epoch and step alone.

Because nothing here depends on the method or on what came before, a run resumes at any step to the same batches, and
methods compared under one seed see the same images.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kdviz.base.check import KdvizError
from kdviz.base.seeds import torch_generator
from kdviz.data import Data, augment, load_data
from kdviz.methods import Batch
from kdviz.train.recipe import Recipe


class EpochPlan(NamedTuple):
    """The draws of an epoch, all made at its start, on the device.

    Attributes:
        epoch: from 0.
        order: permutation of the training split `[N]`.
        views: which crop every place of the order gets `[N]`; None without cropping.
    """

    epoch: int
    order: Tensor
    views: Tensor | None


@dataclass(frozen=True)
class Batches:
    """The training split, resident on the device, served by (epoch, step)."""

    recipe: Recipe
    data: Data
    images: Any  # uint8 tensor on the device, or a folder-backed source
    labels: Tensor
    device: torch.device
    strong_view: bool = False

    def with_strong_view(self, wanted: bool) -> "Batches":
        """The same batches, with or without a strongly augmented view."""
        return replace(self, strong_view=wanted)

    @property
    def size(self) -> int:
        return min(self.recipe.batch, len(self.data))

    @property
    def steps(self) -> int:
        """Whole batches in an epoch; the rest of a shuffled epoch is left out, as batch statistics ask."""
        return len(self.data) // self.size

    def plan(self, epoch: int) -> EpochPlan:
        """The order of an epoch and its crops. Drawn on the CPU, so that they are the same on every device."""
        count, seed = len(self.data), self.recipe.seed
        order = torch.randperm(count, generator=torch_generator(seed, "order", epoch)).to(self.device)
        if self.recipe.augment != "crop":
            return EpochPlan(epoch, order, None)
        views = augment.draw_views(count, generator=torch_generator(seed, "views", epoch), flip=self.data.flip)
        return EpochPlan(epoch, order, views.to(self.device))

    def get(self, plan: EpochPlan, step: int) -> Batch:
        """The batch of one step."""
        here = slice(step * self.size, (step + 1) * self.size)
        ids, views = plan.order[here], None if plan.views is None else plan.views[here]
        raw = self.images[ids if isinstance(self.images, Tensor) else ids.cpu()].to(self.device, non_blocking=True)
        seen = raw if views is None else augment.crop_flip_view(raw, views, flip=self.data.flip)
        strong = self._strong(raw, plan.epoch, step) if self.strong_view else None
        return Batch(self.normalize(seen), self.labels[ids], ids, strong, views)

    def _strong(self, raw: Tensor, epoch: int, step: int) -> Tensor:
        generator = torch_generator(self.recipe.seed, "strong", epoch, step)
        cropped = augment.crop_flip(raw, generator=generator, flip=self.data.flip)
        return self.normalize(augment.rand_augment(cropped, generator=generator))

    def normalize(self, images: Tensor) -> Tensor:
        """Images as both nets take them: float32, normalised, channels last."""
        return self.data.normalize(images).contiguous(memory_format=torch.channels_last)


def training_split(recipe: Recipe, root: Path | None) -> Data:
    """The images to train on: train, or train + val joined (`holdout=False`), or `limit` of them, stratified."""
    data = load_data(recipe.data, split="train", root=root)
    if not recipe.holdout:
        held = load_data(recipe.data, split="val", root=root)
        if not isinstance(data.images, Tensor) or not isinstance(held.images, Tensor):
            raise KdvizError(f"{recipe.data}: holdout=false joins train and val in memory, but this set stays on disk")
        images, labels = torch.cat([data.images, held.images]), torch.cat([data.labels, held.labels])
        data = replace(data, images=images, labels=labels, ids=torch.arange(len(labels)))
    return data.subset(recipe.limit, seed=recipe.seed) if recipe.limit and recipe.limit < len(data) else data


def resident(recipe: Recipe, data: Data, device: torch.device) -> Batches:
    """`Batches` with the whole data set on the device; a folder-backed source stays where it is."""
    images = data.images.to(device) if isinstance(data.images, Tensor) else data.images
    return Batches(recipe, data, images, data.labels.to(device), device)
