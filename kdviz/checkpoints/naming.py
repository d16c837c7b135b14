"""What the results of nets are called: names that say which net they are of, different for different nets."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from kdviz.checkpoints.open import SUFFIXES
from kdviz.checkpoints.record import Checkpoint
from kdviz.checkpoints.run_folder import is_run

# Words of which file names consist that say nothing of the net: student_best, ckpt_epoch_240, model_3, last.
GENERIC = {
    *("best", "last", "latest", "final", "epoch", "step", "snapshot"),
    *("model", "net", "network", "student"),
    *("ckpt", "checkpoint", "weights", "state", "dict", "pytorch"),
}


def names_of(checkpoints: Sequence[Checkpoint]) -> list[str]:
    """One name for each checkpoint, for folders, files and labels.

    A run's last epoch has the run's name, another of its checkpoints the run's name and its own; a file has its stem,
    with its folder's name before it where the stem says nothing ("student_best") or another net has the same; where
    folders do not tell two nets apart either, the first digits of the SHA-256 do.
    """
    names = [name_of(one) for one in checkpoints]
    for depth in range(1, 9):
        doubled = _doubled(names, checkpoints)
        if not doubled:
            return names
        names = [_longer(one, depth) if name in doubled else name for name, one in zip(names, checkpoints, strict=True)]
    doubled = _doubled(names, checkpoints)
    return [
        f"{name}-{one.sha256[:8]}" if name in doubled else name for name, one in zip(names, checkpoints, strict=True)
    ]


def name_of(checkpoint: Checkpoint) -> str:
    """The name of one checkpoint, as `names_of` gives it to a single one."""
    path = Path(os.path.abspath(checkpoint.path))
    folder, stem = path.parent, _stem(path)
    run = folder.parent if folder.name == "epochs" else folder
    if is_run(run) and (stem in ("last", "best") or stem.startswith("epoch_")):
        name = run.name if stem == "last" else f"{run.name}_{stem}"
    elif folder.name and is_generic(stem):
        name = f"{folder.name}_{stem}"
    else:
        name = stem
    return f"{name}_{checkpoint.part}" if checkpoint.part else name


def is_generic(stem: str) -> bool:
    """Whether a file's stem says nothing of the net.

    >>> [is_generic(stem) for stem in ("student_best", "ckpt_epoch_240", "model-3", "resnet8_kd", "kd")]
    [True, True, True, False, False]
    """
    words = [word for word in re.split(r"[\W_]+", stem.lower()) if word]
    return all(word in GENERIC or word.isdigit() for word in words)


def _stem(path: Path) -> str:
    """The name of a file without the suffixes of checkpoints ("model_best.pth.tar" has two)."""
    name = path.name
    while not path.is_dir() and Path(name).suffix in SUFFIXES:
        name = Path(name).stem
    return name


def _longer(checkpoint: Checkpoint, depth: int) -> str:
    """The name with those of so many folders above it before it."""
    path = Path(os.path.abspath(checkpoint.path))
    name, above = name_of(checkpoint), [one.name for one in path.parents if one.name]
    if path.parent.name == "epochs" and is_run(path.parent.parent):
        above = above[1:]
    if above and (name == above[0] or name.startswith(f"{above[0]}_")):  # a folder that the name has already
        above = above[1:]
    return "_".join([*reversed(above[:depth]), name])


def _doubled(names: Sequence[str], checkpoints: Sequence[Checkpoint]) -> set[str]:
    """The names that two different nets have."""
    nets: dict[str, set[str]] = {}
    for name, one in zip(names, checkpoints, strict=True):
        nets.setdefault(name, set()).add(one.sha256)
    return {name for name, digests in nets.items() if len(digests) > 1}
