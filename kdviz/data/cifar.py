"""CIFAR-10 and CIFAR-100 from the archives that people have: the binary and the python version, packed or not.

Constants: CIFAR-100's as the distillation literature has them, CIFAR-10's the usual ones (its training pixels' mean and
deviation).
Source: Krizhevsky 2009, "Learning multiple layers of features from tiny images".
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from kdviz.base.check import KdvizError, require
from kdviz.data import archives, pickles
from kdviz.data.base import DATA, Data, DataEntry, held_out, roots

PIXELS = 3 * 32 * 32
PUBLISHED = {"train": 50_000, "test": 10_000}  # images of either data set


@dataclass(frozen=True)
class _Version:
    """One published form of a data set: its folder and archive, files per part, and how a file is read."""

    folder: str
    archive: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    names: str
    read: Callable[[bytes, str], tuple[np.ndarray, np.ndarray]]
    read_names: Callable[[bytes, str], list[str]]


@dataclass(frozen=True)
class _Cifar:
    name: str
    classes: int
    versions: tuple[_Version, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def _binary(raw: bytes, where: str, *, label_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    """Records of label bytes (CIFAR-100: coarse, fine) and 3072 pixels, planes red, green, blue."""
    record = label_bytes + PIXELS
    require(
        len(raw) > 0 and len(raw) % record == 0,
        f"{where}: {len(raw)} bytes are no whole number of {record}-byte records; truncated, or another file",
    )
    rows = np.frombuffer(raw, dtype=np.uint8).reshape(-1, record)
    return rows[:, label_bytes:], rows[:, label_bytes - 1].astype(np.int64)


def _python(raw: bytes, where: str, *, labels: str) -> tuple[np.ndarray, np.ndarray]:
    found = pickles.read(raw, where=where)
    pixels, values = found.get("data"), found.get(labels)
    require(
        isinstance(pixels, np.ndarray) and pixels.ndim == 2 and pixels.shape[1] == PIXELS,
        f"{where}: no array 'data' of [n, {PIXELS}] bytes; another data set?",
    )
    require(
        isinstance(values, list) and all(type(value) is int and 0 <= value < 2**31 for value in values),
        f"{where}: no list {labels!r} of class numbers; another data set?",
    )
    return pixels, np.array(values, dtype=np.int64)  # pyright: ignore[reportReturnType]


def _lines(raw: bytes, _where: str) -> list[str]:
    return [line for line in raw.decode("latin1").split("\n") if line.strip()]


def _meta(raw: bytes, where: str, *, key: str) -> list[str]:
    return pickles.texts(pickles.read(raw, where=where).get(key), where=f"{where}, {key}")


_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
CIFAR10 = _Cifar(
    "cifar10",
    10,
    (
        _Version(
            "cifar-10-batches-py",
            "cifar-10-python.tar.gz",
            _BATCHES,
            ("test_batch",),
            "batches.meta",
            partial(_python, labels="labels"),
            partial(_meta, key="label_names"),
        ),
        _Version(
            "cifar-10-batches-bin",
            "cifar-10-binary.tar.gz",
            tuple(f"{name}.bin" for name in _BATCHES),
            ("test_batch.bin",),
            "batches.meta.txt",
            partial(_binary, label_bytes=1),
            _lines,
        ),
    ),
    (0.4914, 0.4822, 0.4465),
    (0.2470, 0.2435, 0.2616),
)
CIFAR100 = _Cifar(
    "cifar100",
    100,
    (
        _Version(
            "cifar-100-python",
            "cifar-100-python.tar.gz",
            ("train",),
            ("test",),
            "meta",
            partial(_python, labels="fine_labels"),
            partial(_meta, key="fine_label_names"),
        ),
        _Version(
            "cifar-100-binary",
            "cifar-100-binary.tar.gz",
            ("train.bin",),
            ("test.bin",),
            "fine_label_names.txt",
            partial(_binary, label_bytes=2),
            _lines,
        ),
    ),
    (0.5071, 0.4867, 0.4408),
    (0.2675, 0.2565, 0.2761),
)


def _find(cifar: _Cifar, root: Path | None) -> tuple[_Version, Path]:
    """The version that is there, and its folder or archive. `root` may be either, or hold either."""
    searched = roots(root)
    for place in searched:
        if place.is_file():
            for version in cifar.versions:
                if ("python" in place.name) == ("python" in version.archive):
                    return version, place
        for version in cifar.versions:
            for path in (place / version.folder, place / version.archive):
                if path.exists():
                    return version, path
            if all((place / name).is_file() for name in version.test):
                return version, place
    names = " or ".join(version.archive for version in cifar.versions)
    fetch = f"kdviz data fetch {cifar.name} --root {searched[0] if searched else 'DIR'}"
    if not searched:
        raise KdvizError(
            f"{cifar.name}: put {names} into a folder and name it with --root (or $KDVIZ_DATA); {fetch} brings it"
        )
    where = " or ".join(map(str, searched))
    raise KdvizError(
        f"{cifar.name}: nothing found in {where}; put {names}, or its unpacked folder, there; {fetch} brings it"
    )


def _load(split: str, root: Path | None = None, *, cifar: _Cifar) -> Data:
    """A split; val is a tenth of the 50 000 training images, 5 000, every class alike; train the others.

    Raises: KdvizError for missing, damaged or hostile files.
    """
    version, place = _find(cifar, root)
    parts = version.test if split == "test" else version.train
    raw = archives.read(place, (version.names, *parts))
    names = version.read_names(raw[version.names], f"{place}: {version.names}")
    require(len(names) == cifar.classes, f"{place}: {len(names)} class names, expected {cifar.classes}")
    pixels, labels = zip(*(version.read(raw[part], f"{place}: {part}") for part in parts), strict=True)
    for part, rows, values in zip(parts, pixels, labels, strict=True):
        require(len(rows) == len(values), f"{place}: {part} holds {len(rows)} images but {len(values)} labels")
        require(
            int(values.max(initial=0)) < cifar.classes,
            f"{place}: {part} has label {values.max()}, but"
            f" {cifar.name} has {cifar.classes} classes; another data set?",
        )
    count, published = sum(map(len, labels)), PUBLISHED["test" if split == "test" else "train"]
    warning = ""
    if count != published:
        warning = f"not the published {cifar.name}: {place} holds {count:,} images where that has {published:,}"
    data = Data(
        name=cifar.name,
        split=split,
        images=torch.from_numpy(np.concatenate(pixels).reshape(-1, 3, 32, 32)),
        labels=torch.from_numpy(np.concatenate(labels)),
        mean=cifar.mean,
        std=cifar.std,
        class_names=tuple(names),
        warning=warning,
    )
    return data if split == "test" else held_out(data, split, len(data) // 10)


for _cifar in (CIFAR10, CIFAR100):
    DATA.add(
        _cifar.name,
        DataEntry(
            summary="small photographs: 45 000 train, 5 000 val, 10 000 test",
            classes=_cifar.classes,
            shape=(3, 32, 32),
            load=partial(_load, cifar=_cifar),
            files=" or ".join(version.archive for version in _cifar.versions)
            + ", packed or unpacked (www.cs.toronto.edu/~kriz/cifar.html)",
        ),
    )
