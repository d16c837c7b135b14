"""Which test images a run gets right, kept beside its checkpoints: what paired statistics are made of."""

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kdviz.base.files import atomic
from kdviz.checkpoints.run_folder import RunFolder
from kdviz.tables.job import digest_of

if TYPE_CHECKING:
    from torch import nn

    from kdviz.data import Data

NAME = "hits.npz"
WHICH = ("last", "best")


def keep_hits(folder: Path, *, root: Path | None = None, device: str | None = None, model: str | None = None) -> None:
    """Write hits.npz into a finished run's folder, unless it is there and of these very checkpoints.

    A detector's run has none: its images are not right or wrong.

    Args:
        folder: of the run.
        root: folder of the data set's files.
        device: "cpu", "cuda", ...; default: a GPU where there is one.
        model: the net's name, for one of the user's own, which no file is believed about.
    """
    if hits(folder) is not None:
        return
    from kdviz.checkpoints import load_checkpoint
    from kdviz.data import load_data
    from kdviz.models.detection import is_detector
    from kdviz.train.device import choose_device

    run, found = RunFolder(Path(folder)), {}
    for which, path in (("last", run.last), ("best", run.best)):
        checkpoint = load_checkpoint(path, model=model)
        if is_detector(checkpoint.name):
            return
        data = load_data(str(checkpoint.data), split="test", root=root)
        found[which] = predictions(checkpoint.model.to(choose_device(device)), data) == data.labels.numpy()
        found[f"{which}_sha256"] = np.array(digest_of(path))
        found["target"] = data.labels.numpy()
    with atomic(Path(folder) / NAME) as partial, partial.open("wb") as stream:
        np.savez_compressed(stream, **found)


def hits(folder: Path) -> dict[str, np.ndarray] | None:
    """{"last": bool [n], "best": bool [n], "target": int [n]}; None where nothing is kept of these checkpoints."""
    run, path = RunFolder(Path(folder)), Path(folder) / NAME
    try:
        with np.load(path, allow_pickle=False) as kept:
            found = {key: kept[key] for key in kept.files}
        if any(str(found[f"{which}_sha256"]) != digest_of(getattr(run, which)) for which in WHICH):
            return None
        return {key: found[key] for key in (*WHICH, "target")}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def predictions(model: "nn.Module", data: "Data") -> np.ndarray:
    """The class with the largest logit for every image, int [n]."""
    import torch

    from kdviz.models import logits_of

    device, found = next(model.parameters()).device, []
    with torch.inference_mode():
        for images, _ in data.batches(250):
            seen = images.to(device).contiguous(memory_format=torch.channels_last)
            found.append(logits_of(model(seen)).argmax(1).cpu())
    return torch.cat(found).numpy()
