"""A run's batches: order, augmentation and the teacher's answers, each decided by seed, epoch and step alone.

Because nothing here depends on the method or on what came before, a run resumes at any step to the same batches, and
methods compared under one seed see the same images, so that they can share one pass of the teacher (`TeacherCache`).
"""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kdviz.base.check import KdvizError
from kdviz.base.files import atomic
from kdviz.base.seeds import torch_generator
from kdviz.data import Data, augment, load_data
from kdviz.methods import Batch
from kdviz.models import Outputs
from kdviz.train.recipe import Recipe


@dataclass(frozen=True)
class Batches:
    """The training split, resident on the device, dealt out by (epoch, step)."""

    recipe: Recipe
    data: Data
    images: Any  # uint8 tensor on the device, or a folder-backed source
    labels: torch.Tensor
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

    def order(self, epoch: int) -> torch.Tensor:
        """The epoch's permutation of the training split."""
        return torch.randperm(len(self.data), generator=torch_generator(self.recipe.seed, "order", epoch))

    def get(self, epoch: int, step: int, order: torch.Tensor) -> Batch:
        """The batch of one step."""
        index = order[step * self.size : (step + 1) * self.size]
        here = index if not isinstance(self.images, torch.Tensor) else index.to(self.images.device)
        raw = self.images[here].to(self.device, non_blocking=True)
        generator = torch_generator(self.recipe.seed, "augment", epoch, step)
        weak, strong = raw, None
        if self.recipe.augment == "crop":
            weak = augment.crop_flip(raw, generator=generator, flip=self.data.flip)
        if self.strong_view:
            view = torch_generator(self.recipe.seed, "strong", epoch, step)
            strong = self._normalize(
                augment.rand_augment(augment.crop_flip(raw, generator=view, flip=self.data.flip), generator=view)
            )
        ids = index.to(self.labels.device)
        return Batch(self._normalize(weak), self.labels[ids], ids, strong)

    def _normalize(self, images: torch.Tensor) -> torch.Tensor:
        return self.data.normalize(images).contiguous(memory_format=torch.channels_last)


def training_split(recipe: Recipe, root: Path | None) -> Data:
    """The images to train on: train, or train + val joined (`holdout=False`), or `limit` of them, stratified."""
    data = load_data(recipe.data, split="train", root=root)
    if not recipe.holdout:
        held = load_data(recipe.data, split="val", root=root)
        if not isinstance(data.images, torch.Tensor) or not isinstance(held.images, torch.Tensor):
            raise KdvizError(f"{recipe.data}: holdout=false joins train and val in memory, but this set stays on disk")
        images, labels = torch.cat([data.images, held.images]), torch.cat([data.labels, held.labels])
        data = replace(data, images=images, labels=labels, ids=torch.arange(len(labels)))
    return data.subset(recipe.limit, seed=recipe.seed) if recipe.limit and recipe.limit < len(data) else data


def resident(recipe: Recipe, data: Data, device: torch.device) -> Batches:
    """`Batches` with the whole data set on the device; a folder-backed source stays where it is."""
    images = data.images.to(device) if isinstance(data.images, torch.Tensor) else data.images
    return Batches(recipe, data, images, data.labels.to(device), device)


class TeacherCache:
    """The teacher's logits of each epoch, on disk, shared by runs that see the same images of the same teacher."""

    def __init__(self, folder: Path, batches: Batches, teacher_sha256: str, precision: str) -> None:
        recipe, data, self.device = batches.recipe, batches.data, batches.device
        seen = (teacher_sha256, data.sha256, recipe.seed, recipe.batch, recipe.augment, data.flip, precision)
        self.folder = Path(folder) / hashlib.sha256(json.dumps(seen).encode()).hexdigest()[:16]
        self._known: np.ndarray | None = None
        self._fresh: list[np.ndarray] = []

    def start(self, epoch: int, step: int) -> None:
        """Begin an epoch at `step`: read what is there."""
        path = self._path(epoch)
        self._known, self._fresh = None, []
        if path.is_file():
            try:
                self._known = np.load(path, allow_pickle=False)
            except (OSError, ValueError) as error:
                raise KdvizError(f"{path}: damaged teacher cache ({error}); delete the file") from error
        self._complete = step == 0

    def get(self, step: int) -> Outputs | None:
        """The teacher's outputs (logits [n, k] alone) of a step, or None where they are not known."""
        return None if self._known is None else Outputs(torch.from_numpy(self._known[step].copy()).to(self.device))

    def put(self, logits: torch.Tensor) -> None:
        """Keep the logits of the next step."""
        self._fresh.append(logits.float().cpu().numpy())

    def finish(self, epoch: int) -> None:
        """Write the epoch, if all of it was computed here."""
        if self._known is None and self._complete and self._fresh:
            with atomic(self._path(epoch)) as partial, partial.open("wb") as stream:
                np.save(stream, np.stack(self._fresh))

    def _path(self, epoch: int) -> Path:
        return self.folder / f"epoch_{epoch:04d}.npy"
