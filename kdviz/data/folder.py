"""Any tree with one folder per class, and Tiny ImageNet, read from disk as they are asked for.

Constants: ImageNet's for any tree; Tiny ImageNet's own as they are commonly given (not measured here).
"""

from dataclasses import replace
from pathlib import Path

import torch

from kdviz.base.check import KdvizError, existing, require
from kdviz.data.base import DATA, Data, DataEntry, held_out, roots
from kdviz.data.files import SUFFIXES, Files, natural_size

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TINY = (0.4802, 0.4481, 0.3975), (0.2770, 0.2691, 0.2821)


def _classes(folder: Path) -> list[str]:
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    require(names, f"{folder}: no class folders in it; expected {folder}/CLASS/IMAGE")
    for name in names:
        require(name.isprintable(), f"{folder / name}: the class' name is no UTF-8 or not printable; rename the folder")
    return names


def _images(folder: Path) -> list[Path]:
    """Every image below folder, in the order of their relative paths."""
    found = [path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _first(folder: Path, names: list[str]) -> Path:
    """The first image of a folder of class folders, all of which must have one.

    Raises: KdvizError naming the class folders without an image.
    """
    found = {name: _images(folder / name) for name in names}
    empty = [name for name in names if not found[name]]
    full = next((images[0] for images in found.values() if images), None)
    if full is None:
        raise KdvizError(f"{folder}: class folders, but no images ({', '.join(SUFFIXES)}) in them")
    require(
        not empty,
        f"{folder}: no images ({', '.join(SUFFIXES)}) in the class folder{'s' * (len(empty) > 1)}"
        f" {', '.join(empty[:6])}{', ...' * (len(empty) > 6)}; put some there, or remove it",
    )
    return full


def _tree(name: str, split: str, folder: Path, names: list[str], size: int | None, constants: tuple) -> Data:
    """The record of folder/CLASS/...; `names` are the classes in label order, the same for every split."""
    known = {label: number for number, label in enumerate(names)}
    paths, labels = [], []
    for label in _classes(folder):
        require(label in known, f"{folder / label}: no such class among the training images")
        found = _images(folder / label)
        paths += found
        labels += [known[label]] * len(found)
    require(paths, f"{folder}: class folders, but no images ({', '.join(SUFFIXES)}) in them")
    return Data(
        name=name,
        split=split,
        images=Files(tuple(paths), size or natural_size(paths[0])),
        labels=torch.tensor(labels),
        mean=constants[0],
        std=constants[1],
        class_names=tuple(names),
    )


def load(split: str, root: Path | None = None) -> Data:
    """A split of the tree at `root`, written folder:PATH or folder:PATH@SIDE.

    With train/, val/ and test/ folders these are the splits; with train/ and one of the others, that one is the test
    split and a tenth of train is held out as val. Without any of them every class is cut 80 : 10 : 10. SIDE is in
    pixels; by default the first image decides (up to 96: as it is, larger: 224).

    Raises: KdvizError for a missing or empty tree, classes without training images, unreadable images.
    """
    require(root is not None, "folder: say which one, as folder:PATH or with --root")
    path, size = _side(Path(root or "."))
    existing(path, what="folder")
    require(path.is_dir(), f"folder: {path} is a file; name the folder that holds the classes' folders")
    name, parts = f"folder:{root}", {part for part in ("train", "val", "test") if (path / part).is_dir()}
    require("train" in parts or not parts, f"{path}: has {' and '.join(sorted(parts))} but no train/ beside it")
    if not parts:
        names = _classes(path)
        _first(path, names)
        whole = _tree(name, split, path, names, size, IMAGENET)
        return _cut(whole, split)
    require(parts != {"train"}, f"{path}: has train/ but neither val/ nor test/; rename it, or add one")
    names = _classes(path / "train")
    own = {"train": "train", "test": "test" if "test" in parts else "val"}
    if parts == {"train", "val", "test"}:
        own["val"] = "val"
    first = _first(path / "train", names)
    size = size or natural_size(first)
    data = _tree(name, split, path / own.get(split, "train"), names, size, IMAGENET)
    return data if split == "test" or "val" in own else held_out(data, split, max(1, len(data) // 10))


def _side(root: Path) -> tuple[Path, int | None]:
    """PATH@SIDE in two; a folder that is really called so wins."""
    place, at, side = str(root).rpartition("@")
    if root.exists() or not at or not side.isdecimal() or len(side) > 9:
        return root, None
    require(8 <= int(side) <= 1024, f"folder: the side must be 8 to 1024 pixels, got {side}")
    return Path(place), int(side)


def _cut(whole: Data, split: str) -> Data:
    """80 : 10 : 10 of a tree without splits, each class in proportion."""
    tenth = len(whole) // 10
    require(tenth > 0, f"{whole.name}: {len(whole)} images are too few to cut test and val out of them")
    # The test images are drawn under a name of their own, or val would be drawn by the same order.
    rest = {"test": "val"}.get(split, "train")
    part = held_out(replace(whole, name=f"{whole.name}/test"), rest, tenth)
    part = replace(part, name=whole.name, split=split)
    return part if split == "test" else held_out(part, split, tenth)


def load_tiny(split: str, root: Path | None = None) -> Data:
    """Tiny ImageNet from its unpacked folder; test is the published validation set, val 10 000 held out of train.

    Both layouts of val/ are read: val_annotations.txt beside val/images, and one folder per class.

    Raises: KdvizError for a missing or incomplete folder.
    """
    home = _tiny_home(root)
    ids = _classes(home / "train")
    require(len(ids) == 200, f"{home}/train: {len(ids)} class folders, expected 200; is it unpacked whole?")
    part = home / ("val" if split == "test" else "train")
    if split == "test" and (part / "val_annotations.txt").is_file() and (part / "images").is_dir():
        data = _annotated(part, ids)
    else:
        data = _tree("tiny-imagenet", split, part, ids, 64, TINY)
    data = replace(data, class_names=_words(home, ids))
    return data if split == "test" else held_out(data, split, len(data) // 10)


def _tiny_home(root: Path | None) -> Path:
    searched = roots(root)
    for place in searched:
        for home in (place, place / "tiny-imagenet-200"):
            if (home / "train").is_dir() and (home / "val").is_dir():
                return home
    where = " or ".join(map(str, searched)) or "a folder"
    raise KdvizError(
        f"tiny-imagenet: unpack tiny-imagenet-200.zip into {where} and name it with --root;"
        f" kdviz data fetch tiny-imagenet --root {searched[0] if searched else 'DIR'} brings it"
    )


def _annotated(folder: Path, ids: list[str]) -> Data:
    known, paths, labels = {label: number for number, label in enumerate(ids)}, [], []
    for number, line in enumerate((folder / "val_annotations.txt").read_text().splitlines(), start=1):
        name, _, rest = line.partition("\t")
        label = rest.split("\t")[0]
        require(label in known, f"{folder}/val_annotations.txt, line {number}: no class {label!r} in train/")
        paths.append(folder / "images" / Path(name).name)
        labels.append(known[label])
    require(paths, f"{folder}/val_annotations.txt: empty")
    return Data(
        name="tiny-imagenet",
        split="test",
        images=Files(tuple(paths), 64),
        labels=torch.tensor(labels),
        mean=TINY[0],
        std=TINY[1],
        class_names=tuple(ids),
    )


def _words(home: Path, ids: list[str]) -> tuple[str, ...]:
    """The classes' first English names where words.txt has them, else their WordNet ids."""
    path = home / "words.txt"
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    words = dict(line.split("\t", 1) for line in lines if "\t" in line)
    return tuple(words.get(label, label).split(",")[0] for label in ids)


DATA.add(
    "folder",
    DataEntry(
        summary="any tree with one folder per class, as folder:PATH[@SIDE]; read as needed",
        classes=None,
        shape=None,
        load=load,
        files="PATH/{train,val,test}/CLASS/IMAGE or PATH/CLASS/IMAGE",
    ),
)
DATA.add(
    "tiny-imagenet",
    DataEntry(
        summary="photographs, 64x64: 90 000 train, 10 000 val, 10 000 test; read as needed",
        classes=200,
        shape=(3, 64, 64),
        load=load_tiny,
        files="tiny-imagenet-200/, unpacked (cs231n.stanford.edu/tiny-imagenet-200.zip)",
    ),
)
