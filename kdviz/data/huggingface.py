"""Image sets of the Hugging Face library `datasets`: by `hf:NAME`, where NAME is a folder here or a set of the hub."""

import importlib
from pathlib import Path
from typing import Any

from kdviz.base.check import KdvizError, require
from kdviz.data.base import Data, held_out
from kdviz.data.external import record

# Ours -> theirs, the first that is there.
SPLITS = {"train": ("train",), "val": ("validation", "valid", "val", "dev"), "test": ("test",)}
SIDE_NAME = "@"


def load_hf(name: str, split: str) -> Data:
    """A split of an image set; nothing is cut out of train unless there is neither a validation nor a test split.

    A folder is opened as `save_to_disk` wrote it, or else as a tree with one folder per class; any other name is
    looked up on the hub, whose scripts are never run. Where the set has one held-out split alone, it is both val and
    test. NAME@SIDE brings pictures to SIDE pixels.

    Args:
        name: "hf:NAME" or "hf:NAME@SIDE".
        split: "train", "val" or "test".
    Raises: KdvizError where `datasets` is not installed, there is no such set, or it has no pictures and classes.
    Source: the column of type Image is the picture, that of type ClassLabel the class; with several, the first of each.
    """
    library = _library()
    plain, side = _side(name.removeprefix("hf:"))
    found = _open(library, name, plain)
    splits = {key: found[key] for key in found}
    chosen, cut = _chosen(name, split, list(splits))
    part = splits[chosen]
    picture, label = _columns(library, name, part)
    data = record(
        name,
        split,
        get=_Getter(part, picture),
        labels=list(part[label][:]),
        class_names=part.features[label].names,
        mark=f"{name}/{chosen}/{getattr(part, '_fingerprint', len(part))}",
        size=side,
    )
    return held_out(data, split, max(1, len(data) // 10)) if cut else data


class _Getter:
    """Number -> PIL image; an object and no closure, so that worker processes can be started with it."""

    def __init__(self, part: Any, column: str) -> None:
        self.part, self.column = part, column

    def __call__(self, number: int) -> Any:
        return self.part[number][self.column]


def _library() -> Any:
    try:
        return importlib.import_module("datasets")
    except ImportError as error:
        raise KdvizError("hf: needs the library `datasets`; pip install 'kdviz[datasets]'") from error


def _side(name: str) -> tuple[str, int | None]:
    """NAME@SIDE in two; a folder that is really called so wins."""
    plain, at, side = name.rpartition(SIDE_NAME)
    if Path(name).exists() or not at or not side.isdigit():
        return name, None
    require(8 <= int(side) <= 1024, f"hf: the side must be 8 to 1024 pixels, got {side}")
    return plain, int(side)


def _open(library: Any, name: str, plain: str) -> Any:
    """Splits by name."""
    path = Path(plain).expanduser()
    try:
        if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
            found = library.load_from_disk(str(path))
        elif path.is_dir():
            found = library.load_dataset("imagefolder", data_dir=str(path))
        else:
            found = library.load_dataset(plain)
    except Exception as error:  # the library raises its own kinds, those of pyarrow and those of its hub
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise KdvizError(f"{name}: cannot be opened ({reason})") from error
    return found if hasattr(found, "keys") else {"train": found}


def _chosen(name: str, split: str, there: list[str]) -> tuple[str, bool]:
    """The set's own name for our split, and whether ours must be cut out of it."""
    own = next((key for key in SPLITS[split] if key in there), None)
    if own is not None:
        held = [key for names in (SPLITS["val"], SPLITS["test"]) for key in names if key in there]
        return own, split == "train" and not held
    held = next((key for names in (SPLITS["val"], SPLITS["test"]) for key in names if key in there), None)
    if held is not None and split != "train":
        return held, False
    require("train" in there and split == "val", f"{name}: has no {split} split; it has {', '.join(there)}")
    return "train", True


def _columns(library: Any, name: str, part: Any) -> tuple[str, str]:
    features = part.features
    pictures = [key for key, kind in features.items() if isinstance(kind, library.Image)]
    labels = [key for key, kind in features.items() if isinstance(kind, library.ClassLabel)]
    columns = ", ".join(f"{key} ({type(kind).__name__})" for key, kind in features.items())
    require(pictures, f"{name}: has no column of pictures; it has {columns}")
    require(labels, f"{name}: has no column of classes (ClassLabel); it has {columns}")
    return pictures[0], labels[0]
