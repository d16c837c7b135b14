"""A teacher's logits of every view of every training image, computed ahead of any run."""

from collections.abc import Callable
from pathlib import Path

import torch

from kdviz.base.check import KdvizError
from kdviz.checkpoints import Checkpoint
from kdviz.data import augment
from kdviz.train.batches import batches_of
from kdviz.train.device import choose_device, choose_precision
from kdviz.train.outputs import outputs_of_images
from kdviz.train.recipe import Recipe
from kdviz.train.setup import frozen_teacher, open_table, teacher_key
from kdviz.train.splits import training_split
from kdviz.train.teacher_table import TeacherTable


def fill_table(
    recipe: Recipe,
    teacher: Checkpoint,
    folder: Path,
    *,
    root: Path | None = None,
    device: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> TeacherTable:
    """The table that `train(recipe, teacher=teacher, teacher_cache=folder)` reads, with every view known.

    Views that are known already are skipped, so that the same call goes on after a kill.

    Args:
        recipe: its data, limit, holdout, augment, precision and batch are used.
        teacher: whose logits they are.
        folder: of the tables.
        root: folder of the data set's files.
        device: "cpu", "cuda", ...; default: a GPU where there is one.
        progress: called with (views done, views in all).
    Raises: KdvizError: a teacher that is not of this data set, a folder that cannot be written.
    """
    where = choose_device(device)
    precision = choose_precision(recipe.precision, where)
    batches = batches_of(recipe, training_split(recipe, root), where)
    if batches.images is None or not recipe.views_are_countable:
        raise KdvizError(f"{recipe.data}: its views under this recipe are too many for a table; the teacher stays live")
    net = frozen_teacher(recipe, teacher, batches.data, where)
    table = open_table(folder, batches, teacher_key(recipe, teacher), precision)
    images, views, _ = table.shape
    for view in range(views):
        for ids in torch.arange(images).split(recipe.batch):
            numbers = torch.full_like(ids, view)
            if table.get(ids, numbers) is None:
                seen = batches.images[ids.to(where)]
                if recipe.augment == "crop":
                    seen = augment.crop_flip_view(seen, numbers, flip=batches.data.flip)
                table.put(ids, numbers, outputs_of_images(net, batches.normalize(seen), precision).logits)
        table.flush()
        if progress:
            progress(view + 1, views)
    return table
