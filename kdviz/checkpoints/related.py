"""The data set and the teacher that belong to a checkpoint."""

import os

from kdviz.base.check import KdvizError, require
from kdviz.base.references import data_name
from kdviz.checkpoints.open import load_checkpoint
from kdviz.checkpoints.record import Checkpoint
from kdviz.checkpoints.references import teacher_file
from kdviz.data import Data, load_data
from kdviz.data.external import named_by_file


def load_data_of(
    checkpoint: Checkpoint | None,
    name: str | None = None,
    *,
    root: str | os.PathLike | None = None,
    split: str = "test",
) -> Data:
    """The data set `name`, or the one that the checkpoint was trained on.

    Raises:
        KdvizError: no data set is known; class counts that differ; as `load_data`.
    """
    chosen = name
    if name is None and checkpoint is not None and checkpoint.data is not None:
        chosen = data_name(named_by_file(checkpoint.data, where=checkpoint.path), checkpoint.path)
    if chosen is None:
        raise KdvizError("the checkpoint does not say its data set; name one with --data (see: kdviz list data)")
    data = load_data(chosen, split=split, root=root)
    if checkpoint is not None:
        require(
            data.classes == checkpoint.classes,
            f"{checkpoint.path} has {checkpoint.classes} classes but {chosen} has {data.classes};"
            " was it trained on another data set? name that one with --data",
        )
    return data


def load_teacher_of(checkpoint: Checkpoint, path: str | os.PathLike | None = None) -> Checkpoint | None:
    """The teacher at `path`, or the one that the checkpoint refers to (beside it, sha256 checked), or None.

    Raises:
        KdvizError: a teacher that is not where the checkpoint says, or another file.
    """
    if path is not None:
        return load_checkpoint(path)
    found = teacher_file(checkpoint)
    return None if found is None else load_checkpoint(found)
