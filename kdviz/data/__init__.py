"""Data sets by name, one record for all.

>>> "glyphs100" in DATA
True
"""

import os
from pathlib import Path

from kdviz.base.check import one_of
from kdviz.data import glyphs  # noqa: F401 - fills DATA
from kdviz.data.base import DATA, SPLITS, Data, Entry

__all__ = ["DATA", "SPLITS", "Data", "Entry", "load_data"]


def load_data(name: str, *, split: str = "test", root: str | os.PathLike | None = None) -> Data:
    """One split of a data set.

    Args:
        name: of `DATA`.
        split: "train", "val" (held out of train) or "test".
        root: folder that holds the data set's files, or the archive itself; None means the usual places.
    Returns: a `Data` record, uint8 images and what is needed to normalise them.
    Raises:
        KdvizError: an unknown name or split; files that are missing, damaged or of another kind.
    """
    one_of("load_data", SPLITS, split=split)
    return DATA[name].load(split, Path(root).expanduser() if root is not None else None)
