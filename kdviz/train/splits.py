"""Which images a run trains on, chooses by and is tested on."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from kdviz.base.check import KdvizError, require
from kdviz.data import DATA, Data, load_data
from kdviz.data.base import held_out
from kdviz.data.files import Files
from kdviz.data.tree import TreeImages
from kdviz.train.recipe import Recipe


def training_split(recipe: Recipe, root: Path | None) -> Data:
    """The images to train on, by the recipe's holdout and limit; a limit takes every class in proportion.

    Raises: KdvizError for a data set that is not there, or whose parts on disk cannot be joined.
    """
    data = load_data(recipe.data, split="train", root=root)
    if recipe.holdout is not True:
        data = _whole(recipe, data, root)
    if recipe.holdout and recipe.holdout is not True:
        data = held_out(data, "train", _count(recipe, data))
    return data.subset(recipe.limit, seed=recipe.seed) if recipe.limit and recipe.limit < len(data) else data


def validation_split(recipe: Recipe, root: Path | None) -> Data | None:
    """The images that the best epoch is chosen by; None where the recipe holds nothing out."""
    if recipe.holdout is False:
        return None
    if recipe.holdout is True:
        return for_evaluation(recipe, load_data(recipe.data, split="val", root=root))
    whole = _whole(recipe, load_data(recipe.data, split="train", root=root), root)
    return for_evaluation(recipe, held_out(whole, "val", _count(recipe, whole)))


def test_split(recipe: Recipe, root: Path | None) -> Data:
    """The images that a finished run is measured on."""
    return for_evaluation(recipe, load_data(recipe.data, split="test", root=root))


def for_evaluation(recipe: Recipe, data: Data) -> Data:
    """The data framed as the recipe measures them, at its image_size and eval_crop, where they are read from files."""
    if not isinstance(data.images, Files | TreeImages):
        return data
    size = recipe.image_size or data.images.size
    return replace(data, images=replace(data.images, size=size, crop=recipe.eval_crop))


def _count(recipe: Recipe, whole: Data) -> int:
    count = round(recipe.holdout * len(whole))
    require(0 < count < len(whole), f"holdout {recipe.holdout} of {len(whole)} images leaves none on one side")
    return count


def _whole(recipe: Recipe, train: Data, root: Path | None) -> Data:
    """All images that are not test: train, joined with the val that was cut out of it."""
    if recipe.data in DATA and DATA[recipe.data].val_is_test:
        return train
    val = load_data(recipe.data, split="val", root=root)
    if isinstance(train.images, Tensor) and isinstance(val.images, Tensor):
        images = torch.cat([train.images, val.images])
    elif isinstance(train.images, Files) and isinstance(val.images, Files):
        images = replace(train.images, paths=train.images.paths + val.images.paths)
    else:
        raise KdvizError(f"{recipe.data}: train and val cannot be joined; train with --holdout split")
    labels = torch.cat([train.labels, val.labels])
    return replace(train, images=images, labels=labels, ids=torch.arange(len(labels)))
