"""A run's batches: order and augmentation, each decided by seed, epoch and step alone.

Because nothing here depends on the method or on what came before, a run resumes at any step to the same batches, and
methods compared under one seed see the same images. So do any number of processes of torchrun: each takes its own rows
of the same batches.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from kdviz.base.check import KdvizError
from kdviz.base.processes import RankError
from kdviz.base.seeds import torch_generator
from kdviz.data import Data, augment
from kdviz.data.loader import Loader, View
from kdviz.data.mix import Mixed, cutmix, mixup, soft_targets
from kdviz.data.transforms import colour_jitter, random_erasing, random_resized_crop
from kdviz.methods import Batch
from kdviz.train.distributed import ALONE, Ranks, require_divisible
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
    """The training split, served by (epoch, step).

    Attributes:
        data: the training split.
        images: all of them on the device, uint8 `[N, c, h, w]`; None where worker processes read them from files.
        labels: on the device `[N]`.
        mean, std: the data's, on the device, `[c, 1, 1]`.
        loader: reads the images where they are not resident.
        strong_view: whether each batch has a strongly augmented view as well.
        ranks: the processes that share each batch.
    """

    recipe: Recipe
    data: Data
    images: Tensor | None
    labels: Tensor
    mean: Tensor
    std: Tensor
    loader: Loader | None = None
    strong_view: bool = False
    ranks: Ranks = ALONE

    @property
    def device(self) -> torch.device:
        return self.labels.device

    @property
    def size(self) -> int:
        """Images in a batch, of all processes together."""
        return min(self.recipe.batch, len(self.data))

    @property
    def steps(self) -> int:
        """Whole batches in an epoch; the rest of a shuffled epoch is left out, as batch statistics ask."""
        return len(self.data) // self.size

    def with_strong_view(self, wanted: bool) -> "Batches":
        """The same batches, with or without a strongly augmented view."""
        return replace(self, strong_view=wanted)

    def plan(self, epoch: int) -> EpochPlan:
        """The order of an epoch and its crops. Drawn on the CPU, so that they are the same on every device."""
        count, seed = len(self.data), self.recipe.seed
        order = torch.randperm(count, generator=torch_generator(seed, "order", epoch)).to(self.device)
        if self.recipe.augment != "crop":
            return EpochPlan(epoch, order, None)
        views = augment.draw_views(count, generator=torch_generator(seed, "views", epoch), flip=self.data.flip)
        return EpochPlan(epoch, order, views.to(self.device))

    def ids(self, plan: EpochPlan, step: int) -> Tensor:
        """The images of one step `[size]`, as places in the training split."""
        return plan.order[step * self.size : (step + 1) * self.size]

    def epoch(self, plan: EpochPlan, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from step `start` on, of each this process's rows.

        Raises: KdvizError for an image file that cannot be read, where they are refused.
        """
        if self.images is not None:
            yield from (self.get(plan, step) for step in range(start, self.steps))
            return
        assert self.loader is not None
        order = torch.cat([self._own(self.ids(plan, step)) for step in range(self.steps)]).cpu()
        try:
            for step, loaded in enumerate(self.loader.epoch(plan.epoch, order, start=start), start):
                raw = loaded.images.to(self.device, non_blocking=True)
                ids = loaded.positions.to(self.device, non_blocking=True)
                views = self._views(plan, step)
                if self.drawn_together:
                    raw, ids = (self.ranks.whole(rows, self.recipe.accumulate) for rows in (raw, ids))
                    yield self._rows(self._batch(raw, ids, views, plan.epoch, step))
                else:
                    yield self._batch(raw, ids, None if views is None else self._own(views), plan.epoch, step)
        except KdvizError as error:
            raise RankError(error) from error

    def get(self, plan: EpochPlan, step: int) -> Batch:
        """This process's rows of the batch of one step, of images that are resident."""
        assert self.images is not None
        ids, views = self.ids(plan, step), self._views(plan, step)
        if self.drawn_together:
            return self._rows(self._batch(self.images[ids], ids, views, plan.epoch, step))
        ids, views = self._own(ids), None if views is None else self._own(views)
        return self._batch(self.images[ids], ids, views, plan.epoch, step)

    @property
    def drawn_together(self) -> bool:
        """Whether the random changes of a batch are one draw for all of its images.

        Then every process makes them for the whole batch and keeps its rows: draws for its rows alone would be others.
        """
        recipe = self.recipe
        changed = recipe.rand_augment or recipe.colour_jitter or recipe.random_erasing or recipe.mixes
        resident_boxes = recipe.augment == "resized_crop" and self.images is not None
        return bool(self.ranks.world > 1 and (changed or resident_boxes or self.strong_view))

    def _own(self, rows: Tensor) -> Tensor:
        return self.ranks.own(rows, self.recipe.accumulate)

    def _rows(self, batch: Batch) -> Batch:
        return Batch(*(None if rows is None else self._own(rows) for rows in batch))  # type: ignore[arg-type]

    def plain(self, ids: Tensor, views: Tensor | None) -> Batch:
        """Resident images in given views, without random changes: of tensors alone, as a CUDA graph needs."""
        assert self.images is not None
        labels = self.labels[ids]
        return Batch(
            self.normalize(self._seen(self.images[ids], views)), labels, ids, None, views, self._targets(labels)
        )

    def first(self, count: int) -> tuple[Tensor, Tensor]:
        """(images, labels) of the first few places of the first epoch, as they are without random changes."""
        plan = self.plan(0)
        ids = plan.order[:count]
        if self.images is not None:
            raw = self.images[ids]
        else:
            assert self.loader is not None
            raw = self.loader.framed(ids.cpu()).to(self.device)
        return self.normalize(raw), self.labels[ids]

    def close(self) -> None:
        """End the worker processes."""
        if self.loader is not None:
            self.loader.close()

    def _views(self, plan: EpochPlan, step: int) -> Tensor | None:
        return None if plan.views is None else plan.views[step * self.size : (step + 1) * self.size]

    def _seen(self, raw: Tensor, views: Tensor | None) -> Tensor:
        return raw if views is None else augment.crop_flip_view(raw, views, flip=self.data.flip)

    def _batch(self, raw: Tensor, ids: Tensor, views: Tensor | None, epoch: int, step: int) -> Batch:
        recipe = self.recipe
        seen, generator = self._seen(raw, views), torch_generator(recipe.seed, "transform", epoch, step)
        if recipe.augment == "resized_crop" and self.images is not None:
            side = recipe.image_size or raw.shape[-1]
            seen = random_resized_crop(raw, side, generator=generator, scale=recipe.resized_scale)
            seen = augment.crop_flip(seen, generator=generator, padding=0, flip=self.data.flip)
        if recipe.rand_augment:
            seen = augment.rand_augment(seen, generator=generator)
        if recipe.colour_jitter:
            amount = recipe.colour_jitter
            seen = colour_jitter(seen, generator=generator, brightness=amount, contrast=amount, saturation=amount)
        images, labels, mixed = self.normalize(seen), self.labels[ids], None
        if recipe.mixes:
            both = recipe.mixup > 0 and recipe.cutmix > 0
            by_mixup = bool(torch.randint(2, (), generator=generator)) if both else recipe.mixup > 0
            mix, alpha = (mixup, recipe.mixup) if by_mixup else (cutmix, recipe.cutmix)
            mixed = mix(images, generator=generator, alpha=alpha)
            images = mixed.images
        if recipe.random_erasing:
            images = random_erasing(images, generator=generator, probability=recipe.random_erasing)
        strong = self._strong(raw, seen, epoch, step) if self.strong_view else None
        return Batch(images, labels, ids, strong, views, self._targets(labels, mixed))

    def _targets(self, labels: Tensor, mixed: Mixed | None = None) -> Tensor | None:
        smoothing = self.recipe.label_smoothing
        if mixed is None and not smoothing:
            return None
        return soft_targets(labels, self.data.classes, mixed=mixed, smoothing=smoothing)

    def _strong(self, raw: Tensor, seen: Tensor, epoch: int, step: int) -> Tensor:
        """The strong view: a crop of its own where the images are cropped by padding, then the random operations."""
        generator = torch_generator(self.recipe.seed, "strong", epoch, step)
        if self.recipe.augment != "resized_crop":
            seen = augment.crop_flip(raw, generator=generator, flip=self.data.flip)
        return self.normalize(augment.rand_augment(seen, generator=generator))

    def normalize(self, images: Tensor) -> Tensor:
        """Images as both nets take them: float32, normalised, channels last."""
        return ((images.float() / 255 - self.mean) / self.std).contiguous(memory_format=torch.channels_last)


