"""Data sets by name, one record for all.

>>> "glyphs100" in DATA
True
"""

import os
from pathlib import Path

from kdviz.base.check import one_of
from kdviz.data import cifar, coco, fashion_mnist, folder, glyphboxes, glyphs, tree  # noqa: F401 - they fill DATA
from kdviz.data.base import DATA, SPLITS, Data, DataEntry
from kdviz.data.boxes import BoxData, has_boxes, load_boxes
from kdviz.data.external import is_external, load_function
from kdviz.data.huggingface import load_hf

DATA.accept(("folder:PATH", "hf:NAME", "package.module:function"))

__all__ = ["DATA", "SPLITS", "BoxData", "Data", "DataEntry", "has_boxes", "load_boxes", "load_data"]


def load_data(name: str, *, split: str = "test", root: str | os.PathLike | None = None) -> Data:
    """One split of a data set.

    Args:
        name: of `DATA`; "folder:PATH" for any tree with one folder per class; "hf:NAME" for an image set
            of Hugging Face, a folder or the hub's; "package.module:function" for what returns a torch Dataset.
        split: "train", "val" (held out of train) or "test".
        root: folder that holds the data set's files, or its archive; None means $KDVIZ_DATA and the usual places.
    Returns: a `Data` record, uint8 images and what is needed to normalise them.
    Raises:
        KdvizError: an unknown name or split; files that are missing, damaged or of another kind.
    """
    one_of("load_data", SPLITS, split=split)
    if name.startswith("folder:"):
        name, root = "folder", name.removeprefix("folder:")
    if is_external(name):
        return load_hf(name, split) if name.startswith("hf:") else load_function(name, split)
    return DATA[name].load(split, Path(root).expanduser() if root is not None else None)
