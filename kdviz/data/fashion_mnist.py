"""Fashion-MNIST: 28x28 grey pictures of clothes, padded to 32x32 and repeated to three channels.

Constants: measured over the padded training pixels of all 60 000 images.
Source: Xiao, Rasul and Vollgraf 2017, arXiv 1708.07747.
"""

from pathlib import Path

import torch

from kdviz.base.check import KdvizError, require
from kdviz.data import idx
from kdviz.data.base import DATA, Data, DataEntry, held_out, roots

NAME = "fashion-mnist"
CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
MEAN, STD = (0.2190,) * 3, (0.3318,) * 3
PLACES = (Path("/usr/share/datasets/fashion-mnist"),)


def _file(name: str, root: Path | None) -> Path:
    """Where `name` or `name.gz` is."""
    searched = roots(root, PLACES)
    for folder in searched:
        for place in (folder, folder / NAME, folder / "FashionMNIST" / "raw"):
            for path in (place / name, place / f"{name}.gz"):
                if path.is_file():
                    return path
    raise KdvizError(
        f"{NAME}: {name}.gz is not in {' or '.join(map(str, searched))}; put the four IDX files into a folder and"
        " name it with --root, or install Debian's package dataset-fashion-mnist"
    )


def load(split: str, root: Path | None = None) -> Data:
    """A split; val is a twelfth of the 60 000 training images, 500 of each class; train the others.

    Raises: KdvizError for missing or damaged files.
    """
    part = "t10k" if split == "test" else "train"
    image_file, label_file = (_file(f"{part}-{kind}-ubyte", root) for kind in ("images-idx3", "labels-idx1"))
    pixels, labels = idx.read(image_file, 3), idx.read(label_file, 1)
    require(pixels.shape[1:] == (28, 28), f"{image_file}: images are {pixels.shape[1:]}, expected (28, 28)")
    require(len(pixels) == len(labels), f"{image_file} holds {len(pixels)} images but {label_file} {len(labels)}")
    require(int(labels.max()) < 10, f"{label_file}: label {int(labels.max())}, but there are 10 classes")
    padded = torch.zeros(len(pixels), 1, 32, 32, dtype=torch.uint8)
    padded[:, :, 2:30, 2:30] = torch.from_numpy(pixels.copy())[:, None]
    data = Data(
        name=NAME,
        split=split,
        images=padded.repeat(1, 3, 1, 1),
        labels=torch.from_numpy(labels.astype("int64")),
        mean=MEAN,
        std=STD,
        class_names=CLASSES,
    )
    return data if split == "test" else held_out(data, split, len(data) // 12)


DATA.add(
    NAME,
    DataEntry(
        summary="clothes, grey, 28x28 padded to 32x32: 55 000 train, 5 000 val, 10 000 test",
        classes=10,
        shape=(3, 32, 32),
        load=load,
        files="{train,t10k}-{images-idx3,labels-idx1}-ubyte[.gz] (Debian package dataset-fashion-mnist,"
        " or github.com/zalandoresearch/fashion-mnist)",
        places=PLACES,
    ),
)