def batches_of(
    recipe: Recipe, data: Data, device: torch.device, *, workers: int = 0, damaged: str = "refuse", ranks: Ranks = ALONE
) -> Batches:
    """The batches of a training split: resident on the device, or read by `workers` processes where it stays in files.

    Args:
        recipe: its batch, seed, augmentation and mixing are used.
        data: the training split.
        device: where the batches are wanted.
        workers: processes; 0 reads in this one.
        damaged: "refuse" or "replace", what to do with an image file that cannot be read.
        ranks: the processes that share each batch.
    Raises: KdvizError where a batch cannot be divided over them.
    """
    size = min(recipe.batch, len(data))
    if ranks.world > 1:
        require_divisible(ranks, size, recipe.accumulate)
    mean, std = (torch.tensor(values, device=device).view(-1, 1, 1) for values in (data.mean, data.std))
    labels = data.labels.to(device)
    if isinstance(data.images, Tensor):
        return Batches(recipe, data, data.images.to(device), labels, mean, std, ranks=ranks)
    side = recipe.image_size or data.images.shape[-1]
    random = recipe.augment == "resized_crop"
    view = View(side, scale=recipe.resized_scale if random else None, flip=random and data.flip)
    loader = Loader(
        data,
        view,
        batch=size // ranks.world,
        seed=recipe.seed,
        workers=workers,
        pinned=device.type == "cuda",
        damaged=damaged,
        drop_last=True,
    )
    return Batches(recipe, data, None, labels, mean, std, loader, ranks=ranks)
